"""The geostrophic wind of a geopotential field, and the correlation of a wind field with it.

    u_g = −(1/f) ∂Φ/∂y,      v_g = (1/f) ∂Φ/∂x,      f = 2Ω sin φ

(Holton and Hakim, An Introduction to Dynamic Meteorology, 5th ed., eq. 2.23), with ∂y = a ∂φ and ∂x = a cos φ
∂λ. Outside the tropics background errors are close to this balance. So the wind increment of a height
observation should rotate around it in this sense, in both hemispheres. Shapes: H latitude (north to south), W
longitude (eastward).
"""

from __future__ import annotations

import numpy as np

from vaevar.constants import EARTH_RADIUS, EARTH_ROTATION
from vaevar.sphere.grid import Grid
from vaevar.sphere.interpolation import great_circle_km

TROPICS = 5.0  # degrees from the equator within which geostrophy does not hold


def geostrophic_wind(geopotential: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """u_g and v_g by centred differences (one-sided on the first and last row).

    Args:
        geopotential: [H, W], m² s⁻².
        grid: its points.

    Returns:
        Two [H, W] float64 fields in m s⁻¹; NaN on the equator and at the poles, where they are undefined.
    """
    field = np.asarray(geopotential, dtype=np.float64)
    phi = np.radians(grid.latitude)
    spacing = np.radians(360.0 / grid.shape[1])
    north = np.gradient(field, phi, axis=0) / EARTH_RADIUS
    east = (np.roll(field, -1, axis=1) - np.roll(field, 1, axis=1)) / (2 * spacing * EARTH_RADIUS)
    coriolis, cosine = 2 * EARTH_ROTATION * np.sin(phi), np.cos(phi)
    defined = (np.abs(np.sin(phi)) > 1e-9) & (cosine > 1e-9)
    coriolis = np.where(defined, coriolis, np.nan)[:, None]
    cosine = np.where(defined, cosine, np.nan)[:, None]
    return -north / coriolis, east / (cosine * coriolis)


def neighbourhood(
    grid: Grid, latitude: float, longitude: float, radius_km: float, tropics: float = TROPICS
) -> np.ndarray:
    """[H, W] bool: within ``radius_km`` of a point, and more than ``tropics`` degrees from the equator."""
    rows, columns = np.meshgrid(grid.latitude, grid.longitude, indexing="ij")
    near = great_circle_km(rows, columns, np.asarray(latitude), np.asarray(longitude)) <= radius_km
    return np.asarray(near & (np.abs(rows) > tropics))


def wind_correlation(
    wind: tuple[np.ndarray, np.ndarray],
    other: tuple[np.ndarray, np.ndarray],
    grid: Grid,
    where: np.ndarray | None = None,
) -> float:
    """Vector correlation of two wind fields, about zero and weighted by area, in [−1, 1].

    r = Σ a V·V' / √(Σ a |V|² · Σ a |V'|²): 1 when one is a positive multiple of the other, −1 when it is a
    negative multiple.

    Args:
        wind, other: (u, v), each [H, W]; points where either is not finite are left out.
        grid: their points.
        where: [H, W] bool, the points to use; default all.

    Returns:
        r; NaN when a wind is zero or there are no points.
    """
    counts = np.isfinite(np.stack([*wind, *other])).all(0)
    if where is not None:
        counts &= where
    area = np.broadcast_to(grid.area_weights.numpy()[:, None], grid.shape)[counts]
    first, second = np.stack(wind)[:, counts], np.stack(other)[:, counts]
    scale = np.sqrt((area * first**2).sum() * (area * second**2).sum())
    return float((area * first * second).sum() / scale) if scale > 0 else float("nan")
