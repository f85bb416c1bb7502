"""The climatological std: its formula by hand, and the file that holds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vaevar.data.weather import climatology
from vaevar.data.weather.climatology import climatological_std, load_climatological_std
from vaevar.data.weather.store import StoreSource, WeatherStore
from vaevar.data.weather.writer import create_store, write_states
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SPEC = StateSpec(["t2m", "msl"], ["z"], [500])
GRID = Grid.gaussian(6)
TIMES = np.datetime64("2021-01-01T00", "h") + np.timedelta64(6, "h") * np.arange(9)


def values() -> np.ndarray:
    """Weather about the climate of each place, which differs far more; [T, C, H, W]."""
    random = np.random.default_rng(0)
    mean = np.array([280.0, 101_000.0, 55_000.0])[:, None, None]
    size = np.array([2.0, 300.0, 400.0])[:, None, None]
    climate = mean + 5 * size * np.sin(np.radians(GRID.latitude))[:, None] ** 2
    # The tropics vary little, so that an unweighted mean over rows is another number.
    weather = size * np.abs(GRID.latitude / 90)[:, None] * random.normal(size=(9, 3, *GRID.shape))
    return (climate + weather).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "truth.zarr"
    create_store(path, TIMES, SPEC, GRID, {"source": "test"})
    write_states(path, 0, values(), SPEC)
    return path


def expected(states: np.ndarray) -> np.ndarray:
    variance = states.astype(np.float64).var(0).mean(-1)
    return np.sqrt(variance @ GRID.area_weights.numpy() / GRID.shape[0])


def test_it_is_the_std_in_time_and_its_rms_over_the_sphere(store: Path) -> None:
    found = climatological_std(WeatherStore(store, SPEC), TIMES)
    np.testing.assert_allclose(found, expected(values()), rtol=1e-5)
    some = climatological_std(WeatherStore(store, SPEC), TIMES[[0, 4, 8]])
    np.testing.assert_allclose(some, expected(values()[[0, 4, 8]]), rtol=1e-5)
    assert (climatological_std(WeatherStore(store, SPEC), TIMES[:1]) == 0).all()


@pytest.mark.parametrize(
    ("every", "used"), [(6, slice(None)), (12, slice(None, None, 2)), (24, slice(None, None, 4))]
)
def test_the_command_uses_one_state_in_so_many_hours(
    store: Path, every: int, used: slice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(climatology, "StateSpec", lambda: SPEC)
    target = tmp_path / "std.npy"
    first, last = (str(time) for time in TIMES[[0, -1]])
    climatology.write(StoreSource(str(store)), first, last, every, str(target))
    np.testing.assert_allclose(load_climatological_std(target, SPEC), expected(values()[used]), rtol=1e-5)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (np.ones(2), r"expected floats \(3,\)"),
        (np.ones((3, 1)), r"expected floats \(3,\)"),
        (np.ones(3, dtype=int), "expected floats"),
        (np.array([1.0, 0.0, 1.0]), r"std\.npy: .* std "),
        (np.array([1.0, -1.0, 1.0]), r"std\.npy: .* std "),
        (np.array([1.0, np.nan, 1.0]), r"std\.npy: .* std "),
        (np.array([1.0, np.inf, 1.0]), r"std\.npy: .* std "),
    ],
)
def test_a_file_that_is_no_climatology_is_refused(tmp_path: Path, content: np.ndarray, says: str) -> None:
    np.save(tmp_path / "std.npy", content)
    with pytest.raises(UserError, match=says):
        load_climatological_std(tmp_path / "std.npy", SPEC)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "torn.npy").write_bytes(b"no array")
    for name in ("torn.npy", "absent.npy"):
        with pytest.raises(UserError, match=rf"{name}: cannot be read"):
            load_climatological_std(tmp_path / name, SPEC)
