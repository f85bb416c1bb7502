"""Errors of a cycle kept on a coarser grid than its states, and VAE-Var that has learned from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import zarr

from tests.end_to_end.test_spectral import edited, fit_config, recording
from vaevar.cli import main
from vaevar.data.samples.store import SampleStore
from vaevar.sphere.coarsening import Coarsening
from vaevar.sphere.grid import Grid

COARSE = {"path": "data/cycle.zarr", "arm": "oi", "coarsen_to": [8, 16], "samples_per_file": 5}
FINE = {"path": "data/fine.zarr", "arm": "oi"}
RECORDER = "CycleErrorRecorder"


@pytest.fixture
def record(configs: dict[str, Path]) -> Callable[..., list[str]]:
    """The words of a predict that records errors on both grids."""

    def words(analyses: int = 12, **changed: Any) -> list[str]:
        def edit(content: dict[str, Any]) -> None:
            callbacks = content["trainer"]["callbacks"]
            callbacks[1] = {"class_path": RECORDER, "init_args": FINE}
            callbacks.append({"class_path": RECORDER, "init_args": COARSE | changed})

        path = Path(recording(configs, analyses))
        return ["predict", "--config", edited(path, edit, "recording_both.yaml")]

    return words


def physical(path: str, field: str) -> np.ndarray:
    """A field of all samples in physical units."""
    samples = xr.open_zarr(path, chunks=None)
    values = samples[field].values.astype(np.float32)
    if field == "coverage":
        return values
    values *= samples[f"{field}_scale"].values[..., None, None].astype(np.float32)
    if field == "background":
        values += samples["background_offset"].values[:, None, None].astype(np.float32)
    return values[:, 0]


@pytest.mark.slow
def test_vaevar_on_coarser_errors_than_its_states(
    configs: dict[str, Path],
    record: Callable[..., list[str]],
    killed_in_the_third_analysis: Callable,
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed_in_the_third_analysis(lambda: main(record(8)))
    main(record(8))
    main(record(12))  # made longer, in the middle of a file
    coarsening = Coarsening(Grid.gaussian(16), Grid.gaussian(8))
    for field in ("error", "background", "coverage"):
        kept, whole = physical("data/cycle.zarr", field), physical("data/fine.zarr", field)
        expected = coarsening(torch.from_numpy(whole)).numpy()
        assert kept.shape == (12, expected.shape[1], 8, 16)
        size = whole.std((0, 2, 3), keepdims=True)
        np.testing.assert_allclose(kept / size, expected / size, atol=4e-3)  # float16
    array, fine = (zarr.open_array(f"data/{name}.zarr/error", mode="r") for name in ("cycle", "fine"))
    assert (array.metadata.zarr_format, array.shards, array.chunks) == (3, (5, 1, 6, 8, 16), (1, 1, 6, 8, 16))
    assert (fine.metadata.zarr_format, fine.shards, fine.chunks) == (2, None, (1, 1, 6, 16, 32))
    attributes, plain = (zarr.open_group(f"data/{name}.zarr", mode="r").attrs for name in ("cycle", "fine"))
    assert attributes["coarsened_to"] == "Grid(8 × 16, Gaussian)"
    assert set(plain) == set(attributes) - {"coarsened_to"}
    # Statistics, checksums and times are those of samples on their own grid.
    store = SampleStore("data/cycle.zarr", ("error", "background", "coverage"))
    assert (len(store), store.grid) == (12, Grid.gaussian(8))
    errors = physical("data/cycle.zarr", "error").astype(float)
    weights = store.grid.area_weights.numpy()[:, None]
    rms = np.sqrt((errors**2 * weights).mean((0, 2, 3)))
    np.testing.assert_allclose(store.statistics["error_rms"].numpy(), rms, rtol=1e-4)

    calibration = {
        "class_path": "CovarianceCalibration",
        "init_args": {"path": "weights/cycle.nc", "lmax": 5},
    }
    main(["fit", "--config", fit_config(configs, calibration, "BackgroundErrors", 2, "calibration")])
    model = {
        "class_path": "SpectralVAE",
        "init_args": {
            "covariance": "weights/cycle.nc", "widths": [8], "variance_width": 6, "bands": [0, 2, 4],
            "context_widths": [8, 8], "maps": 2, "warmup_steps": 2,
        },
    }  # fmt: skip
    main(["fit", "--config", fit_config(configs, model, "BackgroundErrorsWithCoverage", 1, "vae")])

    def arms(content: dict[str, Any]) -> None:
        method = {"checkpoint": "weights/vae.ckpt", "strength": 0.5, "iterations": 5}
        content["model"]["init_args"]["arms"] = {"vaevar": {"class_path": "VAEVar", "init_args": method}}

    main(["predict", "--config", edited(configs["predict"], arms, "arm.yaml")])
    scores = pd.read_csv("runs/cycle/vaevar/scores.csv")
    rmse = scores.groupby(["quantity", "channel"])["rmse"].mean()
    assert (rmse["analysis"] / rmse["background"]).mean() < 1

    # Samples kept another way are not added to these.
    capsys.readouterr()
    for changed, said in (
        ({"coarsen_to": [6, 12]}, "was begun with coarsen_to (8, 16), but the config now says (6, 12)"),
        ({"samples_per_file": 4}, "was begun with samples_per_file 5, but the config now says 4"),
    ):
        with pytest.raises(SystemExit):
            main(record(16, **changed))
        assert said in capsys.readouterr().err
        assert len(SampleStore("data/cycle.zarr")) == 12


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"coarsen_to": [17, 32]},
            "coarsen_to: Grid(17 × 32, Gaussian) is finer than Grid(16 × 32, Gaussian)",
        ),
        ({"coarsen_to": [0, 16]}, "coarsen_to: a grid of 0 × 16 points"),
        ({"samples_per_file": 0}, "samples_per_file is 0, must be positive"),
    ],
)
def test_what_cannot_be_kept_is_one_line(
    record: Callable[..., list[str]], changed: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(record(4, **changed))
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not Path("data/cycle.zarr.partial").exists()
