"""A field that does not belong to the others of its state is told; weather and made-up fields are not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from changes.world import SPEC, START, weather

from vaevar.plausible.belonging import disagreement
from vaevar.plausible.relations import is_atmosphere, relations
from vaevar.sphere.grid import Grid
from vaevar.standins.weather import SyntheticWeather
from vaevar.state import VARIABLES, StateSpec

CHANNELS = StateSpec(**SPEC)
GRID = Grid.gaussian(24)
DAYS = START + np.timedelta64(24, "h") * np.arange(6)
STATES = weather(CHANNELS, GRID, DAYS)
REAL = os.environ.get("VAEVAR_REAL_STATES")
Change = Callable[[np.ndarray], np.ndarray]


def told(values: np.ndarray, spec: StateSpec = CHANNELS, grid: Grid = GRID, forecast: bool = False) -> str:
    found = relations(values, spec, grid.latitude)
    if not is_atmosphere(found):
        return ""
    return disagreement(found, values, spec, grid.latitude, forecast)


def with_(
    name: str, change: Change, values: np.ndarray = STATES[0], spec: StateSpec = CHANNELS
) -> np.ndarray:
    """A state with the fields of one variable changed."""
    changed, part = values.copy(), spec.variable_slice(name)
    changed[part] = change(changed[part])
    return changed


def upside_down(fields: np.ndarray) -> np.ndarray:
    return fields[..., ::-1, :]


def turned(fields: np.ndarray) -> np.ndarray:
    return np.roll(fields, fields.shape[-1] // 2, -1)


@pytest.mark.parametrize("rows", [16, 24, 61])
def test_balanced_weather_is_left_alone(rows: int) -> None:
    grid = Grid.gaussian(rows) if rows % 2 == 0 else Grid.equiangular(rows)
    values = weather(CHANNELS, grid, DAYS[:2])
    for state in values:
        assert is_atmosphere(relations(state, CHANNELS, grid.latitude))
        assert told(state, grid=grid) == ""


@pytest.mark.parametrize("seed", range(5))
def test_fields_that_do_not_know_each_other_are_left_alone(seed: int) -> None:
    values = SyntheticWeather(CHANNELS, GRID, seed).state(START)
    assert not is_atmosphere(relations(values, CHANNELS, GRID.latitude))
    noise = np.random.default_rng(seed).standard_normal(values.shape).astype(np.float32) + 300
    assert not is_atmosphere(relations(noise, CHANNELS, GRID.latitude))


@pytest.mark.parametrize("change", [upside_down, turned])
@pytest.mark.parametrize("name", ["z", "t", "u", "v", "u10", "v10", "msl", "t2m"])
def test_fields_that_are_upside_down_or_turned(name: str, change: Change) -> None:
    assert told(with_(name, change)).startswith(f"{name} does not belong to ")


@pytest.mark.parametrize("name", ["z", "t", "u", "v", "v10", "msl"])
def test_fields_of_another_time(name: str) -> None:
    values = with_(name, lambda fields: STATES[5][CHANNELS.variable_slice(name)])
    assert told(values).startswith(f"{name} does not belong to ")
    assert told(STATES[5]) == ""


@pytest.mark.parametrize("forecast", [False, True])
@pytest.mark.parametrize("ground", [False, True])
def test_both_components_of_the_wind_of_another_time(ground: bool, forecast: bool) -> None:
    """Or turned: what they do not follow still follows each other."""
    quarter = GRID.shape[1] // 4
    for other in (STATES[4], np.roll(STATES[0], quarter, -1)):
        values = STATES[0].copy()
        for name in ("u", "v", "u10", "v10") if ground else ("u", "v"):
            part = CHANNELS.variable_slice(name)
            values[part] = other[part]
        assert re.search("^[zuv] does not belong to .*[zuv]", told(values, forecast=forecast))


@pytest.mark.parametrize(("name", "other"), [("u", "v"), ("v", "u"), ("u10", "v10"), ("v10", "u10")])
def test_a_component_in_the_place_of_the_other(name: str, other: str) -> None:
    values = with_(name, lambda fields: STATES[0][CHANNELS.variable_slice(other)])
    assert told(values).startswith(f"{name} does not belong to ")


@pytest.mark.parametrize("name", ["u", "v", "t"])
def test_levels_from_below(name: str) -> None:
    assert f"{name} " in told(with_(name, lambda fields: fields[::-1]))


@pytest.mark.parametrize("name", ["u", "v", "u10", "v10"])
@pytest.mark.parametrize("factor", [1.94384, 0.51444])
def test_winds_in_knots(name: str, factor: float) -> None:
    low = StateSpec(CHANNELS.surface, CHANNELS.upper, (500, 850, 1000))
    values = weather(low, GRID, DAYS[:1])[0]
    assert told(values, low) == ""
    found = told(with_(name, lambda fields: factor * fields, values, low), low)
    assert f"{name} is " in found or "u10 is " in found
    assert "a knot is 0.514 m/s" in found


def test_two_metre_temperature_of_a_level_above() -> None:
    for level in (300, 500, 850):
        found = told(with_("t2m", lambda fields, p=level: STATES[0][[CHANNELS.index(f"t{p}")]]))
        assert "the mean of t2m is " in found, level


def test_more_moisture_than_air_can_hold() -> None:
    for change in (lambda q: q * 4, lambda q: np.roll(q, -1, 0)):
        assert "q is more than 1.5 times what air" in told(with_("q", change))
    # Dry air is weather.
    assert told(with_("q", lambda q: 0.1 * q)) == ""


def test_the_solstice_tells_moisture_that_is_upside_down() -> None:
    tilted = STATES[0].copy()
    warmer = 12 * np.sin(np.radians(GRID.latitude))[:, None]
    tilted[CHANNELS.variable_slice("t")] += warmer
    tilted[CHANNELS.index("t2m")] += warmer
    tilted[CHANNELS.variable_slice("q")] *= np.exp(0.07 * warmer)
    assert told(tilted) == ""
    assert "q is more than" in told(with_("q", upside_down, tilted))


def test_a_forecast_may_be_poor() -> None:
    """Half of a relation is enough for it, but it must not be upside down."""
    v = CHANNELS.variable_slice("v")
    rough = np.random.default_rng(0).standard_normal(STATES[0][v].shape)
    poor = with_("v", lambda fields: fields + 3.3 * fields.std((-2, -1), keepdims=True) * rough)
    assert told(poor).startswith("v does not belong to ")
    assert told(poor, forecast=True) == ""
    assert told(with_("z", upside_down), forecast=True).startswith("z does not belong to ")


@pytest.mark.parametrize(
    ("surface", "upper"),
    [
        ((), ("z", "t")), ((), ("z", "u", "v")), (("msl",), ("z",)), ((), ("u", "v", "t")),
        (("t2m",), ()), ((), ("z", "u", "t")), (("u10", "t2m"), ("z", "v", "t")),
    ],
)  # fmt: skip
def test_some_variables_of_weather(surface: tuple[str, ...], upper: tuple[str, ...]) -> None:
    spec = StateSpec(surface, upper, CHANNELS.levels if upper else ())
    values = STATES[0][[CHANNELS.index(name) for name in spec.names]]
    assert told(values, spec) == ""
    if {"z", "t"} < {*upper}:
        wrong = with_("t", upside_down, values, spec)
        assert not is_atmosphere(relations(wrong, spec, GRID.latitude)) or told(wrong, spec)


def real(name: str) -> Path:
    if REAL is None:
        pytest.skip(f"needs the real state {name} in the directory VAEVAR_REAL_STATES")
    return Path(REAL) / name


def states() -> list[tuple[str, np.ndarray, StateSpec, Grid]]:
    """ERA5 and GFS, [C, H, W]."""
    every = StateSpec()
    with xr.open_dataset(real("gfs_20111011T00_2p5deg_69ch.nc")) as gfs:
        whole = np.stack([gfs[name].values for name in every.names])
        grid = Grid(gfs["lat"].values, gfs["lon"].values)
    upper = StateSpec(surface=())
    with xr.open_dataset(real("era5_tl31_19590102T00.nc")) as era5:
        fields = [
            era5[VARIABLES[name].long_name].sel(level=list(upper.levels)).transpose("level", "latitude", ...)
            for name in upper.upper
        ]
        values = np.concatenate([field.values[:, ::-1] for field in fields])
    return [("GFS", whole, every, grid), ("ERA5", values, upper, Grid.gaussian(32))]


def test_real_weather_is_left_alone_and_what_is_wrong_with_it_is_told() -> None:
    for source, values, spec, grid in states():
        assert is_atmosphere(relations(values, spec, grid.latitude))
        assert told(values, spec, grid) == ""
        for name in (*spec.surface, *spec.upper):
            for change in (upside_down, turned):
                wrong = with_(name, change, values, spec)
                assert told(wrong, spec, grid), (source, name, change.__name__)
