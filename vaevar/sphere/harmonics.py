"""Scalar spherical harmonics, with a quadrature that makes the analysis exact."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.sphere.grid import Grid


def quadrature_weights(grid: Grid) -> np.ndarray:
    """[H] weights of ∫ f d(sin φ): Gauss-Legendre, Clenshaw-Curtis or (equiangular cells) Fejér.

    Where the south pole is left out, the polynomial through the other rows stands for it.

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
    if grid.lacks_south_pole:
        weights = _clenshaw_curtis(n + 1)
        signs = -2.0 * (-1.0) ** (n - np.arange(n))
        signs[0] /= 2
        return weights[:-1] + weights[-1] * signs
    if not grid.is_equiangular:
        raise ValueError(f"{grid} is neither Gaussian nor equiangular")
    return _clenshaw_curtis(n)


def _clenshaw_curtis(n: int) -> np.ndarray:
    """[n] weights of the colatitudes from pole to pole: their cosine series is integrated exactly."""
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

    f(λ, φ) = Σ_l Σ_|m|≤l  f_lm P̄_l^|m|(sin φ) e^{imλ}; a real field needs only m ≥ 0. With this
    normalisation the mean of f² over the sphere is Σ_l (|f_l0|² + 2 Σ_{m>0} |f_lm|²).

    Args:
        grid: of a family that :func:`quadrature_weights` knows.
        lmax: triangular truncation. The quadrature is exact up to W/2 − 1 and up to H − 1 on a Gaussian
            or (H − 1)/2 on another grid.
        dtype: float32 or float64.

    Raises:
        ValueError: for another grid family, or a truncation that the grid cannot represent.
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

        Its sum is the mean square over the sphere of a field that the truncation represents.
        """
        squared = self.analyse(field).abs().square()
        squared[..., 1:] *= 2
        return squared.sum(-1)


def largest_truncation(grid: Grid) -> int:
    """The largest triangular truncation that a grid carries."""
    rows, columns = grid.shape
    return min(rows - 1 if grid.is_gaussian else (rows - 1) // 2, columns // 2 - 1)
