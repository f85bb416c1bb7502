"""What looks wrong with observations where they meet a background is told; what is only unusual is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from vaevar.assim.innovation import doubts, far, innovation
from vaevar.assim.interpolation.linear import LinearInterpolation
from vaevar.data.observations.points import Observations
from vaevar.mistakes.notices import Call, Notice
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

SPEC, GRID = StateSpec(["u10", "msl"], ["q", "u"], [500]), Grid.gaussian(16)
ERRORS = {"u": 1.5, "q": 1e-4, "u10": 1.0, "msl": 100.0}
COUNT = 30


def background() -> State:
    """A westerly jet in each hemisphere."""
    values = torch.tensor([0.0, 101_000.0, 1e-3, 10.0])[:, None, None].repeat(1, *GRID.shape)
    jet = torch.from_numpy(30 * np.sin(2 * np.radians(GRID.latitude)) ** 2).float()[:, None]
    wave = torch.from_numpy(8 * np.cos(3 * np.radians(GRID.longitude))).float()
    values[3] += jet + wave
    values[0] = 0.4 * values[3] - 6
    return State(values, SPEC, GRID)


def observations(
    count: int = COUNT,
    moved: dict[str, Callable[[np.ndarray], Any]] | None = None,
    **changes: Callable[[np.ndarray], Any],
) -> Observations:
    """Each variable at places around the world, with the background's values and errors of the usual size.

    Args:
        count: of the places.
        moved: changes of the places, where the values are observed.
        changes: of what is said of them.
    """
    random = np.random.default_rng(1)
    names = np.repeat(list(ERRORS), count)
    fields: dict[str, Any] = {
        "latitude": np.tile(np.degrees(np.arcsin(random.uniform(-1, 1, count))), 4),
        "longitude": np.tile(random.uniform(0, 360, count), 4),
        "pressure": np.where(np.isin(names, ["q", "u"]), 500.0, np.nan),
        "error_std": np.array([ERRORS[name] for name in names]),
    }
    fields |= {name: change(fields[name]) for name, change in (moved or {}).items()}
    points = Observations(variable=names, value=np.where(names == "msl", 1e5, 0.0), **fields)
    at = points.operator(SPEC, GRID)(background().values).double().numpy()
    fields["value"] = at + 0.5 * fields["error_std"] * random.normal(size=at.size)
    for name, change in changes.items():
        fields[name] = change(fields[name])
    return Observations(variable=names, **fields)


def of(variable: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    def changed(values: np.ndarray) -> np.ndarray:
        names = np.repeat(list(ERRORS), values.size // len(ERRORS))
        new = values.copy()
        new[names == variable] = change(values[names == variable])
        return new

    return changed


def told(observed: Observations) -> list[str]:
    at = observed.operator(SPEC, GRID)(background().values)
    return list(doubts(observed, at.double().numpy()))


WRONG: dict[str, tuple[dict[str, Callable[[np.ndarray], Any]], str]] = {
    "latitudes in radians": ({"latitude": np.radians}, "every latitude is within ±1.6: .* radians"),
    "longitudes in radians": ({"longitude": np.radians}, "every longitude is within ±6.3: .* radians"),
    "longitudes in radians from −π": (
        {"longitude": lambda x: np.radians(x) - np.pi}, "every longitude is within ±6.3",
    ),
    "both": ({"latitude": np.radians, "longitude": np.radians}, "every latitude .* radians"),
    "errors of msl in hPa": (
        {"error_std": of("msl", lambda x: x / 100)},
        "error_std of msl is down to 1, expected 2.7 or more Pa",
    ),
    "variances of q": ({"error_std": of("q", np.square)}, "error_std of q at 500 hPa is down to 1e-08"),
    "u in knots": ({"value": of("u", lambda x: x * 1.944)}, r"u is 1\.9 times as strong as .* a knot"),
    "u10 in km/h": ({"value": of("u10", lambda x: x * 3.6)}, r"u10 is 3\.[4-8] times as strong"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_looks_wrong_is_told(wrong: str) -> None:
    changes, said = WRONG[wrong]
    lines = told(observations(**changes))
    assert re.search(said, lines[0])
    # Where it is, the wind is another.
    assert len(lines) == 1 or "radians" in said


FINE: dict[str, Callable[[], Observations]] = {
    "as usual": observations,
    "a few near the equator": lambda: observations(5, {"latitude": np.radians, "longitude": np.radians}),
    "a country near Greenwich": lambda: observations(
        moved={"latitude": lambda x: 50 + x / 30, "longitude": lambda x: x / 90}
    ),
    "buoys along a part of the equator": lambda: observations(
        moved={"latitude": lambda x: x / 90, "longitude": lambda x: 190 + x / 10}
    ),
    "weak winds": lambda: observations(value=of("u", lambda x: x * 0.6)),
    "noise for winds": lambda: observations(value=of("u", lambda x: 2 * np.roll(x, 7) - 25)),
    "errors doubled": lambda: observations(error_std=lambda x: x * 2),
    "errors a tenth": lambda: observations(error_std=lambda x: x / 10),
}


@pytest.mark.parametrize("case", FINE)
def test_what_is_only_unusual_is_not(case: str) -> None:
    assert told(FINE[case]()) == []


def gross(observed: Observations) -> dict[str, str]:
    """What is said of those that are far from the background, by variable."""
    at = observed.operator(SPEC, GRID)(background().values).double().numpy()
    return {text.split()[3]: instance for text, instance in far(observed, at, background())}


def test_gross_observations_are_told() -> None:
    """One alone, and a column in other units; the others are not."""
    assert gross(observations()) == {}
    assert gross(observations(error_std=lambda x: x / 10)) == {}

    def one(values: np.ndarray) -> np.ndarray:
        return values + 9000 * (np.arange(values.size) == 3)

    found = gross(observations(value=of("msl", one)))
    assert list(found) == ["msl"]
    assert re.match(
        r"1 of 30, such as 1\.\d+e\+05 where the background is 1\.01e\+05 Pa, at .*° E$", found["msl"]
    )
    assert gross(observations(value=of("q", lambda x: 10 * x)))["q"].endswith("° E, 500 hPa")


def test_gross_observations_of_one_variable_are_told_once(recwarn: pytest.WarningsRecorder) -> None:
    with Call():
        for size in (9000, 9500):
            LinearInterpolation()(background(), observations(value=of("msl", lambda x, size=size: x - size)))
    lines = [str(warning.message) for warning in recwarn if warning.category is Notice]
    assert len(lines) == 1
    assert "some of msl are farther than 6" in lines[0]


def test_it_is_told_once(recwarn: pytest.WarningsRecorder) -> None:
    knots = observations(value=of("u", lambda x: x * 1.944))
    with Call():
        for observed in (knots, knots, knots.select(np.zeros(0, dtype=int))):
            LinearInterpolation()(background(), observed)
    lines = [str(warning.message) for warning in recwarn if warning.category is Notice]
    assert [line[:30] for line in lines] == [
        "observations: u is 1.9 times a",
        "observations: some of u are fa",
        "an analysis has no observation",
    ]


def test_it_is_the_difference() -> None:
    observed = observations()
    operator = observed.operator(SPEC, GRID)
    found = innovation(operator(background().values), background(), observed)
    assert found.dtype == torch.float64
    np.testing.assert_array_equal(found, observed.value - operator(background().values).numpy())
