"""The ranges of values that a variable can have, by pressure.

There are ranges of values at points, of means over the sphere, of standard deviations and of changes. They
are generous: extremes of ERA5 and of stations (World Meteorological Organization, archive of weather and
climate extremes: msl 870 to 1085 hPa, 2 m temperature 184 to 330 K, surface wind 113 m/s), widened by about a
tenth, and by more where SPEEDY, with its cold lower stratosphere, or a mediocre forecast needs it. They are
narrow enough for 0 K, −9999, 1e20 and 9.97e36, and for hPa, °C, g/kg and heights in m or dam. What falls
inside is not thereby right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vaevar.plausible.atmosphere import standard_geopotential, standard_temperature

_GROUND = 1013.25  # hPa


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, in the variable's units."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high  # not for NaN

    def __str__(self) -> str:
        return f"{self.low:.4g} to {self.high:.4g}"

    @property
    def width(self) -> float:
        return self.high - self.low


@lru_cache(maxsize=4096)
def at_points(variable: str, pressure: float | None) -> Range:
    """The range of values at points.

    Args:
        variable: such as ``t2m`` or ``t``.
        pressure: hPa; None at the surface.
    """
    return _SURFACE_POINTS[variable] if pressure is None else _UPPER_POINTS[variable](pressure)


@lru_cache(maxsize=4096)
def of_means(variable: str, pressure: float | None) -> Range:
    """The range of means over the sphere, weighted by area or not; arguments as for :func:`at_points`."""
    return _SURFACE_MEANS[variable] if pressure is None else _UPPER_MEANS[variable](pressure)


@lru_cache(maxsize=4096)
def of_stds(variable: str, pressure: float | None) -> Range:
    """The range of standard deviations over sphere and year, or in time; arguments as for
    :func:`at_points`."""
    return _SURFACE_STDS[variable] if pressure is None else _UPPER_STDS[variable](pressure)


@lru_cache(maxsize=4096)
def of_error_stds(variable: str, pressure: float | None) -> Range:
    """The range of standard deviations of errors: no forecast is worse than the climate.

    Arguments are those of :func:`at_points`.
    """
    stds = of_stds(variable, pressure)
    return Range(1e-3 * stds.low, stds.high)


@lru_cache(maxsize=4096)
def of_jumps(variable: str, pressure: float | None) -> Range:
    """The range of changes at a point, and of their root mean square, within 12 hours: root mean square as
    ``low``, at a point as ``high``. Arguments are those of :func:`at_points`."""
    return _SURFACE_JUMPS[variable] if pressure is None else _UPPER_JUMPS[variable](pressure)


def _depth(pressure: float) -> float:
    """Distance from the ground in ln p."""
    return max(0.0, math.log(_GROUND / pressure))


def _about(
    middle: Callable[[float], float], below: tuple[float, float], above: tuple[float, float]
) -> Callable[[float], Range]:
    """A range about a profile that widens with height: at the ground, and per unit of ln p."""

    def of(pressure: float) -> Range:
        centre, depth = middle(pressure), _depth(pressure)
        return Range(centre - below[0] - below[1] * depth, centre + above[0] + above[1] * depth)

    return of


def _between(*knots: tuple[float, float, float]) -> Callable[[float], Range]:
    """A range between (pressure, low, high), linear in ln p."""
    pressures, lows, highs = np.array(knots).T

    def of(pressure: float) -> Range:
        at, where = math.log(pressure), np.log(pressures)
        return Range(float(np.interp(at, where, lows)), float(np.interp(at, where, highs)))

    return of


def _humid(ground: tuple[float, float], power: float) -> Callable[[float], Range]:
    """A range that narrows with a power of pressure."""

    def of(pressure: float) -> Range:
        part = min(pressure / 1000.0, 1.0) ** power
        return Range(ground[0] * part, ground[1] * part)

    return of


_WIND = _between((1, -260, 260), (10, -220, 220), (300, -200, 200), (1000, -140, 140))
_WIND_STD = _between((1, 0.5, 90), (1000, 0.3, 50))

_SURFACE_POINTS = {
    "u10": Range(-120.0, 120.0),
    "v10": Range(-120.0, 120.0),
    "t2m": Range(160.0, 345.0),
    "msl": Range(85e3, 115e3),
}
_UPPER_POINTS = {
    "z": _about(standard_geopotential, (12e3, 10e3), (9e3, 8e3)),
    "q": _humid((-0.01, 0.06), 0.8),
    "u": _WIND,
    "v": _WIND,
    "t": _between(
        (1, 140, 370), (10, 130, 340), (50, 130, 305), (100, 140, 295), (200, 150, 295), (300, 160, 298),
        (500, 175, 310), (700, 180, 325), (850, 180, 340), (1000, 180, 350),
    ),
}  # fmt: skip

_SURFACE_MEANS = {
    "u10": Range(-20.0, 20.0),
    "v10": Range(-20.0, 20.0),
    "t2m": Range(240.0, 310.0),
    "msl": Range(95e3, 107e3),
}
_UPPER_MEANS = {
    "z": _about(standard_geopotential, (4e3, 6e3), (4e3, 6e3)),
    # At the least that of the dry stratosphere, at the most a tropical atmosphere everywhere. A thousandth of
    # what is usual near the ground is kg/kg taken for g/kg; who has dry air leaves q out.
    "q": _between(
        (1, -1e-5, 5e-4), (100, -1e-4, 3e-3), (300, -5e-4, 6e-3), (500, 1e-6, 0.01), (1000, 1e-4, 0.02)
    ),
    "u": _between((1, -80, 80), (50, -50, 50), (1000, -30, 30)),
    "v": _between((1, -20, 20), (1000, -10, 10)),
    "t": _about(standard_temperature, (40.0, 0.0), (14.0, 8.0)),
}

_SURFACE_STDS = {
    "u10": Range(0.1, 25.0),
    "v10": Range(0.1, 25.0),
    "t2m": Range(0.5, 50.0),
    "msl": Range(50.0, 6000.0),
}
_UPPER_STDS = {
    "z": _about(lambda p: 0.0, (-20.0, 0.0), (3e3, 6e3)),
    "q": _between((1, 1e-9, 1e-3), (50, 1e-9, 1.5e-3), (500, 1e-7, 0.01), (1000, 1e-5, 0.02)),
    "u": _WIND_STD,
    "v": _WIND_STD,
    "t": _between((1, 0.2, 60), (1000, 0.2, 50)),
}

_WIND_JUMP = _between((1, 45, 260), (300, 30, 200), (1000, 25, 150))
_SURFACE_JUMPS = {
    "u10": Range(20.0, 120.0),
    "v10": Range(20.0, 120.0),
    "t2m": Range(20.0, 60.0),
    "msl": Range(3000.0, 12e3),
}
_UPPER_JUMPS = {
    "z": _between((1, 15e3, 40e3), (50, 6e3, 20e3), (1000, 3e3, 12e3)),
    "q": _humid((0.01, 0.04), 0.8),
    "u": _WIND_JUMP,
    "v": _WIND_JUMP,
    "t": _between((1, 40, 100), (50, 20, 60), (200, 15, 45), (500, 12, 40), (850, 15, 50), (1000, 20, 60)),
}
