"""Weather that does not follow from that before is told: fields of other times, times in another order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from changes.world import SPEC, START, weather

from vaevar.data.weather.store import WeatherStore
from vaevar.data.weather.writer import create_store, write_states
from vaevar.errors import UserError
from vaevar.plausible.repeats import Repeats
from vaevar.plausible.sequence import against_the_wind, other_weather
from vaevar.sphere.grid import Grid
from vaevar.standins.weather import SyntheticWeather
from vaevar.state import StateSpec

CHANNELS, GRID = StateSpec(**SPEC), Grid.gaussian(16)
TIMES = START + np.timedelta64(6, "h") * np.arange(24)
STATES = weather(CHANNELS, GRID, TIMES)


def read_one_by_one(path: Path, order: Sequence[int], values: np.ndarray = STATES) -> None:
    """Read a store in which the fields of times are in an order."""
    create_store(path, TIMES[: len(order)], CHANNELS, GRID, {})
    write_states(path, 0, values[list(order)], CHANNELS)
    store = WeatherStore(path, CHANNELS)
    for time in TIMES[: len(order)]:
        store.read([time])


def test_weather_may_be_read_in_any_order(tmp_path: Path) -> None:
    create_store(tmp_path / "truth.zarr", TIMES, CHANNELS, GRID, {})
    write_states(tmp_path / "truth.zarr", 0, STATES, CHANNELS)
    store = WeatherStore(tmp_path / "truth.zarr", CHANNELS)
    for order in (slice(None), slice(None, None, -1), slice(None, None, 2), [3, 3, 4, 2, 9, 23, 0, 0]):
        np.testing.assert_array_equal(store.read(TIMES[order]), STATES[order])


@pytest.mark.parametrize("step", [1, 2, -1, -2])
def test_what_moves_against_the_wind(step: int) -> None:
    for first in (4, 11):
        before, now = STATES[first], STATES[first + step]
        hours = 6.0 * step
        assert against_the_wind(before, now, CHANNELS, GRID.latitude, hours) == ""
        assert "t and q at 850 hPa move against the wind" in against_the_wind(
            now, before, CHANNELS, GRID.latitude, hours
        )


def test_without_wind_or_what_it_moves_there_is_no_direction() -> None:
    for upper in (("z", "t", "u"), ("u", "v"), ("z",)):
        spec = StateSpec((), upper, CHANNELS.levels)
        some = STATES[:2, [CHANNELS.index(name) for name in spec.names]]
        assert against_the_wind(some[1], some[0], spec, GRID.latitude, 6.0) == ""


def test_times_from_last_to_first_with_fields_from_first_to_last(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"move against the wind .* times are in another order than fields"):
        read_one_by_one(tmp_path / "truth.zarr", range(5, -1, -1))


def test_two_times_exchanged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another"):
        read_one_by_one(tmp_path / "truth.zarr", [0, 1, 4, 3, 2, 5])


def test_times_at_random(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another"):
        read_one_by_one(tmp_path / "truth.zarr", [17, 3, 22, 8, 0, 13])


@pytest.mark.parametrize("hours", [6.0, 12.0, -6.0])
def test_a_change_to_other_weather(hours: float) -> None:
    before, step = STATES[12], int(hours // 6)
    assert other_weather(before, STATES[12 + step], CHANNELS, hours) == ""
    other = weather(CHANNELS, GRID, START + np.timedelta64(15, "D") * np.arange(2))[1]
    assert "of another time" in other_weather(before, other, CHANNELS, hours)


@pytest.mark.parametrize("name", ["u10", "t2m", "msl", "z", "q", "u", "t"])
def test_a_field_of_the_time_before(tmp_path: Path, name: str) -> None:
    values, part = STATES.copy(), CHANNELS.variable_slice(name)
    values[3, part] = values[2, part]
    with pytest.raises(UserError, match=r"at 2021-01-01T18 .* is that of 2021-01-01T12, number for number"):
        read_one_by_one(tmp_path / "truth.zarr", range(6), values)


@pytest.mark.parametrize("name", ["z", "t", "u", "v", "v10", "msl"])
def test_a_field_of_a_near_time_that_is_not_read(tmp_path: Path, name: str) -> None:
    """As when a cycle reads every second state: the others follow it less than they did before."""
    values, part = STATES.copy(), CHANNELS.variable_slice(name)
    values[4, part] = values[3, part]
    create_store(tmp_path / "truth.zarr", TIMES, CHANNELS, GRID, {})
    write_states(tmp_path / "truth.zarr", 0, values, CHANNELS)
    for first, second in ((2, 4), (4, 6)):
        store = WeatherStore(tmp_path / "truth.zarr", CHANNELS)
        store.read(TIMES[[first]])
        with pytest.raises(
            UserError, match=r"of its variance, expected about the same: \w+ or \w+ is of another"
        ):
            store.read(TIMES[[second]])


def test_a_whole_state_again_after_days(tmp_path: Path) -> None:
    values = STATES.copy()
    values[20] = values[1]
    create_store(tmp_path / "truth.zarr", TIMES, CHANNELS, GRID, {})
    write_states(tmp_path / "truth.zarr", 0, values, CHANNELS)
    store = WeatherStore(tmp_path / "truth.zarr", CHANNELS)
    store.read(TIMES[:3])
    store.read(TIMES[[15]])
    with pytest.raises(UserError, match=r"2021-01-06T00 .* is that of 2021-01-01T06, number for number"):
        store.read(TIMES[[20]])


def test_memory_of_fields_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaevar.plausible.repeats._REMEMBERED", 3)
    repeats = Repeats(CHANNELS)
    assert [repeats(STATES[i], TIMES[i]) for i in range(10)] == [""] * 10
    assert repeats(STATES[0], TIMES[20]) == ""  # forgotten
    assert "is that of 2021-01-03T06, number for number" in repeats(STATES[9], TIMES[21])
    assert repeats(STATES[9], TIMES[9]) == ""


def test_what_does_not_change_anywhere_may_stay(tmp_path: Path) -> None:
    """A dry stratosphere, say."""
    values = STATES.copy()
    spec = StateSpec((), ("q", "t"), (50, 500))
    dry = np.stack([np.zeros_like(values[:, 0]), np.full_like(values[:, 0], 1e-4)], axis=1)
    dry[:, 1] *= values[:, CHANNELS.index("q500")] / values[:, CHANNELS.index("q500")].max()
    made = np.concatenate(
        [dry, SyntheticWeather(StateSpec((), ("t",), (50, 500)), GRID).state(START)[None].repeat(24, 0)],
        axis=1,
    )
    made[:, 2:] += np.arange(24)[:, None, None, None] * 0.01
    path = tmp_path / "dry.zarr"
    create_store(path, TIMES, spec, GRID, {})
    write_states(path, 0, made.astype(np.float32), spec)
    WeatherStore(path, spec).read(TIMES)
    surface = StateSpec((), ("q",), (50,))
    WeatherStore(path, surface).read(TIMES)
