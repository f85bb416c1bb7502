"""Stores whose states cannot be weather are refused by name; real and made-up weather is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vaevar.data.weather.store import WeatherStore
from vaevar.data.weather.writer import create_store, write_states
from vaevar.errors import UserError
from vaevar.mistakes.notices import Notice
from vaevar.sphere.grid import Grid
from vaevar.standins.weather import SyntheticWeather
from vaevar.state import StateSpec

SPEC, GRID = StateSpec(), Grid.gaussian(16)
TIMES = np.datetime64("2020-03-01T00", "h") + np.timedelta64(6, "h") * np.arange(6)
Change = Callable[[np.ndarray], None]


@pytest.fixture(scope="module")
def weather() -> np.ndarray:
    """[T, C, H, W]"""
    source = SyntheticWeather(SPEC, GRID)
    return np.stack([source.state(time) for time in TIMES])


def stored(path: Path, values: np.ndarray) -> WeatherStore:
    create_store(path, TIMES, SPEC, GRID, {})
    write_states(path, 0, values, SPEC)
    return WeatherStore(path, SPEC)


def set_to(name: str, value: float, rows: slice = slice(4, 9), columns: slice = slice(3, 12)) -> Change:
    def change(values: np.ndarray) -> None:
        values[3, SPEC.index(name), rows, columns] = value

    return change


def scaled(variable: str, factor: float, offset: float = 0.0) -> Change:
    def change(values: np.ndarray) -> None:
        part = values[:, SPEC.variable_slice(variable)]
        part[:] = part * factor + offset

    return change


def added(name: str, value: float) -> Change:
    def change(values: np.ndarray) -> None:
        values[3, SPEC.index(name), 5, 5] += value

    return change


def exchanged(first: str, second: str) -> Change:
    def change(values: np.ndarray) -> None:
        pair = [SPEC.index(first), SPEC.index(second)]
        values[:, pair] = values[:, pair[::-1]]

    return change


def shifted(variable: str) -> Change:
    def change(values: np.ndarray) -> None:
        part = values[:, SPEC.variable_slice(variable)]
        part[:, 1:] = part[:, :-1].copy()

    return change


def replaced(variable: str, days: int) -> Change:
    def change(values: np.ndarray) -> None:
        later = SyntheticWeather(SPEC, GRID).state(TIMES[3] + np.timedelta64(days, "D"))
        part = SPEC.variable_slice(variable)
        values[3, part] = later[part]

    return change


EVERYWHERE = (slice(None), slice(None))
DAMAGE: dict[str, tuple[Change, str]] = {
    "t of a missing chunk": (set_to("t500", 0.0), r"temperature at 500 hPa at 2020-03-01T18 is 0 at .*° N,"),
    "t2m of a missing chunk": (set_to("t2m", 0.0), "2m_temperature at .* not written"),
    "u of a missing chunk": (set_to("u200", 0.0), "u_component_of_wind at 200 hPa .* exactly 0 at"),
    "v10 of a missing chunk": (set_to("v10", 0.0), "10m_v_component_of_wind at .* exactly 0 at"),
    "z near the ground of a missing chunk": (set_to("z1000", 0.0), "geopotential at 1000 hPa"),
    "q of a missing chunk": (set_to("q850", 0.0, *EVERYWHERE), "specific_humidity at 850 hPa"),
    "part of q": (set_to("q1000", 0.0), "specific_humidity at 1000 hPa"),
    "netCDF's fill value": (set_to("t850", 9.96921e36), "is 9.969e.36 at .* looks like a fill value"),
    "CMIP's": (set_to("u850", 1e20), "looks like a fill value"),
    "-9999": (set_to("z300", -9999.0), "looks like a fill value"),
    "-999 in a wind": (set_to("v500", -999.0), "looks like a fill value"),
    "not a number": (set_to("msl", np.nan), "not finite .* at 45 of 512 points"),
    "one point of 0 K": (added("t700", -260.0), "temperature at 700 hPa at 2020-03-01T18"),
    "one point 60 K too warm": (added("t500", 60.0), "temperature at 500 hPa"),
    "one point of msl in hPa": (set_to("msl", 1010.0, slice(5, 6), slice(5, 6)), "1 of 512 points"),
    "degrees Celsius": (scaled("t", 1.0, -273.15), "looks like .*°C"),
    "degrees Fahrenheit": (scaled("t", 1.8, -459.67), "looks like °F"),
    "degrees Fahrenheit near the ground": (scaled("t2m", 1.8, -459.67), "looks like °F"),
    "a calm": (scaled("u10", -0.0), "10m_u_component_of_wind at .* is 0 at every point"),
    "hPa": (scaled("msl", 0.01), "looks like hPa"),
    "g/kg": (scaled("q", 1000.0), "looks like g/kg"),
    "heights": (scaled("z", 1 / 9.80665), "geopotential .* looks like m of height"),
    "heights in dam": (scaled("z", 1 / 98.0665), "geopotential .* looks like dam of height"),
    "q with its sign turned": (scaled("q", -1.0), "specific_humidity"),
    "a constant t": (set_to("t300", 230.0, *EVERYWHERE), "is 230 at every point"),
    "a constant u": (set_to("u10", 3.0, *EVERYWHERE), "is 3 at every point"),
    "t and msl exchanged": (exchanged("t2m", "msl"), "2m_temperature"),
    "levels of t exchanged": (exchanged("t300", "t850"), "temperature at 300 hPa"),
    "t of the level above": (shifted("t"), r"geopotential of \d+ and \d+ hPa .* temperature"),
    "z of the level above": (shifted("z"), "geopotential"),
    "t of eight days later": (replaced("t", 8), "temperature .* 2020-03-01T12 to 2020-03-01T18"),
    "z of eight days later": (replaced("z", 8), "geopotential .* times as much"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_no_weather_is_refused_by_name(tmp_path: Path, weather: np.ndarray, kind: str) -> None:
    change, says = DAMAGE[kind]
    values = weather.copy()
    change(values)
    store = stored(tmp_path / "truth.zarr", values)
    with pytest.raises(UserError, match=says) as caught:
        _ = [store.read([time]) for time in TIMES]
    assert str(caught.value).startswith(str(tmp_path / "truth.zarr"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("every", [1, 2, 4])
def test_weather_is_not_refused(tmp_path: Path, weather: np.ndarray, every: int) -> None:
    """Neither one by one, nor together, backwards or again."""
    store = stored(tmp_path / "truth.zarr", weather)
    for time in TIMES[::every]:
        np.testing.assert_array_equal(store.read([time])[0], weather[time == TIMES][0])
    np.testing.assert_array_equal(store.read(TIMES[::-every]), weather[::-every])
    store.read(TIMES[[0, 0, 5, 2]])


def test_nothing_is_compared_across_a_gap_or_between_forecasts(tmp_path: Path, weather: np.ndarray) -> None:
    values = weather.copy()
    replaced("z", 8)(values)
    store = stored(tmp_path / "truth.zarr", values)
    store.read(TIMES[[0]])
    store.read(TIMES[[3]])
    path = tmp_path / "forecasts.zarr"
    lead = np.timedelta64(24, "h")
    create_store(path, TIMES, SPEC, GRID, {}, lead=lead)
    write_states(path, 0, values, SPEC)
    WeatherStore(path, SPEC, lead_hours=24).read(TIMES + lead)


def test_dry_air_high_up_and_calm_poles_are_weather(tmp_path: Path, weather: np.ndarray) -> None:
    values = weather.copy()
    values[:, SPEC.index("q50")] = 0.0
    values[:, SPEC.index("u500"), [0, -1]] = 0.0
    stored(tmp_path / "truth.zarr", values).read(TIMES)


def test_who_knows_better_is_told_and_not_refused(
    tmp_path: Path, weather: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fields say of each other may be wrong; their ranges are not."""
    values = weather.copy()
    DAMAGE["t of the level above"][0](values)
    store = stored(tmp_path / "truth.zarr", values)
    with pytest.raises(UserError, match="VAEVAR_RELATIONS=tell makes this a warning"):
        store.read(TIMES[:1])
    monkeypatch.setenv("VAEVAR_RELATIONS", "tell")
    with pytest.warns(Notice, match=r"truth\.zarr: at .* it is used all the same, as VAEVAR_RELATIONS says"):
        store.read(TIMES[:1])
    DAMAGE["t of a missing chunk"][0](values)
    with pytest.raises(UserError, match="temperature at 500 hPa at 2020-03-01T18 is 0 at"):
        stored(tmp_path / "other.zarr", values).read(TIMES[3:4])
