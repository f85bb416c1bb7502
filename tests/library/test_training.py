"""Training on an array: the data, the sizes, and B."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import xarray as xr

import vaevar
from tests.device import DEVICE

SPEC, GRID = vaevar.StateSpec(["t2m"], ["t"], [500, 850]), vaevar.Grid.gaussian(8)
SIZES: dict[str, Any] = {
    "stem_width": 4, "head_width": 4, "widths": [8, 12], "depths": [1, 1], "heads": [0, 2], "window": 2,
    "latent_channels": 3, "warmup_steps": 2,
}  # fmt: skip


def errors(count: int = 20) -> np.ndarray:
    random = np.random.default_rng(0)
    wave = np.cos(np.radians(GRID.longitude)) * np.cos(np.radians(GRID.latitude))[:, None]
    amplitude = random.normal(size=(count, len(SPEC), 1, 1))
    return 2.0 * amplitude * wave + 0.1 * random.normal(size=(count, len(SPEC), *GRID.shape))


def trainer(**settings: Any) -> L.Trainer:
    return L.Trainer(
        accelerator=DEVICE, max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **settings,
    )  # fmt: skip


def test_samples() -> None:
    array = errors()
    data = vaevar.ErrorSamples(array, SPEC, GRID, batch_size=4)
    assert (len(data.training), len(data.validation)) == (18, 2)
    assert data.error_std.shape == (3, 8, 1)
    together = torch.cat(list(data.training_in_order())) * data.error_std
    np.testing.assert_allclose(together, array[:18], rtol=1e-5, atol=1e-6)
    std = np.sqrt(np.square(array[:18]).mean((0, 3)))
    whole = np.sqrt(GRID.area_mean(torch.from_numpy(std**2)[..., None]).numpy())
    np.testing.assert_allclose(data.error_std[..., 0], np.maximum(std, 0.3 * whole[:, None]), rtol=1e-5)
    labelled = xr.DataArray(array, dims=("sample", "channel", "latitude", "longitude"))
    assert torch.equal(vaevar.ErrorSamples(labelled, SPEC, GRID).error_std, data.error_std)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"errors": errors()[:, :2]}, r"errors are \[20, 2, 8, 16\], expected"),
        ({"errors": errors()[0]}, r"errors are \[3, 8, 16\]"),
        ({"errors": np.where(errors() > 2, np.nan, errors())}, "not finite"),
        ({"errors": 1e4 * errors()}, "errors: the error std of t2m is"),
        ({"errors": errors(3)}, "3 samples, of which 0 for validation"),
        ({"validation_fraction": 1.0}, "must lie between 0 and 1"),
        ({"batch_size": 0}, "must be positive"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(change: Any, says: str) -> None:
    with pytest.raises(vaevar.UserError, match=says):
        vaevar.ErrorSamples(**({"errors": errors(), "spec": SPEC, "grid": GRID} | change))


class Mine(L.LightningDataModule):
    """A data module of one's own."""

    spec, grid, error_std = SPEC, GRID, torch.ones(3, 8, 1)

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.from_numpy(errors()).float(), batch_size=4)

    val_dataloader = train_dataloader


@pytest.mark.parametrize("own", [False, True])
def test_a_vae_is_trained_and_makes_an_analysis(own: bool) -> None:
    data = Mine() if own else vaevar.ErrorSamples(errors(), SPEC, GRID, batch_size=4)
    vae = vaevar.VAE.for_data(data, **SIZES)
    assert (vae.spec, vae.grid) == (SPEC, GRID)
    before = vae.decode(torch.ones(1, *vae.latent_shape))
    trainer().fit(vae, datamodule=data)
    assert not torch.equal(vae.decode(torch.ones(1, *vae.latent_shape)), before)
    assert torch.equal(vae.error_std, data.error_std)
    method = vaevar.VariationalAssimilator(vaevar.DecoderControl(vae), lambda_=4.0)
    mean = torch.tensor([288.0, 253.0, 281.0])[:, None, None]
    state = vaevar.State(mean.expand(len(SPEC), *GRID.shape).clone(), SPEC, GRID)
    one = vaevar.Observations(
        variable="t2m", latitude=[10.0], longitude=[3.0], pressure=np.nan, value=[290.0], error_std=1.0
    )
    diagnostics = method(state, one).diagnostics
    assert diagnostics["j_b"] + diagnostics["j_o"] < diagnostics["j_o_initial"]


@pytest.mark.parametrize(
    "grid", [GRID, vaevar.Grid.equiangular(9), vaevar.Grid.cells(8), vaevar.Grid.regular(8, 16)], ids=repr
)
def test_a_family_makes_its_grid_again(grid: Any) -> None:
    assert vaevar.Grid.of_family(grid.family, *grid.shape) == grid


def test_a_grid_of_no_family_is_refused() -> None:
    latitude = np.array([85.0, 50.0, 20.0, -15.0, -45.0, -80.0])
    assert vaevar.Grid(latitude, np.arange(12) * 30.0).family == ""


def test_b_in_one_call() -> None:
    spec, grid = vaevar.StateSpec(["msl"], ["z", "u", "v", "t"], [500, 850]), vaevar.Grid.gaussian(12)
    random = np.random.default_rng(1).normal(size=(60, len(spec), *grid.shape))
    data = vaevar.ErrorSamples(random, spec, grid)
    statistics = vaevar.estimate_covariance(data, lmax=8, band_centres=(1, 4))
    assert statistics.spec == spec
    assert statistics.provenance["data"]["samples"] == 54
    assert vaevar.ThreeDVar(statistics).control.grid == grid
    with pytest.raises(vaevar.UserError, match="floor in"):
        vaevar.estimate_covariance(data, lmax=8, floor=2.0)
