"""Do wind and geopotential belong together? Outside the tropics the wind follows the lines of height.

The geostrophic wind (Holton and Hakim, An Introduction to Dynamic Meteorology, 5th ed., section 2.4.1) is

    u = −(1/f) ∂Φ/∂y,   v = (1/f) ∂Φ/∂x,   f = 2Ω sin φ.

It tells what no range can: a component with its sign turned or in the place of the other, a hemisphere in the
place of the other, wind in knots. Only what contradicts it plainly is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vaevar.plausible.patterns import area, correlation, extratropics, geostrophic_wind, strength

if TYPE_CHECKING:
    from vaevar.state.spec import StateSpec

# hPa; friction near the ground, and little wind far above, say less.
_HIGHEST, _LOWEST, _NEAR_GROUND = 200, 850, 700
_ROWS = 12  # fewer rows tell too little of the derivatives
# In ERA5, GFS and SPEEDY each component's correlation with its geostrophic part is 0.8 or more, with the
# other's 0.2 or less, and the wind is 0.8 to 1.2 times as strong.
_AGAINST, _OTHER, _STRONG, _SURE = -0.5, 0.6, 1.6, 0.7


def usable_levels(spec: StateSpec, latitude: np.ndarray) -> list[int]:
    """Up to three levels where the wind is nearly geostrophic; none for a grid that is too coarse."""
    levels = [level for level in spec.levels if _HIGHEST <= level <= _LOWEST]
    if not levels or latitude.size < _ROWS or extratropics(latitude).sum() < 4:
        return []
    return sorted({levels[0], levels[len(levels) // 2], levels[-1]})


def contradiction(values: np.ndarray, spec: StateSpec, latitude: np.ndarray) -> str:
    """How the wind contradicts the geopotential; empty if it does not, or if there is nothing to compare.

    Args:
        values: [C, H, W], physical units; some rows and columns are enough.
        spec: the C channels.
        latitude: [H], degrees, from north to south.
    """
    levels = usable_levels(spec, latitude)
    if not {"z", "u", "v"} <= set(spec.upper) or not levels:
        return ""
    rows = extratropics(latitude)
    for level in levels:
        z, u, v = (values[spec.index(f"{name}{level}")] for name in ("z", "u", "v"))
        if found := _compared(z, u, v, latitude, rows):
            return f"at {level} hPa {found}"
    if {"u10", "v10"} <= set(spec.surface) and levels[-1] >= _NEAR_GROUND:
        return _near_ground(values, spec, levels[-1], latitude)
    return ""


def _near_ground(values: np.ndarray, spec: StateSpec, level: int, latitude: np.ndarray) -> str:
    """How the wind at 10 m contradicts that at a level above."""
    names = ("u10", "v10", f"u{level}", f"v{level}")
    u10, v10, u, v = (values[spec.index(name)] for name in names)
    weight = area(latitude)
    own = {"u10": correlation(u10, u, weight), "v10": correlation(v10, v, weight)}
    for name, found in own.items():
        if found < _AGAINST:
            return f"{name} blows against the wind at {level} hPa (correlation {found:.2f})"
    crossed = min(correlation(u10, v, weight), correlation(v10, u, weight))
    if crossed > max(_OTHER, *own.values()):
        return f"u10 and v10 follow each other's wind at {level} hPa: they were exchanged"
    return ""


def _compared(z: np.ndarray, u: np.ndarray, v: np.ndarray, latitude: np.ndarray, rows: np.ndarray) -> str:
    east, north = geostrophic_wind(z, latitude, rows)
    weight = area(latitude)[rows]
    own = {"u": (u[rows], east), "v": (v[rows], north)}
    crossed = {"u": (u[rows], north), "v": (v[rows], east)}
    correlations = {name: correlation(*pair, weight) for name, pair in own.items()}
    for name, found in correlations.items():
        if found < _AGAINST:
            return (
                f"{name} blows against its geopotential (correlation with the geostrophic wind "
                f"{found:.2f}, expected about 0.9): its sign is turned, or latitudes are upside down"
            )
    if all(correlation(*crossed[name], weight) > max(_OTHER, correlations[name]) for name in own):
        return "u and v have each other's geostrophic wind: they were exchanged"
    for name, (wind, geostrophic) in own.items():
        factor = strength(wind, geostrophic, weight)
        if correlations[name] > _SURE and factor > _STRONG:
            return (
                f"{name} is {factor:.2g} times as strong as the geostrophic wind, expected 0.7 to 1.3: it "
                "is in other units (a knot is 0.514 m/s), or at another level"
            )
    return ""
