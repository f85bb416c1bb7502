"""NMC differences on a toy world where every number is known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from tests.data.samples.toys import (
    ADDED,
    END,
    GAINED,
    GRID,
    ToyForecaster,
    build_nmc,
    physical_errors,
)
from vaevar.data.samples.store import SampleStore
from vaevar.errors import UserError
from vaevar.sphere.coarsening import Coarsening
from vaevar.sphere.grid import Grid


@pytest.mark.parametrize("every_hours", [6, 12, 24])
def test_differences_pair_by_valid_time(tmp_path: Path, every_hours: int) -> None:
    path = tmp_path / "errors.zarr"
    build_nmc(path, ToyForecaster(), every_hours=every_hours)
    # 48 h forecast from v − 48 h: truth(v − 48 h) + 8 added; 24 h: truth(v − 24 h) + 4 added. With
    # truth(v − 24 h) = truth(v − 48 h) + 4 gained, the pair differs by 4 (added − gained); pairs of
    # other valid times differ by other multiples of what the truth gains.
    expected = (4 * (ADDED - GAINED)).double().numpy()
    values = physical_errors(path)
    np.testing.assert_allclose(values, np.broadcast_to(expected, values.shape), rtol=1e-3)
    dataset = xr.open_zarr(path, chunks=None)
    # Initial times begin where two past states exist and end with the period; valid 48 h later,
    # as long as a forecast from 24 h before that is at hand.
    first = np.datetime64("2020-01-01T06")
    starts = np.arange(first, END + np.timedelta64(1, "h"), np.timedelta64(every_hours, "h"))
    valid = starts + np.timedelta64(48, "h")
    valid = valid[valid <= starts[-1] + np.timedelta64(24, "h")]
    assert dataset["lead"].values.tolist() == [48]
    np.testing.assert_array_equal(
        dataset["time"].values + np.timedelta64(48, "h"), valid.astype("datetime64[ns]")
    )
    np.testing.assert_array_equal(SampleStore(path).times, valid.astype("datetime64[ns]"))
    assert dataset["error"].dtype == np.float16
    assert dataset["error"].dims == ("time", "lead", "channel", "latitude", "longitude")
    assert dataset["channel"].values.tolist() == ["u10", "q500", "z500"]
    assert dataset.attrs["source"] == "a toy"
    assert "48 h minus 24 h" in dataset.attrs["scheme"]
    np.testing.assert_allclose(dataset["error_mean"].values[0], expected[:, 0, 0], rtol=1e-3)


def test_statistics_are_those_of_the_stored_fields_weighted_by_area(tmp_path: Path) -> None:
    path = tmp_path / "errors.zarr"
    build_nmc(path, ToyForecaster(noise=0.3))
    values, weights = physical_errors(path), GRID.area_weights.numpy() / GRID.shape[0]
    mean = np.einsum("tchw,h->c", values, weights) / (values.shape[0] * GRID.shape[1])
    centred = (values - mean[None, :, None, None]) ** 2
    std = np.sqrt(np.einsum("tchw,h->c", centred, weights) / (values.shape[0] * GRID.shape[1]))
    dataset = xr.open_zarr(path, chunks=None)
    np.testing.assert_allclose(dataset["error_std"].values[0], std, rtol=1e-6)
    np.testing.assert_allclose(dataset["error_mean"].values[0], mean, rtol=1e-6)
    zonal = values.transpose(1, 2, 0, 3).reshape(*values.shape[1:3], -1).std(-1)
    np.testing.assert_allclose(dataset["zonal_error_std"].values[0], zonal, rtol=1e-6)
    # Small humidities keep float16's full relative precision of 2^-11.
    ratio = np.abs(dataset["error"].values[:, 0, 1].astype(np.float64))
    assert 2.0**-14 < np.median(ratio) < 2.0**4


def test_a_killed_build_goes_on_to_the_same_store(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    build_nmc(whole, ToyForecaster(noise=0.3))
    for steps in (8 * 3, 8 * 2):  # a kill in the fourth batch, and one during the resumed run
        with pytest.raises(KeyboardInterrupt):
            build_nmc(killed, ToyForecaster(noise=0.3, stop_after=steps))
        assert not killed.exists()
    build_nmc(killed, ToyForecaster(noise=0.3))
    assert not killed.with_name("killed.zarr.partial").exists()
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(killed) for p in killed.rglob("*") if p.is_file())
    for file in files:
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file
    # A finished store is left alone: a forecaster that may not step is not asked to.
    build_nmc(killed, ToyForecaster(noise=0.3, stop_after=0))


def test_a_store_made_in_another_way_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "errors.zarr"
    build_nmc(path, ToyForecaster())
    with pytest.raises(UserError, match="every_hours = 6, but the config now says 12"):
        build_nmc(path, ToyForecaster(), every_hours=12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every_hours": 7}, "every_hours must divide 24"),
        ({"end": np.datetime64("2020-01-02T00", "h")}, "too short"),
        ({"rollout_batch_size": 0}, "rollout_batch_size"),
    ],
)
def test_settings_that_cannot_work_are_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_nmc(tmp_path / "errors.zarr", ToyForecaster(), **changes)


def test_a_forecaster_that_diverges_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not finite.*u10"):
        build_nmc(tmp_path / "errors.zarr", ToyForecaster(noise=float("nan")))


def test_errors_on_a_coarser_grid_are_means_over_its_cells(tmp_path: Path) -> None:
    build_nmc(tmp_path / "fine.zarr", ToyForecaster(noise=0.3))
    coarse = Grid.gaussian(4)
    build_nmc(tmp_path / "coarse.zarr", ToyForecaster(noise=0.3), coarsen_to=coarse.shape)
    fine = torch.from_numpy(physical_errors(tmp_path / "fine.zarr"))
    values = physical_errors(tmp_path / "coarse.zarr")
    expected = Coarsening(GRID, coarse)(fine).numpy()
    size = np.abs(expected).max((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(values / size, expected / size, atol=2e-3)  # float16, before and after
    store = SampleStore(tmp_path / "coarse.zarr")
    assert store.grid == coarse
    weights = coarse.area_weights.numpy()[:, None]
    mean = (values * weights).mean((0, 2, 3))
    std = np.sqrt((values**2 * weights).mean((0, 2, 3)) - mean**2)
    np.testing.assert_allclose(store.statistics["error_std"], std, rtol=1e-3)


def test_a_disk_too_small_is_found_before_the_first_sample(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"may be needed, but only 1\.00 kB are free"):
        build_nmc(tmp_path / "errors.zarr", ToyForecaster(stop_after=0))
    assert not list(tmp_path.glob("*.zarr*/*"))
    assert "of 15 samples to make, at most" in capsys.readouterr().out
