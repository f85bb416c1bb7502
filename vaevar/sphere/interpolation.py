"""Bilinear interpolation from a grid to points, and distances on the sphere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from vaevar.constants import EARTH_RADIUS_KM
from vaevar.sphere.grid import Grid


@dataclass(frozen=True)
class InterpolationWeights:
    """A bilinear interpolation from a grid to P points.

    Attributes:
        index: [P, 4] int64, flat positions ``row · W + column``.
        weight: [P, 4] float64, non-negative, summing to 1.
        across_pole: [P, 4] bool: the corner lies beyond a pole, where wind components change sign.
    """

    index: Tensor
    weight: Tensor
    across_pole: Tensor


def bilinear_weights(grid: Grid, latitude: np.ndarray, longitude: np.ndarray) -> InterpolationWeights:
    """Bilinear weights in latitude and longitude, periodic, and continued across the poles.

    Poleward of the first or last row of a grid without poles, the next row is the same row on the other side
    of the pole, half a circle away.

    Args:
        grid: of the field.
        latitude, longitude: [P] degrees; longitudes are taken modulo 360.

    Raises:
        ValueError: for a latitude outside [−90, 90] or a position that is not finite.
    """
    latitude = np.asarray(latitude, dtype=np.float64).reshape(-1)
    longitude = np.asarray(longitude, dtype=np.float64).reshape(-1)
    if not (np.isfinite(latitude).all() and np.isfinite(longitude).all()):
        raise ValueError("positions must be finite")
    if np.any(np.abs(latitude) > 90.0):
        raise ValueError("latitudes must lie in [-90, 90]")
    rows, columns = grid.shape
    # With one virtual row beyond each pole (a mirror image), every point is an interior point.
    padded = np.concatenate([[180.0 - grid.latitude[0]], grid.latitude, [-180.0 - grid.latitude[-1]]])
    # Northern edge of the box around each point; padded descends, but searchsorted needs ascending values.
    north = np.clip(np.searchsorted(-padded, -latitude, side="right") - 1, 0, padded.size - 2)
    span = padded[north] - padded[north + 1]
    toward_south = np.where(span > 0, (padded[north] - latitude) / np.where(span > 0, span, 1.0), 0.0)

    spacing = 360.0 / columns
    position = np.mod(longitude - grid.longitude[0], 360.0) / spacing
    west = np.floor(position).astype(np.int64)
    toward_east = position - west

    index = np.empty((latitude.size, 4), dtype=np.int64)
    weight = np.empty((latitude.size, 4))
    across = np.empty((latitude.size, 4), dtype=bool)
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
    for corner, (south, east) in enumerate(corners):
        row = north + south - 1
        beyond = (row < 0) | (row >= rows)
        column = (west + east + np.where(beyond, columns // 2, 0)) % columns
        index[:, corner] = np.clip(row, 0, rows - 1) * columns + column
        weight[:, corner] = (toward_south if south else 1 - toward_south) * (
            toward_east if east else 1 - toward_east
        )
        across[:, corner] = beyond
    return InterpolationWeights(torch.from_numpy(index), torch.from_numpy(weight), torch.from_numpy(across))


def great_circle_km(lat1: np.ndarray, lon1: np.ndarray, lat2: np.ndarray, lon2: np.ndarray) -> np.ndarray:
    """Great-circle distance in km between points in degrees (haversine; broadcasts)."""
    phi1, phi2 = np.radians(lat1), np.radians(lat2)
    a = (
        np.sin((phi2 - phi1) / 2) ** 2
        + np.cos(phi1) * np.cos(phi2) * np.sin(np.radians(np.asarray(lon2) - lon1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(a, 0.0, 1.0)))


def unit_vectors(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """[P] degrees -> [P, 3] float64 on the unit sphere."""
    phi, lam = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def grid_vectors(grid: Grid) -> np.ndarray:
    """[H·W, 3] unit vectors of the grid points, row by row."""
    latitude, longitude = np.meshgrid(grid.latitude, grid.longitude, indexing="ij")
    return unit_vectors(latitude.ravel(), longitude.ravel())


def nearest_km(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Great-circle distance from each target [M, 3] to the nearest of the points [P, 3], [M] km."""
    chord, _ = cKDTree(points).query(targets)
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.clip(chord / 2, 0.0, 1.0))
