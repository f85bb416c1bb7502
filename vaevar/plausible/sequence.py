"""Does weather follow from the weather before? How much it changes, and which way it moves."""

from __future__ import annotations

import numpy as np

from vaevar.plausible.patterns import area, correlation, eddies, extratropics, gradient
from vaevar.state import StateSpec

# The root mean square of a change, relative to that of the eddies: at 0 h, and more for each hour. A year of
# SPEEDY stays below half of this, and fields of other weather are at 0.5 to 1.5.
_CHANGE, _PER_HOUR = 0.3, 0.05
_SLOW = ("z", "t", "u")
# hPa: where humidity and temperature move with the wind, away from the ground and the tropopause. In SPEEDY
# the correlation of their changes with their advection is 0.4 or more, within 12 h.
_HIGH, _LOW, _STEERING = 400, 850, 700
_AGAINST = -0.3


def other_weather(before: np.ndarray, now: np.ndarray, spec: StateSpec, hours: float) -> str:
    """Which variable changes as if it were of other weather; empty if none does.

    Args:
        before, now: [C, H, W], physical units; some rows and columns are enough.
        spec: the C channels.
        hours: from one to the other, up to 12, negative for a step back.
    """
    limit = _CHANGE + _PER_HOUR * abs(hours)
    for name in (*_SLOW, "msl"):
        if name not in (*spec.surface, *spec.upper):
            continue
        part = spec.variable_slice(name)
        change, pattern = now[part] - before[part], eddies(before[part])
        size = np.sqrt((change**2).mean((-2, -1)) / np.maximum((pattern**2).mean((-2, -1)), 1e-30)).mean()
        if size > limit:
            return (
                f"{name} changes by {size:.2f} of what it varies along a latitude, expected {limit:.2f} or "
                "less in this time: one of the two is of another time"
            )
    return ""


def against_the_wind(
    before: np.ndarray, now: np.ndarray, spec: StateSpec, latitude: np.ndarray, hours: float
) -> str:
    """Whether temperature and humidity move against the wind; empty if not.

    Arguments are those of :func:`other_weather`.

    Args:
        latitude: [H], degrees, from north to south.
    """
    levels = [level for level in spec.levels if _HIGH <= level <= _LOW]
    moved = [name for name in ("t", "q") if name in spec.upper]
    rows = extratropics(latitude)
    if not {"u", "v"} <= set(spec.upper) or not moved or not levels or not rows.any():
        return ""
    level = min(levels, key=lambda p: abs(p - _STEERING))
    index = {name: spec.index(f"{name}{level}") for name in ("u", "v", *moved)}
    mean = {name: 0.5 * (before[i] + now[i]) for name, i in index.items()}
    found = []
    for name in moved:
        east, north = gradient(mean[name], latitude)
        advected = -(mean["u"][rows] * east[rows] + mean["v"][rows] * north[rows]) * hours
        change = (now[index[name]] - before[index[name]])[rows]
        found.append(correlation(change, advected, area(latitude)[rows]))
    if max(found) > _AGAINST:
        return ""
    return (
        f"{' and '.join(moved)} at {level} hPa move against the wind (correlation {max(found):.2f}, expected "
        "0.4 or more): times are in another order than fields"
    )
