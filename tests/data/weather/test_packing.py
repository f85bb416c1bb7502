"""The quick world: rounded as it says, and read by whoever reads zarr."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
import zarr

from vaevar.data.weather.packing import rounded, steps_of, write
from vaevar.data.weather.store import StoreSource, WeatherStore
from vaevar.data.weather.writer import create_store, write_states
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

ROOT = Path(__file__).parents[3]
QUICK = ROOT / "weights" / "speedy" / "quick.zarr.zip"
SPEC = StateSpec(("t2m",), ("q", "t"), (50, 850))
# t2m, q on both levels, t on both: humidity's differ by a factor of 600.
MEAN = np.array([280.0, 3e-6, 5e-3, 215.0, 275.0])
STD = np.array([5.2, 2e-6, 1.2e-3, 8.3, 4.7])
GRID = Grid.equiangular(9, 16)
TIMES = np.datetime64("2022-01-01T00", "h") + np.timedelta64(6, "h") * np.arange(6)


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    """[T, C, H, W]: they change as slowly as weather."""
    start, trend = np.random.default_rng(0).uniform(-1, 1, (2, len(SPEC), *GRID.shape))
    values = start + 0.1 * np.arange(TIMES.size)[:, None, None, None] * trend
    return (MEAN[:, None, None] + STD[:, None, None] * values).astype(np.float32)


@pytest.fixture(scope="module")
def packed(states: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("packing")
    create_store(directory / "truth.zarr", TIMES, SPEC, GRID, {"source": "a test"})
    write_states(directory / "truth.zarr", 0, states, SPEC)
    np.save(directory / "std.npy", STD)
    for name in ("first.zarr.zip", "second.zarr.zip"):
        write(
            StoreSource(str(directory / "truth.zarr")),
            start=str(TIMES[0]),
            end=str(TIMES[-1]),
            climatology=str(directory / "std.npy"),
            fraction=0.005,
            path=str(directory / name),
            spec=SPEC,
        )
    return directory / "first.zarr.zip"


def multiples(values: np.ndarray, std: np.ndarray) -> np.ndarray:
    """The nearest multiple of each channel's step, by the exponent of the std's two-hundredth."""
    exponents = np.frexp(std / 200)[1] - 1
    counts = np.rint(np.ldexp(values.astype(np.float64), -exponents[:, None, None]))
    return np.ldexp(counts, exponents[:, None, None])


def test_what_is_read_is_the_nearest_multiple(packed: Path, states: np.ndarray) -> None:
    store = WeatherStore(packed, SPEC)
    np.testing.assert_array_equal(store.read(TIMES), multiples(states, STD))
    # Any chunk alone, and in any order.
    np.testing.assert_array_equal(store.read(TIMES[[4, 1]]), multiples(states, STD)[[4, 1]])
    error = np.abs(store.read(TIMES).astype(np.float64) - states).max(axis=(0, 2, 3)) / STD
    assert (error <= 0.0025).all()
    assert (error > 0.001).all()
    assert store.grid == GRID


def test_xarray_alone_reads_it(packed: Path, states: np.ndarray) -> None:
    with zarr.storage.ZipStore(packed, mode="r") as archive:
        dataset = xr.open_zarr(archive, consolidated=False, chunks=None)
        found = dataset["temperature"].sel(level=850).transpose("time", "latitude", "longitude")
        np.testing.assert_array_equal(found.values, multiples(states, STD)[:, 4])
    assert dataset["specific_humidity"].attrs["units"] == "kg kg**-1"
    assert "0.005 climatological stds" in dataset.attrs["rounding"]


def test_equal_states_make_equal_bytes(packed: Path) -> None:
    assert packed.read_bytes() == packed.with_name("second.zarr.zip").read_bytes()


def test_a_damaged_byte_is_noticed(packed: Path, tmp_path: Path) -> None:
    content = bytearray(packed.read_bytes())
    content[content.index(b"temperature/0.0.0.0") + 200] ^= 1
    (tmp_path / "damaged.zip").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        WeatherStore(tmp_path / "damaged.zip", SPEC).read(TIMES)


def test_a_step_that_float32_cannot_hold_is_refused(states: np.ndarray) -> None:
    with pytest.raises(ValueError, match="the step is too small"):
        rounded(states, steps_of(STD, 1e-7))
    with pytest.raises(UserError, match="fraction is 0"):
        write(fraction=0.0)


def test_the_committed_world_has_what_its_config_needs() -> None:
    data = yaml.safe_load((ROOT / "configs" / "quick.yaml").read_text(encoding="utf-8"))["data"]["init_args"]
    first = np.datetime64(data["start"], "h")
    needed = first + np.timedelta64(6, "h") * np.arange(data["analyses"])
    initial = first - np.timedelta64(data["lead_hours"], "h") - np.timedelta64(6, "h") * np.arange(2)
    spec = StateSpec()
    store = WeatherStore(QUICK, spec)
    assert set(np.concatenate([initial, needed])) <= set(store.times.astype("datetime64[h]"))
    std = np.load(ROOT / "weights" / "climatological_std.npy")
    values = store.read(store.times[[0, -1]])
    np.testing.assert_array_equal(values, multiples(values, std))
    assert QUICK.stat().st_size < 10e6
