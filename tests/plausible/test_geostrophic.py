"""Wind that contradicts its geopotential is told; weather and made-up fields are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from changes.world import SPEC, START, weather

from vaevar.plausible.geostrophic import contradiction
from vaevar.sphere.grid import Grid
from vaevar.standins.weather import SyntheticWeather
from vaevar.state import StateSpec

CHANNELS = StateSpec(**SPEC)
U, V, Z = (CHANNELS.variable_slice(name) for name in ("u", "v", "z"))


@pytest.fixture(params=[16, 48])
def grid(request: pytest.FixtureRequest) -> Grid:
    return Grid.gaussian(request.param)


def balanced(grid: Grid) -> np.ndarray:
    """[C, H, W], with a wind that its geopotential drives."""
    return weather(CHANNELS, grid, np.array([START]))[0]


def test_balanced_weather_is_left_alone(grid: Grid) -> None:
    assert contradiction(balanced(grid), CHANNELS, grid.latitude) == ""


@pytest.mark.parametrize("seed", range(5))
def test_fields_that_do_not_know_each_other_are_left_alone(grid: Grid, seed: int) -> None:
    values = SyntheticWeather(CHANNELS, grid, seed).state(START)
    assert contradiction(values, CHANNELS, grid.latitude) == ""
    noise = np.random.default_rng(seed).standard_normal(values.shape).astype(np.float32)
    assert contradiction(noise, CHANNELS, grid.latitude) == ""


@pytest.mark.parametrize("component", ["u", "v"])
@pytest.mark.parametrize("factor", [-1.0, 0.7, 1.2, 1.94384, 3.6])
def test_signs_and_units_of_wind(grid: Grid, component: str, factor: float) -> None:
    values = balanced(grid)
    values[CHANNELS.variable_slice(component)] *= factor
    found = contradiction(values, CHANNELS, grid.latitude)
    if 0.5 < factor < 1.5:
        assert found == ""
    else:
        expected = "its sign is turned" if factor < 0 else "in other units"
        assert f"hPa {component} " in found
        assert expected in found


def test_a_single_level_is_enough(grid: Grid) -> None:
    values = balanced(grid)
    values[CHANNELS.index("v850")] *= -1
    assert contradiction(values, CHANNELS, grid.latitude).startswith(
        "at 850 hPa v blows against its geopotential"
    )


def test_components_and_hemispheres_and_levels_that_were_exchanged(grid: Grid) -> None:
    values = balanced(grid)
    exchanged = values.copy()
    exchanged[U], exchanged[V] = values[V], values[U]
    assert "they were exchanged" in contradiction(exchanged, CHANNELS, grid.latitude)
    assert "upside down" in contradiction(values[:, ::-1], CHANNELS, grid.latitude)
    turned = values.copy()
    turned[U] = values[U][::-1]
    assert "another level" in contradiction(turned, CHANNELS, grid.latitude)


def test_some_rows_and_columns_tell_the_same() -> None:
    grid = Grid.equiangular(181)
    values = balanced(grid)
    for stride in (1, 3):
        assert contradiction(values[:, ::stride, ::stride], CHANNELS, grid.latitude[::stride]) == ""
        values[V] *= -1
        assert "v blows" in contradiction(values[:, ::stride, ::stride], CHANNELS, grid.latitude[::stride])
        values[V] *= -1


@pytest.mark.parametrize(
    "spec",
    [StateSpec(upper=["z", "u"], levels=[500]), StateSpec(levels=[50, 1000]), StateSpec(upper=[], levels=[])],
)
def test_states_with_nothing_to_compare(spec: StateSpec) -> None:
    grid = Grid.gaussian(16)
    values = np.random.default_rng(0).standard_normal((len(spec), *grid.shape))
    assert contradiction(-values, spec, grid.latitude) == ""


def test_too_few_rows_say_nothing() -> None:
    grid = Grid.gaussian(8)
    values = balanced(grid)
    values[V] *= -1
    assert contradiction(values, CHANNELS, grid.latitude) == ""
