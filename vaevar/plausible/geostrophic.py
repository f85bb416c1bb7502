"""Do wind and geopotential belong together? Outside the tropics the wind follows the lines of height.

The geostrophic wind (Holton and Hakim, An Introduction to Dynamic Meteorology, 5th ed., section 2.4.1) is

    u = −(1/f) ∂Φ/∂y,   v = (1/f) ∂Φ/∂x,   f = 2Ω sin φ.

It tells what no range can: a component with its sign turned or in the place of the other, a hemisphere in the
place of the other, wind in knots. Only what contradicts it plainly is refused.
"""

from __future__ import annotations

import numpy as np

from vaevar.constants import EARTH_RADIUS, EARTH_ROTATION
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

# hPa; friction near the ground, and little wind far above, say less.
_HIGHEST, _LOWEST, _NEAR_GROUND = 200, 850, 700
_LEVELS = 3
_LATITUDES = (25.0, 75.0)  # degrees, north and south
# Fewer rows tell too little of the derivatives; more tell nothing new.
_ROWS, _ENOUGH_ROWS = 12, 90
# In ERA5, GFS and SPEEDY each component's correlation with its geostrophic part is 0.8 or more, with the
# other's 0.2 or less, and the wind is 0.8 to 1.2 times as strong.
_AGAINST, _OTHER, _STRONG, _SURE = -0.5, 0.6, 1.6, 0.7


def contradiction(values: np.ndarray, spec: StateSpec, grid: Grid, stride: int = 1) -> str:
    """How the wind contradicts the geopotential; empty if it does not, or if there is nothing to compare.

    Args:
        values: [C, h, w], physical units: every ``stride``-th row and column.
        spec: the C channels.
        grid: of all rows and columns.
        stride: see ``values``.
    """
    levels = [level for level in spec.levels if _HIGHEST <= level <= _LOWEST]
    every = max(1, grid.shape[0] // stride // _ENOUGH_ROWS)
    latitude = grid.latitude[:: stride * every]
    rows = (np.abs(latitude) >= _LATITUDES[0]) & (np.abs(latitude) <= _LATITUDES[1])
    if not {"z", "u", "v"} <= set(spec.upper) or not levels or latitude.size < _ROWS or rows.sum() < 4:
        return ""
    chosen = sorted({levels[0], levels[len(levels) // 2], levels[-1]})[:_LEVELS]
    for level in chosen:
        z, u, v = (values[spec.index(f"{name}{level}"), ::every, ::every] for name in ("z", "u", "v"))
        if found := _compared(z, u, v, latitude, rows):
            return f"at {level} hPa {found}"
    if {"u10", "v10"} <= set(spec.surface) and levels[-1] >= _NEAR_GROUND:
        return _near_ground(values[..., ::every, ::every], spec, levels[-1], latitude)
    return ""


def _near_ground(values: np.ndarray, spec: StateSpec, level: int, latitude: np.ndarray) -> str:
    """How the wind at 10 m contradicts that at a level above."""
    names = ("u10", "v10", f"u{level}", f"v{level}")
    u10, v10, u, v = (values[spec.index(name)] for name in names)
    weight = np.broadcast_to(np.cos(np.radians(latitude))[:, None], u.shape)
    own = {"u10": _correlation(u10, u, weight), "v10": _correlation(v10, v, weight)}
    for name, correlation in own.items():
        if correlation < _AGAINST:
            return f"{name} blows against the wind at {level} hPa (correlation {correlation:.2f})"
    crossed = min(_correlation(u10, v, weight), _correlation(v10, u, weight))
    if crossed > max(_OTHER, *own.values()):
        return f"u10 and v10 follow each other's wind at {level} hPa: they were exchanged"
    return ""


def _compared(z: np.ndarray, u: np.ndarray, v: np.ndarray, latitude: np.ndarray, rows: np.ndarray) -> str:
    phi = np.radians(latitude)[:, None]
    step = 2 * np.pi / z.shape[1]
    coriolis = (2 * EARTH_ROTATION * np.sin(phi))[rows]
    along = (np.roll(z, -1, -1) - np.roll(z, 1, -1)) / (2 * step * EARTH_RADIUS * np.cos(phi))
    across = np.gradient(z, phi[:, 0] * EARTH_RADIUS, axis=0)
    east, north = -across[rows] / coriolis, along[rows] / coriolis
    weight = np.broadcast_to(np.cos(phi[rows]), east.shape)
    own = {"u": (u[rows], east), "v": (v[rows], north)}
    crossed = {"u": (u[rows], north), "v": (v[rows], east)}
    correlations = {name: _correlation(*pair, weight) for name, pair in own.items()}
    for name, correlation in correlations.items():
        if correlation < _AGAINST:
            return (
                f"{name} blows against its geopotential (correlation with the geostrophic wind "
                f"{correlation:.2f}, expected about 0.9): its sign is turned, or latitudes are upside down"
            )
    if all(_correlation(*crossed[name], weight) > max(_OTHER, correlations[name]) for name in own):
        return "u and v have each other's geostrophic wind: they were exchanged"
    for name, (wind, geostrophic) in own.items():
        strength = float((weight * wind * geostrophic).sum() / (weight * geostrophic**2).sum())
        if correlations[name] > _SURE and strength > _STRONG:
            return (
                f"{name} is {strength:.2g} times as strong as the geostrophic wind, expected 0.7 to 1.3: it "
                "is in other units (a knot is 0.514 m/s), or at another level"
            )
    return ""


def _correlation(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> float:
    products = [(weight * a * b).sum() for a, b in ((one, other), (one, one), (other, other))]
    return float(products[0] / np.sqrt(products[1] * products[2])) if min(products[1:]) > 0 else 0.0
