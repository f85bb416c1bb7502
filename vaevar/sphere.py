"""Grids on the sphere, their area weights, interpolation weights and spherical harmonics.

Latitudes run from north to south and longitudes eastward from 0, in degrees. Three families are
known: equiangular grids that include both poles (721 × 1440, 0.25°), equiangular grids of cells
(128 × 256, 1.40625°) and Gaussian grids (48 × 96, the embedded world). Others work wherever no
spectral transform is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

EARTH_RADIUS_KM = 6371.0


@dataclass(frozen=True, eq=False)
class Grid:
    """A latitude × longitude grid.

    Attributes:
        latitude: [H] degrees, strictly descending.
        longitude: [W] degrees, evenly spaced over the circle, the first in [0, 360/W).

    Raises:
        ValueError: when latitudes do not descend within [−90, 90], or longitudes are not even.
    """

    latitude: np.ndarray
    longitude: np.ndarray

    def __post_init__(self) -> None:
        latitude = np.asarray(self.latitude, dtype=np.float64)
        longitude = np.asarray(self.longitude, dtype=np.float64)
        object.__setattr__(self, "latitude", latitude)
        object.__setattr__(self, "longitude", longitude)
        if latitude.ndim != 1 or latitude.size < 2 or not np.all(np.diff(latitude) < 0):
            raise ValueError("latitude must descend, from north to south")
        if latitude[0] > 90 + 1e-6 or latitude[-1] < -90 - 1e-6:
            raise ValueError(f"latitude spans [{latitude[-1]}, {latitude[0]}], beyond the poles")
        spacing = 360.0 / max(longitude.size, 1)
        even = longitude[:1] + spacing * np.arange(longitude.size)
        if longitude.ndim != 1 or longitude.size < 2 or not np.allclose(longitude, even, atol=1e-3):
            raise ValueError("longitude must run eastward around the circle in even steps")
        if not -1e-6 <= longitude[0] < spacing:
            raise ValueError(f"longitude starts at {longitude[0]}, expected 0 to {spacing:g}")

    @classmethod
    def equiangular(cls, nlat: int, nlon: int | None = None) -> Grid:
        """``nlat`` latitudes from pole to pole (both included), ``2(nlat − 1)`` longitudes."""
        nlon = 2 * (nlat - 1) if nlon is None else nlon
        return cls(np.linspace(90.0, -90.0, nlat), np.arange(nlon) * (360.0 / nlon))

    @classmethod
    def cells(cls, nlat: int, nlon: int | None = None) -> Grid:
        """Centres of ``nlat`` equal steps in latitude, no poles; ``2 nlat`` longitudes."""
        nlon = 2 * nlat if nlon is None else nlon
        return cls(90.0 - (np.arange(nlat) + 0.5) * (180.0 / nlat), np.arange(nlon) * (360.0 / nlon))

    @classmethod
    def gaussian(cls, nlat: int, nlon: int | None = None) -> Grid:
        """``nlat`` Gaussian latitudes (roots of the Legendre polynomial), ``2 nlat`` longitudes."""
        nlon = 2 * nlat if nlon is None else nlon
        nodes, _ = np.polynomial.legendre.leggauss(nlat)
        return cls(np.degrees(np.arcsin(nodes))[::-1], np.arange(nlon) * (360.0 / nlon))

    @property
    def shape(self) -> tuple[int, int]:
        return self.latitude.size, self.longitude.size

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Grid)
            and self.shape == other.shape
            and np.allclose(self.latitude, other.latitude, atol=1e-3)
            and np.allclose(self.longitude, other.longitude, atol=1e-3)
        )

    def __hash__(self) -> int:
        return hash(self.shape)

    def __repr__(self) -> str:
        families = {"Gaussian": self.is_gaussian, "equiangular": self.is_equiangular, "cells": self.is_cells}
        kind = next((name for name, member in families.items() if member), "regular")
        return f"Grid({self.shape[0]} × {self.shape[1]}, {kind})"

    @cached_property
    def is_gaussian(self) -> bool:
        nodes, _ = np.polynomial.legendre.leggauss(self.shape[0])
        return bool(np.allclose(self.latitude[::-1], np.degrees(np.arcsin(nodes)), atol=1e-3))

    @cached_property
    def is_equiangular(self) -> bool:
        return bool(np.allclose(self.latitude, np.linspace(90.0, -90.0, self.shape[0]), atol=1e-3))

    @cached_property
    def is_cells(self) -> bool:
        rows = self.shape[0]
        return bool(np.allclose(self.latitude, 90.0 - (np.arange(rows) + 0.5) * (180.0 / rows), atol=1e-3))

    @cached_property
    def area_weights(self) -> Tensor:
        """[H] float64, mean 1: sin(upper edge) − sin(lower edge) of each latitude band."""
        middle = (self.latitude[1:] + self.latitude[:-1]) / 2
        edges = np.sin(np.radians(np.concatenate([[90.0], middle, [-90.0]])))
        weights = edges[:-1] - edges[1:]
        return torch.from_numpy(weights / weights.mean())

    def area_mean(self, field: Tensor) -> Tensor:
        """Mean over the sphere, [..., H, W] -> [...]."""
        weights = self.area_weights.to(field.device, field.dtype)
        return (field.mean(-1) * weights).mean(-1)


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
    """Bilinear weights in latitude and longitude, cyclic, and continued across the poles.

    Poleward of the last row of a grid without poles the next row is that same row on the other
    side of the pole, half a circle away.

    Args:
        grid: where the field lives.
        latitude, longitude: [P] degrees; any longitude is wrapped.

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
    # One virtual row beyond each pole (its mirror image) makes every point an interior point.
    padded = np.concatenate([[180.0 - grid.latitude[0]], grid.latitude, [-180.0 - grid.latitude[-1]]])
    # Northern edge of the box that holds each point; padded descends, searchsorted wants ascent.
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
    """[H·W, 3] unit vectors of the grid's points, row by row."""
    latitude, longitude = np.meshgrid(grid.latitude, grid.longitude, indexing="ij")
    return unit_vectors(latitude.ravel(), longitude.ravel())


def nearest_km(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Great-circle distance from each target [M, 3] to the nearest of the points [P, 3], [M] km."""
    chord, _ = cKDTree(points).query(targets)
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.clip(chord / 2, 0.0, 1.0))


def quadrature_weights(grid: Grid) -> np.ndarray:
    """[H] weights of ∫ f d(sin φ): Gauss-Legendre, Clenshaw-Curtis or (equiangular cells) Fejér.

    Raises:
        ValueError: for a grid of another family.
    """
    n = grid.shape[0]
    if grid.is_gaussian:
        return np.polynomial.legendre.leggauss(n)[1][::-1].copy()
    if grid.is_cells:
        # Fejér's first rule: the cosine series through the midpoints in colatitude, integrated exactly.
        theta = (np.arange(n) + 0.5) * np.pi / n
        k = np.arange(1, n // 2 + 1)
        series = (np.cos(2 * k[None] * theta[:, None]) / (4 * k[None] ** 2 - 1)).sum(1)
        return np.asarray(2.0 / n * (1 - 2 * series))
    if not grid.is_equiangular:
        raise ValueError(f"{grid} is neither Gaussian nor equiangular")
    # Clenshaw-Curtis: integrate the cosine series in colatitude exactly.
    theta = np.linspace(0.0, np.pi, n)
    k = np.arange(1, (n - 1) // 2 + 1)
    b = np.where(2 * k == n - 1, 1.0, 2.0)
    weights = 1.0 - (b[None] / (4 * k[None] ** 2 - 1) * np.cos(2 * k[None] * theta[:, None])).sum(1)
    weights *= 2.0 / (n - 1)
    weights[[0, -1]] /= 2
    return weights


def normalized_legendre(lmax: int, x: np.ndarray) -> np.ndarray:
    """Associated Legendre functions P̄_l^m(x), [M, L, N], with ½∫ P̄² dx = 1 (zero where l < m).

    Holmes and Featherstone (2002), standard forward column recursion, in float64.
    """
    x = np.asarray(x, dtype=np.float64)
    out = np.zeros((lmax + 1, lmax + 1, x.size))
    sine = np.sqrt(np.clip(1 - x**2, 0.0, None))
    sectoral = np.ones_like(x)
    for m in range(lmax + 1):
        if m > 0:
            sectoral = sectoral * sine * np.sqrt((2 * m + 1) / (2 * m))
        out[m, m] = sectoral
        if m < lmax:
            out[m, m + 1] = np.sqrt(2 * m + 3) * x * sectoral
        for degree in range(m + 2, lmax + 1):
            a = np.sqrt((4 * degree**2 - 1) / (degree**2 - m**2))
            b = np.sqrt(((degree - 1) ** 2 - m**2) / (4 * (degree - 1) ** 2 - 1))
            out[m, degree] = a * (x * out[m, degree - 1] - b * out[m, degree - 2])
    return out


class SphericalHarmonics(nn.Module):
    """Scalar spherical-harmonic analysis and synthesis by an FFT and a Legendre matrix product.

    f(λ, φ) = Σ_l Σ_|m|≤l  f_lm P̄_l^|m|(sin φ) e^{imλ}; real fields keep m ≥ 0. With this
    normalisation the mean of f² over the sphere is Σ_l (|f_l0|² + 2 Σ_{m>0} |f_lm|²).

    Args:
        grid: Gaussian or equiangular.
        lmax: truncation (triangular); at most W/2 − 1, and H − 1 on a Gaussian or (H − 1)/2 on an
            equiangular grid, up to which the quadrature is exact.
        dtype: float32 or float64.

    Raises:
        ValueError: for another grid family, or a truncation the grid cannot carry.
    """

    synthesis_matrix: Tensor
    analysis_matrix: Tensor

    def __init__(self, grid: Grid, lmax: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        rows, columns = grid.shape
        limit = min(rows - 1 if grid.is_gaussian else (rows - 1) // 2, columns // 2 - 1)
        if not 0 <= lmax <= limit:
            raise ValueError(f"lmax {lmax} is outside [0, {limit}] for {grid}")
        self.grid, self.lmax = grid, lmax
        legendre = normalized_legendre(lmax, np.sin(np.radians(grid.latitude)))
        analysis = legendre * quadrature_weights(grid) / 2
        self.register_buffer("synthesis_matrix", torch.from_numpy(legendre).to(dtype), persistent=False)
        self.register_buffer("analysis_matrix", torch.from_numpy(analysis).to(dtype), persistent=False)

    def analyse(self, field: Tensor) -> Tensor:
        """[..., H, W] real -> [..., L, M] complex coefficients f_lm."""
        waves = torch.fft.rfft(field, dim=-1, norm="forward")[..., : self.lmax + 1]
        parts = torch.view_as_real(waves)
        out = torch.einsum("mlh,...hmr->...lmr", self.analysis_matrix.to(field.dtype), parts)
        return torch.view_as_complex(out.contiguous())

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """[..., L, M] complex -> [..., H, W] real."""
        parts = torch.view_as_real(coefficients)
        matrix = self.synthesis_matrix.to(parts.dtype)
        waves = torch.einsum("mlh,...lmr->...hmr", matrix, parts)
        return torch.fft.irfft(
            torch.view_as_complex(waves.contiguous()), n=self.grid.shape[1], dim=-1, norm="forward"
        )

    def power(self, field: Tensor) -> Tensor:
        """Power by total wavenumber, [..., H, W] -> [..., L].

        Its sum is the mean square over the sphere, of a field that the truncation carries.
        """
        squared = self.analyse(field).abs().square()
        squared[..., 1:] *= 2
        return squared.sum(-1)
