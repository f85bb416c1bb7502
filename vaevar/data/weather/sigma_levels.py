"""From a model's sigma levels to pressure levels, with fields continued below the ground.

The formulas are ECMWF's (IFS documentation, Full-Pos; Yessad, "FULL-POS in the cycle 46T1R1 of ARPEGE/IFS",
sections 3.3 to 3.6): hydrostatic geopotential; temperature with a standard lapse rate below the surface,
damped over high and hot ground; and pressure reduced to mean sea level with the same corrections. A naive
reduction gives thousands of Pa of noise over mountains.

Arrays are float64 [T, K, ...] with sigma ascending (top first); pressures in Pa.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vaevar.constants import LAPSE_RATE

# SPEEDY's own values, not those of the standard atmosphere in vaevar.constants (its R is 287.04, rounded
# here). Another value would change every state of the embedded world.
SPEEDY_GAS_CONSTANT = 287.0  # of dry air, J kg⁻¹ K⁻¹
SPEEDY_GRAVITY = 9.81  # m s⁻²
SPEEDY_REFERENCE_PRESSURE = 1.0e5  # Pa; its surface pressure is in units of this
WARM = 290.5
COLD = 255.0


@dataclass(frozen=True)
class SigmaState:
    """A SPEEDY state on sigma levels.

    Attributes:
        sigma: [K] full levels, ascending.
        u, v, t, q: [T, K, ...] wind (m/s), temperature (K), specific humidity (kg/kg).
        geopotential: [T, K, ...] on full levels, m² s⁻².
        surface_pressure: [T, ...] Pa.

    Raises:
        ValueError: when sigma does not ascend, or the shapes do not fit together.
    """

    sigma: np.ndarray
    u: np.ndarray
    v: np.ndarray
    t: np.ndarray
    q: np.ndarray
    geopotential: np.ndarray
    surface_pressure: np.ndarray

    def __post_init__(self) -> None:
        if self.sigma.ndim != 1 or np.any(np.diff(self.sigma) <= 0):
            raise ValueError("sigma levels must ascend, top of the atmosphere first")
        for name in ("u", "v", "t", "q", "geopotential"):
            shape = getattr(self, name).shape
            if shape[1] != self.sigma.size or shape[:1] + shape[2:] != self.surface_pressure.shape:
                raise ValueError(f"{name} {shape} does not fit sigma and surface pressure")

    @property
    def surface_geopotential(self) -> np.ndarray:
        """φ_s = φ_K − R T_K ln(1/σ_K): the model's own hydrostatic equation at its lowest level."""
        return self.geopotential[:, -1] + SPEEDY_GAS_CONSTANT * self.t[:, -1] * np.log(self.sigma[-1])

    @property
    def surface_temperature(self) -> np.ndarray:
        """T_s = T_K (1 + (R Γ/g) (p_s/p_K − 1)): extrapolated from the lowest level to the ground."""
        alpha = SPEEDY_GAS_CONSTANT * LAPSE_RATE / SPEEDY_GRAVITY
        return self.t[:, -1] * (1.0 + alpha * (1.0 / self.sigma[-1] - 1.0))


def _damped_warm_cold(temperature: np.ndarray) -> np.ndarray:
    """The surface temperature for reductions: hot ground is cooled, cold ground is warmed."""
    warm = np.where(temperature > WARM, 0.5 * (WARM + temperature), temperature)
    return np.where(temperature < COLD, 0.5 * (COLD + temperature), warm)


def mean_sea_level_pressure(state: SigmaState) -> np.ndarray:
    """p_s reduced to sea level, [T, ...] Pa (Full-Pos, "mean sea level pressure").

    p_msl = p_s exp( φ_s/(R T*) · (1 − x/2 + x²/3) ),  x = α φ_s/(R T*),  α = R Γ'/g.
    """
    phi, surface = state.surface_geopotential, state.surface_temperature
    sea_level = surface + LAPSE_RATE * phi / SPEEDY_GRAVITY
    alpha = np.full_like(surface, SPEEDY_GAS_CONSTANT * LAPSE_RATE / SPEEDY_GRAVITY)
    safe_phi = np.where(np.abs(phi) > 1.0, phi, 1.0)
    # Where extrapolation to sea level gives air above 290.5 K, the lapse rate is reduced so that
    # T_0 = 290.5 K, or is zero where the ground itself is above 290.5 K.
    limited = (sea_level > WARM) & (surface <= WARM)
    alpha = np.where(limited, SPEEDY_GAS_CONSTANT * (WARM - surface) / safe_phi, alpha)
    alpha = np.where((sea_level > WARM) & (surface > WARM), 0.0, alpha)
    start = _damped_warm_cold(surface)
    x = alpha * phi / (SPEEDY_GAS_CONSTANT * start)
    exponent = phi / (SPEEDY_GAS_CONSTANT * start) * (1.0 - x / 2.0 + x**2 / 3.0)
    return np.where(np.abs(phi) < 1.0, state.surface_pressure, state.surface_pressure * np.exp(exponent))


def to_pressure_levels(state: SigmaState, levels_hpa: np.ndarray) -> dict[str, np.ndarray]:
    """Interpolate z, q, u, v, t to pressure levels.

    Inside the model's levels: linear in ln p, and geopotential with the curvature that the linear
    temperature gives it (d²φ/d(ln p)² = −R dT/d ln p). Between the lowest level and the ground:
    temperature and geopotential towards their surface values. Below the ground: :func:`_below_ground`;
    wind and humidity keep the lowest level's value.

    Args:
        state: on sigma levels.
        levels_hpa: [L] hPa, ascending.

    Returns:
        ``z, q, u, v, t`` of shape [T, L, ...].

    Raises:
        ValueError: when a level is above the model's highest level.
    """
    pressure = np.asarray(levels_hpa, dtype=np.float64) * 100.0
    ln_ps = np.log(state.surface_pressure)
    ln_sigma = np.log(state.sigma)
    extra = (None,) * (state.surface_pressure.ndim - 1)
    # ln(p/p_s) of each target level, [T, L, ...], to compare with ln σ of the model's levels.
    target = np.log(pressure)[(None, slice(None), *extra)] - ln_ps[:, None]
    if target.min() < ln_sigma[0]:
        raise ValueError(f"{levels_hpa[0]} hPa lies above the model's top level")
    # The surface is one more level of the column, for interpolation between the lowest level and the ground.
    column_x = np.concatenate([ln_sigma, [0.0]])
    t = np.concatenate([state.t, state.surface_temperature[:, None]], 1)
    phi = np.concatenate([state.geopotential, state.surface_geopotential[:, None]], 1)

    upper = np.clip(np.searchsorted(column_x, target, side="right") - 1, 0, column_x.size - 2)
    low_x, high_x = column_x[upper], column_x[upper + 1]
    fraction = np.clip((target - low_x) / (high_x - low_x), 0.0, 1.0)

    def linear(field: np.ndarray) -> np.ndarray:
        return (1 - fraction) * np.take_along_axis(field, upper, 1) + fraction * np.take_along_axis(
            field, upper + 1, 1
        )

    def kept_to_ground(field: np.ndarray) -> np.ndarray:
        return linear(np.concatenate([field, field[:, -1:]], 1))

    slope = (np.take_along_axis(t, upper + 1, 1) - np.take_along_axis(t, upper, 1)) / (high_x - low_x)
    inside = np.clip(target, None, 0.0)
    curvature = -0.5 * SPEEDY_GAS_CONSTANT * slope * (inside - low_x) * (inside - high_x)
    t_below, phi_below = _below_ground(state, np.clip(target, 0.0, None))
    underground = target > 0.0
    return {
        "z": np.where(underground, phi_below, linear(phi) + curvature),
        "q": kept_to_ground(state.q),
        "u": kept_to_ground(state.u),
        "v": kept_to_ground(state.v),
        "t": np.where(underground, t_below, linear(t)),
    }


def _below_ground(state: SigmaState, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Temperature and geopotential at ln(p/p_s) = y ≥ 0, [T, L, ...] each.

    T = T_s (1 + αy + (αy)²/2 + (αy)³/6) with the lapse rate of the column between the ground and sea level:
    the standard one below 2000 m, one that reaches at most 298 K above 2500 m, a blend in between. φ = φ_s −
    R T_s y (1 + αy/2 + (αy)²/6) with the corrections of the sea-level reduction.
    """
    phi, surface = state.surface_geopotential, state.surface_temperature
    height = phi / SPEEDY_GRAVITY
    standard = surface + LAPSE_RATE * height
    capped = np.minimum(standard, 298.0)
    blend = np.clip((height - 2000.0) / 500.0, 0.0, 1.0)
    sea_level = (1 - blend) * standard + blend * capped
    gamma = np.where(
        height > 2000.0, np.clip(sea_level - surface, 0.0, None) / np.maximum(height, 2000.0), LAPSE_RATE
    )
    ay = (SPEEDY_GAS_CONSTANT * gamma / SPEEDY_GRAVITY)[:, None] * y
    temperature = surface[:, None] * (1.0 + ay + ay**2 / 2 + ay**3 / 6)

    start = _damped_warm_cold(surface)
    alpha = SPEEDY_GAS_CONSTANT * LAPSE_RATE / SPEEDY_GRAVITY
    safe_phi = np.where(np.abs(phi) > 1.0, phi, 1.0)
    alpha_phi = np.where(
        (standard > WARM) & (surface <= WARM), SPEEDY_GAS_CONSTANT * (WARM - surface) / safe_phi, alpha
    )
    alpha_phi = np.where((standard > WARM) & (surface > WARM), 0.0, alpha_phi)
    ay_phi = alpha_phi[:, None] * y
    geopotential = phi[:, None] - SPEEDY_GAS_CONSTANT * start[:, None] * y * (
        1.0 + ay_phi / 2 + ay_phi**2 / 6
    )
    return temperature, geopotential
