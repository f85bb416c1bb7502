"""The standard atmosphere (ISO 2533:1975), isothermal above its tropopause."""

from __future__ import annotations

import numpy as np

from vaevar.constants import GAS_CONSTANT, GRAVITY, SEA_LEVEL_PRESSURE, SEA_LEVEL_TEMPERATURE

# The tropopause (hPa), the temperature above it (K), R Γ/g, and T₀/Γ (m).
_TROPOPAUSE, _STRATOSPHERE = 226.32, 216.65
_EXPONENT, _HEIGHT = 0.190263, 44_330.8


def standard_temperature(pressure: float) -> float:
    """K at a pressure in hPa."""
    return max(SEA_LEVEL_TEMPERATURE * (pressure / SEA_LEVEL_PRESSURE) ** _EXPONENT, _STRATOSPHERE)


def standard_geopotential(pressure: float) -> float:
    """m² s⁻² at a pressure in hPa."""
    height = _HEIGHT * (1 - (max(pressure, _TROPOPAUSE) / SEA_LEVEL_PRESSURE) ** _EXPONENT)
    height += GAS_CONSTANT * _STRATOSPHERE / GRAVITY * np.log(_TROPOPAUSE / min(pressure, _TROPOPAUSE))
    return float(GRAVITY * height)
