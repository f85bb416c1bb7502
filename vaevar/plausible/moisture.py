"""Can the air hold its moisture? Humidity of the other hemisphere, level or time is too much for cold air."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vaevar.plausible.patterns import area

if TYPE_CHECKING:
    from vaevar.state.spec import StateSpec

_FROM = 500  # hPa: above, air is saturated with respect to ice, and models differ
# Clouds are saturated. More than this of saturation, over more than this share of the sphere, is none of
# weather: ERA5, GFS and a year of SPEEDY have it at 0.1 % of the sphere, and upside down at 2.4 % or more.
_SATURATED, _SHARE = 1.5, 0.015


def oversaturated(values: np.ndarray, spec: StateSpec, latitude: np.ndarray) -> str:
    """Where humidity contradicts temperature; empty if it does not, or if there is nothing to compare.

    Args:
        values: [C, H, W], physical units; some rows and columns are enough.
        spec: the C channels.
        latitude: [H], degrees.
    """
    levels = [level for level in spec.levels if level >= _FROM]
    if not {"q", "t"} <= set(spec.upper) or not levels:
        return ""
    weight = area(latitude) / (area(latitude).sum() * values.shape[-1])
    for level in sorted({levels[0], levels[len(levels) // 2], levels[-1]}):
        humidity, most = values[spec.index(f"q{level}")], saturation(values[spec.index(f"t{level}")], level)
        share = float((weight * (humidity > _SATURATED * most)).sum())
        if share > _SHARE:
            return (
                f"at {level} hPa q is more than {_SATURATED:g} times what air of its temperature can hold, "
                f"at {share:.0%} of the sphere, expected none: q or t is upside down, or of another time or "
                "level"
            )
    return ""


def saturation(temperature: np.ndarray, pressure: float) -> np.ndarray:
    """Specific humidity over water (kg/kg) at K and hPa: Bolton (1980), equation 10."""
    celsius = temperature - np.float32(273.15)
    vapour = 6.112 * np.exp(17.67 * celsius / (celsius + 243.5))
    return np.asarray(0.622 * vapour / (pressure - 0.378 * vapour))
