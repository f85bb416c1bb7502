"""Patterns on the sphere: what is left of a field without its zonal mean, and how two of them agree."""

from __future__ import annotations

import numpy as np

from vaevar.constants import EARTH_RADIUS, EARTH_ROTATION
from vaevar.sphere.grid import Grid

_ROWS_LOOKED_AT = 60

# Degrees, north and south: in the tropics the wind is not geostrophic, and at the poles columns are close.
_FROM, _TO = 25.0, 75.0


def every(grid: Grid) -> int:
    """Of how many rows and columns one is looked at: a coarse piece of a state is enough to notice what is
    wrong with a part of it."""
    return max(1, grid.shape[0] // _ROWS_LOOKED_AT)


def eddies(field: np.ndarray) -> np.ndarray:
    """[..., W] without its zonal mean: zonal means of anything look alike."""
    return np.asarray(field - field.mean(-1, keepdims=True))


def correlation(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> float:
    """Of two fields about 0, from -1 to 1; 0 where one of them is 0 everywhere.

    Args:
        one, other, weight: [H, W].
    """
    products = [(weight * a * b).sum() for a, b in ((one, other), (one, one), (other, other))]
    return float(products[0] / np.sqrt(products[1] * products[2])) if min(products[1:]) > 0 else 0.0


def strength(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> float:
    """The factor of ``other`` that comes nearest to ``one``; arguments as for :func:`correlation`."""
    square = float((weight * other**2).sum())
    return float((weight * one * other).sum()) / square if square > 0 else 0.0


def area(latitude: np.ndarray) -> np.ndarray:
    """[H, 1], a weight of the rows."""
    return np.asarray(np.cos(np.radians(latitude))[:, None], np.float32)


def extratropics(latitude: np.ndarray) -> np.ndarray:
    """[H] bool: the rows where the wind is nearly geostrophic."""
    return np.asarray((np.abs(latitude) >= _FROM) & (np.abs(latitude) <= _TO))


def gradient(field: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eastward and northward, per metre, [H, W] each; along rows at the poles it is not finite."""
    phi = np.radians(latitude).astype(field.dtype)
    step = 2 * np.pi / field.shape[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        around = (2 * step * EARTH_RADIUS * np.cos(phi))[:, None]
        east = (np.roll(field, -1, -1) - np.roll(field, 1, -1)) / around
        return east, np.gradient(field, phi * field.dtype.type(EARTH_RADIUS), axis=0)


def geostrophic_wind(
    geopotential: np.ndarray, latitude: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Eastward and northward, m/s, at some rows outside the tropics (:func:`extratropics`).

    Args:
        geopotential: [H, W], m² s⁻².
        latitude: [H], degrees.
        rows: [H] bool.
    """
    east, north = gradient(geopotential, latitude)
    coriolis = (2 * EARTH_ROTATION * np.sin(np.radians(latitude[rows])))[:, None].astype(geopotential.dtype)
    return -north[rows] / coriolis, east[rows] / coriolis
