"""From a recorded cycle to the VAE with B inside and back into a cycle, with the commands that users type."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
import zarr

from tests.end_to_end.conftest import SPEC
from tests.end_to_end.reading import numbers as unpacked
from tests.end_to_end.reading import picture, section
from vaevar.cli import main
from vaevar.data.observations.coverage import no_coverage, update_coverage
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

GRID = Grid.gaussian(16)
ROOT = Path(__file__).parents[2]


def edited(path: Path, edit: Callable[[dict[str, Any]], None], name: str) -> str:
    content = yaml.safe_load(path.read_text())
    edit(content)
    target = path.with_name(name)
    target.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(target)


def recording(configs: dict[str, Path], analyses: int = 24) -> str:
    def edit(content: dict[str, Any]) -> None:
        content["model"]["init_args"]["arms"] = {
            "oi": {
                "class_path": "vaevar.assim.interpolation.optimal.OptimalInterpolation",
                "init_args": {"length_km": 1500.0},
            }
        }
        content["data"]["init_args"] |= {"start": "2021-01-02T00", "analyses": analyses}
        content["trainer"]["logger"]["init_args"]["name"] = "recording"
        content["trainer"]["callbacks"] = [
            {"class_path": "vaevar.assim.cycle.cycle.Cycle", "init_args": {"new_cycle_every": 8}},
            {
                "class_path": "vaevar.assim.cycle.error_recorder.CycleErrorRecorder",
                "init_args": {"path": "data/cycle.zarr", "arm": "oi"},
            },
            content["trainer"]["callbacks"][3],
        ]

    return edited(configs["predict"], edit, "recording.yaml")


def fit_config(configs: dict[str, Path], model: dict[str, Any], data: str, epochs: int, name: str) -> str:
    def edit(content: dict[str, Any]) -> None:
        content["model"] = model
        content["data"] = {
            "class_path": f"vaevar.data.samples.background_errors.{data}",
            "init_args": {"path": "data/cycle.zarr", "gap_hours": 6, "batch_size": 4},
        }
        if data == "BackgroundErrors":
            content["data"]["init_args"]["flip_sign"] = False
        content["trainer"] |= {"max_epochs": epochs, "callbacks": [], "num_sanity_val_steps": 0}
        content["trainer"]["logger"]["init_args"]["name"] = name
        if name == "vae":
            export = "vaevar.models.training.export.ExportWeights"
            content["trainer"]["callbacks"] = [
                {"class_path": export, "init_args": {"path": "weights/vae.ckpt"}}
            ]

    return edited(configs["fit"], edit, f"{name}.yaml")


@pytest.mark.slow
def test_from_a_recorded_cycle_to_an_arm(
    configs: dict[str, Path], world: Path, killed_in_the_third_analysis: Callable, capsys: Any
) -> None:
    record = recording(configs)
    zarr.open_group("data/cycle.zarr.partial", mode="w")  # of an earlier run, which is not resumed
    killed_in_the_third_analysis(lambda: main(["predict", "--config", record]))
    assert not Path("data/cycle.zarr").exists()
    main(["predict", "--config", record])
    samples = xr.open_zarr("data/cycle.zarr", chunks=None)
    assert samples.sizes["time"] == 24
    # Background + error is the truth.
    spec = StateSpec(**SPEC)
    truth = xr.open_zarr(world / "truth.zarr", chunks=None)["2m_temperature"]
    number, k = 13, spec.index("t2m")
    background = samples["background"][number, 0, k].astype(float) * samples["background_scale"][k]
    background = background + samples["background_offset"][k]
    error = samples["error"][number, 0, k].astype(float) * samples["error_scale"][0, k]
    valid = np.datetime64("2021-01-02T00", "ns") + np.timedelta64(6 * number, "h")
    np.testing.assert_allclose(background + error, truth.sel(time=valid).values, atol=0.1)
    # Coverage: starts again every 8 analyses, and gains a network with each.
    assert float(np.abs(samples["coverage"].values[[0, 8, 16]]).max()) == 0
    time = np.datetime64("2021-01-02T00", "h")
    maps = update_coverage(no_coverage(GRID), ColumnNetwork(20).points(spec, time), GRID)
    np.testing.assert_allclose(samples["coverage"].values[1], maps.numpy(), atol=2e-3)

    calibration = {
        "class_path": "vaevar.models.covariance.calibration.CovarianceCalibration",
        "init_args": {"path": "weights/cycle.nc", "lmax": 6},
    }
    main(["fit", "--config", fit_config(configs, calibration, "BackgroundErrors", 2, "calibration")])
    assert not Path("runs/calibration/report.html").exists()  # it has no losses
    model = {
        "class_path": "vaevar.models.spectral.vae.SpectralVAE",
        "init_args": {
            "covariance": "weights/cycle.nc", "widths": [8], "variance_width": 6, "bands": [0, 2, 4],
            "context_widths": [8, 8], "maps": 2, "warmup_steps": 2,
        },
    }  # fmt: skip
    main(["fit", "--config", fit_config(configs, model, "BackgroundErrorsWithCoverage", 2, "vae")])
    assert Path("weights/vae.ckpt").is_file()
    report = Path("runs/vae/report.html")
    assert not section(report, "missing")
    use = unpacked(picture(report, "latent-0").data[0]["y"])
    assert (use > 0).all()
    assert picture(report, "samples-0").frames

    def arms(content: dict[str, Any]) -> None:
        content["model"]["init_args"]["arms"]["vaevar"] = {
            "class_path": "vaevar.assim.methods.VAEVar",
            "init_args": {"checkpoint": "weights/vae.ckpt", "strength": 0.5, "iterations": 5},
        }

    main(["predict", "--config", edited(configs["predict"], arms, "arm.yaml")])
    scores = pd.read_csv("runs/cycle/vaevar/scores.csv")
    mean = scores.groupby("quantity")["rmse"].mean()
    assert mean["analysis"] < mean["background"]
    # What it has learned, beside nothing.
    page = runpy.run_path(str(ROOT / "benchmarks" / "vaes.py"), run_name="vaes")["main"]
    page(
        "weights/vae.ckpt", "data/cycle.zarr", published=None, nmc="weights/vae.ckpt",
        nmc_errors="data/cycle.zarr", results=".",
    )  # fmt: skip
    lines = [line for line in Path("vaes.md").read_text().splitlines() if line.startswith("| VAE-Var")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    ours, still = (
        [row for row in rows if row[0].split(":")[0] == name] for name in ("VAE-Var", "VAE-Var on NMC errors")
    )
    assert len(ours) == len(still) == 4  # the evidence, the shapes of errors and of samples, the variances
    # On the held-out tenth with the scales of each day, and on all samples without them.
    for samples, (_, found, numbers, *values) in (("2", ours[0]), ("24", still[0])):
        assert (found, numbers) == (samples, str(len(spec) * 49))
        assert 0 <= float(values[0]) <= 1
        assert np.isfinite([float(value) for value in values if value != "–"]).all()
    assert (ours[0][-1] == "–", still[0][-1] == "–") == (False, True)
    # Recording again is refused in a line.
    with pytest.raises(SystemExit):
        main(["predict", "--config", record, "--restart"])
    assert "exists already" in capsys.readouterr().err
