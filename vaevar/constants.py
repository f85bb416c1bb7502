"""Physical constants, said once, with units and source.

SPEEDY has values of its own: see :mod:`vaevar.data.weather.sigma_levels`.
"""

from __future__ import annotations

# Mean radius of the Earth (IUGG), rounded to the kilometre.
EARTH_RADIUS_KM = 6371.0
EARTH_RADIUS = EARTH_RADIUS_KM * 1000.0  # m
# Rate of the Earth's rotation (Holton and Hakim, An Introduction to Dynamic Meteorology, 5th ed.).
EARTH_ROTATION = 7.292e-5  # s⁻¹

# The standard atmosphere (ISO 2533:1975).
GRAVITY = 9.80665  # m s⁻²
GAS_CONSTANT = 287.05  # of dry air, J kg⁻¹ K⁻¹
SEA_LEVEL_PRESSURE = 1013.25  # hPa
SEA_LEVEL_TEMPERATURE = 288.15  # K
LAPSE_RATE = 0.0065  # K m⁻¹, in the troposphere
