"""Approximate means and standard deviations of the atmosphere, for synthetic states.

Temperature and geopotential follow the standard atmosphere (ISO 2533). Humidity is a power of pressure, and
wind has its jet at 225 hPa. Both are fitted by hand to published values for ERA5 (t2m 278.8 / 21.3 K, msl
100981 / 1336 Pa, z500 53827 / 3300 m² s⁻², q500 7.8e-4 / 1.0e-3, u500 7.1 / 12.2 m/s). The error is some
10 %: not for science.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vaevar.plausible.atmosphere import standard_geopotential, standard_temperature
from vaevar.state import StateSpec

_SURFACE = {"u10": (0.0, 5.5), "v10": (0.2, 4.8), "t2m": (278.8, 21.3), "msl": (100_981.0, 1336.0)}


def _temperature(p: float) -> tuple[float, float]:
    return standard_temperature(p), 8.0 + 8.0 * p / 1000.0


def _geopotential(p: float) -> tuple[float, float]:
    return standard_geopotential(p), 900.0 + 8000.0 * (1 - (p / 1000.0) ** 0.5) if p < 1000 else 900.0


def _humidity(p: float) -> tuple[float, float]:
    mean = max(2.5e-6, 7e-3 * (p / 1000.0) ** 3.2)
    return mean, 0.8 * mean


def _jet(p: float) -> float:
    return float(np.exp(-(np.log(p / 225.0) ** 2) / 0.98))


_UPPER: dict[str, Callable[[float], tuple[float, float]]] = {
    "z": _geopotential,
    "q": _humidity,
    "u": lambda p: (14.0 * _jet(p), 5.0 + 13.0 * _jet(p)),
    "v": lambda p: (0.0, 4.0 + 9.0 * _jet(p)),
    "t": _temperature,
}


def typical_climate(spec: StateSpec) -> tuple[np.ndarray, np.ndarray]:
    """Mean and std of each channel over the sphere and the year, [C] float64 each, physical units."""
    pairs = [
        _SURFACE[channel.variable] if channel.level is None else _UPPER[channel.variable](channel.level)
        for channel in spec.channels
    ]
    mean, std = np.array(pairs, dtype=np.float64).T
    return mean, std
