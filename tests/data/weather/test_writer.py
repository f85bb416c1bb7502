"""Stores of states: laid out, filled, made longer."""

import numpy as np
import pytest
import xarray as xr
import zarr

from vaevar.data.weather.store import WeatherStore
from vaevar.data.weather.writer import create_store, extend_store, write_states
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SPEC = StateSpec(("t2m",), ("z",), (500, 850))
GRID = Grid.equiangular(5, 8)
TIMES = np.datetime64("2022-01-01T00", "h") + np.timedelta64(6, "h") * np.arange(5)
LEAD = np.timedelta64(6, "h")


def states(count: int) -> np.ndarray:
    noise = np.random.default_rng(0).random((count, len(SPEC), *GRID.shape), dtype=np.float32)
    return noise + np.array([280.0, 54_000.0, 14_000.0], np.float32)[:, None, None]


@pytest.fixture
def three(tmp_path):
    path = tmp_path / "states.zarr"
    create_store(path, TIMES[:3], SPEC, GRID, {"source": "a test"}, lead=LEAD)
    write_states(path, 0, states(5)[:3], SPEC)
    return path


def test_an_extended_store_is_one_that_was_laid_out_longer(three, tmp_path):
    extend_store(three, TIMES)
    write_states(three, 3, states(5)[3:], SPEC)
    create_store(tmp_path / "five.zarr", TIMES, SPEC, GRID, {"source": "a test"}, lead=LEAD)
    write_states(tmp_path / "five.zarr", 0, states(5), SPEC)
    longer, laid_out = xr.open_zarr(three, chunks=None), xr.open_zarr(tmp_path / "five.zarr", chunks=None)
    xr.testing.assert_identical(longer, laid_out)
    store = WeatherStore(three, SPEC, lead_hours=6)
    assert np.array_equal(store.read(TIMES + LEAD), states(5))


def test_states_that_are_not_written_yet_are_holes(three):
    extend_store(three, TIMES)
    assert np.isnan(xr.open_zarr(three, chunks=None)["geopotential"][3:]).all()


@pytest.mark.parametrize("arrays", [["geopotential"], ["geopotential", "2m_temperature", "time"]])
def test_a_killed_extension_is_completed(three, arrays):
    group = zarr.open_group(three, mode="r+", use_consolidated=False)
    for name in arrays:
        group[name].resize((5, *group[name].shape[1:]))
    extend_store(three, TIMES)
    extend_store(three, TIMES)
    assert np.array_equal(xr.open_zarr(three, chunks=None)["time"], TIMES.astype("datetime64[ns]"))


@pytest.mark.parametrize("times", [TIMES[:2], TIMES + LEAD, TIMES[::-1]])
def test_other_times_are_refused_and_the_store_stays(three, times):
    before = xr.open_zarr(three, chunks=None).load()
    with pytest.raises(UserError, match=r"states.zarr: its 3 times are not the first of"):
        extend_store(three, times)
    xr.testing.assert_identical(xr.open_zarr(three, chunks=None).load(), before)
