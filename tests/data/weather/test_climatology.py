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
from vaevar.mistakes.notices import Notice
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
    for name, says in (("torn.npy", "cannot be read"), ("absent.npy", "no such")):
        with pytest.raises(UserError, match=f"{name}: {says}"):
            load_climatological_std(tmp_path / name, SPEC)


@pytest.mark.filterwarnings("ignore::vaevar.mistakes.notices.Notice")
def test_states_that_do_not_change_are_named_by_their_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where their repetition is only told."""
    path = tmp_path / "still.zarr"
    create_store(path, TIMES, SPEC, GRID, {})
    write_states(path, 0, np.repeat(values()[:1], len(TIMES), axis=0), SPEC)
    period = [str(time) for time in TIMES[[0, -1]]]
    with pytest.raises(UserError, match=r"2m_temperature is that of 2021-01-01T00, number for number"):
        climatology.write(StoreSource(str(path)), *period, 6, str(tmp_path / "std.npy"), SPEC)
    monkeypatch.setenv("VAEVAR_RELATIONS", "tell")
    with pytest.raises(
        UserError, match=r"still\.zarr: its states do not change: t2m, msl, z500 are the same"
    ):
        climatology.write(StoreSource(str(path)), *period, 6, str(tmp_path / "std.npy"), SPEC)
    assert not (tmp_path / "std.npy").exists()


def test_a_climatology_of_days_is_told(store: Path, tmp_path: Path) -> None:
    period = [str(time) for time in TIMES[[0, -1]]]
    with pytest.warns(Notice, match=r"std\.npy: is made of 9 states .*; a climatology is of a year or more"):
        climatology.write(StoreSource(str(store)), *period, 6, str(tmp_path / "std.npy"), SPEC)
    assert load_climatological_std(tmp_path / "std.npy", SPEC).shape == (3,)


@pytest.mark.parametrize("kind", [">f8", ">f4", "<f4"])
def test_bytes_in_another_order_are_the_same_numbers(tmp_path: Path, kind: str) -> None:
    std = np.array([10.0, 800.0, 2000.0])
    np.save(tmp_path / "std.npy", std.astype(kind))
    found = load_climatological_std(tmp_path / "std.npy", SPEC)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, std)
