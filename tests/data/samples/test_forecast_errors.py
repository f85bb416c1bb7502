"""Forecasts and their errors on a toy world where every number is known, and the module that streams them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from tests.data.samples.toys import ADDED, GAINED, GRID, START, ToyForecaster, ToySource, ToyStore
from vaevar.data.samples.background_errors import BackgroundErrorPairs
from vaevar.data.samples.forecast_errors import ForecastErrors
from vaevar.data.samples.making import StoreBuilder
from vaevar.data.samples.store import SampleStore
from vaevar.errors import UserError
from vaevar.sphere.coarsening import Coarsening
from vaevar.sphere.grid import Grid

END = np.datetime64("2020-01-06T18", "h")


def build(path: Path, forecaster: ToyForecaster | None = None, **changes: Any) -> None:
    settings = {"start": str(START), "end": str(END), "every_hours": 6, "rollout_batch_size": 3} | changes
    StoreBuilder(path, ForecastErrors(ToySource(END), forecaster or ToyForecaster(), **settings)).make()


def test_both_leads_come_from_one_rollout(tmp_path: Path) -> None:
    path = tmp_path / "pairs.zarr"
    build(path)
    dataset = xr.open_zarr(path, chunks=None)
    assert dataset["lead"].values.tolist() == [6, 48]
    assert dataset["time"].values[0] == START + np.timedelta64(6, "h")
    assert dataset["time"].values[-1] + np.timedelta64(48, "h") <= END.astype("datetime64[ns]")
    forecast = dataset["background"].astype(np.float64) * dataset["background_scale"]
    forecast = forecast + dataset["background_offset"]
    residual = dataset["error"].astype(np.float64) * dataset["error_scale"]
    initial = ToyStore(END).read(dataset["time"].values.astype("datetime64[h]")).astype(np.float64)
    for number, steps in enumerate((1, 8)):
        values = forecast.isel(lead=number).transpose("time", "channel", "latitude", "longitude").values
        scale = dataset["background_scale"].values[:, None, None]
        np.testing.assert_allclose(values / scale, (initial + steps * ADDED.numpy()) / scale, atol=2e-2)
        missed = residual.isel(lead=number).transpose("time", "channel", "latitude", "longitude").values
        expected = steps * (GAINED - ADDED).double().numpy()
        np.testing.assert_allclose(missed, np.broadcast_to(expected, missed.shape), rtol=2e-3)
    weights = GRID.area_weights.numpy()[:, None]
    values = forecast.isel(lead=1).transpose("time", "channel", "latitude", "longitude").values
    mean = (values * weights).mean((0, 2, 3))
    std = np.sqrt((np.square(values - mean[:, None, None]) * weights).mean((0, 2, 3)))
    np.testing.assert_allclose(dataset["background_mean"].values[1], mean, rtol=1e-6)
    np.testing.assert_allclose(dataset["background_std"].values[1], std, rtol=1e-6)


def test_a_killed_build_goes_on_to_the_same_store(tmp_path: Path) -> None:
    build(tmp_path / "whole.zarr")
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "killed.zarr", ToyForecaster(stop_after=12))
    assert not (tmp_path / "killed.zarr").exists()
    build(tmp_path / "killed.zarr")
    xr.testing.assert_identical(
        xr.open_zarr(tmp_path / "whole.zarr").load(), xr.open_zarr(tmp_path / "killed.zarr").load()
    )
    build(tmp_path / "whole.zarr", ToyForecaster(stop_after=0))  # there already: nothing is forecast
    with pytest.raises(UserError, match="every_hours = 6"):
        build(tmp_path / "whole.zarr", every_hours=12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"leads": (5,)}, "multiples"),
        ({"leads": (48, 6)}, "ascend"),
        ({"rollout_batch_size": 0}, "positive"),
        ({"end": str(START)}, "too short"),
        ({"forecaster": ToyForecaster(factor=np.inf)}, "u10, q500, z500"),
    ],
)
def test_settings_that_cannot_work_are_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(tmp_path / "pairs.zarr", **changes)


def module(path: Path, **changes: Any) -> BackgroundErrorPairs:
    settings = {"lead_hours": 48, "validation_fraction": 0.25, "gap_hours": 12, "batch_size": 2} | changes
    making = ForecastErrors(
        ToySource(END), ToyForecaster(), "2020-01-01T00", "2020-01-06T18", every_hours=6, rollout_batch_size=3
    )
    return BackgroundErrorPairs(str(path), making, **settings)


@pytest.mark.parametrize("in_memory", [True, False])
def test_batches_are_normalised(tmp_path: Path, in_memory: bool) -> None:
    data = module(tmp_path / "pairs.zarr", in_memory=in_memory)
    data.prepare_data()
    data.setup("fit")
    assert data.store.times[data.validation.indices[0]] - data.store.times[data.training.indices[-1]] >= (
        np.timedelta64(12, "h")
    )
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    forecast, residual = (torch.cat(part) for part in zip(*batches, strict=True))
    assert forecast.dtype == residual.dtype == torch.float32
    # The toy's residual is the same everywhere, so in units of its size it is −1.
    torch.testing.assert_close(residual, -torch.ones_like(residual), atol=2e-3, rtol=0)
    assert float(forecast.mean().abs()) < 1.0  # the training part is the earlier one
    assert 0.5 < float(forecast.std()) < 1.5
    physical = forecast * data.forecast_std[:, None, None] + data.forecast_mean[:, None, None]
    assert float(physical[:, 2].mean()) == pytest.approx(54_000 + 8 * 300 + 70 * 6, abs=0.3 * 2820)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lead_hours 12"):
        module(tmp_path / "pairs.zarr", lead_hours=12)
    with pytest.raises(UserError, match="no such store"):
        SampleStore(tmp_path / "nowhere.zarr", lead_hours=6)
    build(tmp_path / "pairs.zarr", leads=(6,))
    with pytest.raises(UserError, match=r"\[6\] h, not 48 h"):
        SampleStore(tmp_path / "pairs.zarr", lead_hours=48)
    xr.Dataset({"x": 1}).to_zarr(tmp_path / "other.zarr", zarr_format=2)
    with pytest.raises(UserError, match="its format is None"):
        SampleStore(tmp_path / "other.zarr")


def test_samples_on_a_coarser_grid_are_means_over_its_cells(tmp_path: Path) -> None:
    coarse = Grid.gaussian(4)
    build(tmp_path / "fine.zarr", ToyForecaster(noise=0.3))
    build(tmp_path / "coarse.zarr", ToyForecaster(noise=0.3), coarsen_to=coarse.shape)
    fields = ("background", "error")
    fine, means = (SampleStore(tmp_path / f"{name}.zarr", fields, 48) for name in ("fine", "coarse"))
    assert means.grid == coarse
    for name, stored, kept in zip(fields, fine[5], means[5], strict=True):
        expected, values = Coarsening(GRID, coarse)(fine.decode(name, stored)), means.decode(name, kept)
        size = expected.abs().amax((1, 2), keepdim=True)
        torch.testing.assert_close(values / size, expected / size, atol=3e-3, rtol=0)
