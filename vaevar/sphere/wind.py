"""Vector spherical harmonics: wind from streamfunction and velocity potential, and back.

    u = −(1/a) ∂ψ/∂φ + 1/(a cos φ) ∂χ/∂λ,      v = 1/(a cos φ) ∂ψ/∂λ + (1/a) ∂χ/∂φ.

The analysis projects (u, v) on the gradients of the harmonics, which are orthogonal with norm l(l + 1)/a²:
vorticity and divergence integrated by parts (Temperton, 1991). Neither direction divides by cos φ, so the
poles need no special care.

*Parts* are complex numbers as a last axis of two reals. The Legendre sums, and everything that depends on
latitude alone, are then plain matrix products.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.constants import EARTH_RADIUS
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics, normalized_legendre, quadrature_weights


def to_waves(matrix: Tensor, parts: Tensor) -> Tensor:
    """Σ_l matrix[m, l, h] · parts: [..., L, M, 2] -> waves of each latitude [..., H, M, 2].

    The first M orders m will do: what the others would be multiplied with may be left out.
    """
    return torch.einsum("mlh,...lmr->...hmr", matrix[: parts.shape[-2]], parts)


def to_coefficients(matrix: Tensor, parts: Tensor) -> Tensor:
    """Σ_h matrix[m, l, h] · parts: [..., H, M, 2] -> [..., L, M, 2], for the first M orders m."""
    return torch.einsum("mlh,...hmr->...lmr", matrix[: parts.shape[-2]], parts)


def waves_of(field: Tensor, count: int) -> Tensor:
    """[..., H, W] real -> the first ``count`` zonal waves in parts, [..., H, M, 2]."""
    return torch.view_as_real(torch.fft.rfft(field, dim=-1, norm="forward")[..., :count])


def field_of(parts: Tensor, columns: int) -> Tensor:
    """Waves in parts [..., H, M, 2] -> [..., H, W] real."""
    return torch.fft.irfft(torch.view_as_complex(parts.contiguous()), n=columns, dim=-1, norm="forward")


def times_i(parts: Tensor) -> Tensor:
    """i · parts."""
    return torch.stack([-parts[..., 1], parts[..., 0]], -1)


def legendre_gradients(lmax: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """dP̄_l^m(sin φ)/dφ and m P̄_l^m/cos φ at x = sin φ, each [M, L, N]; regular at the poles.

    From the recurrences in the order m (Abramowitz and Stegun, 8.5), normalised as in
    :func:`vaevar.sphere.harmonics.normalized_legendre`.
    """
    legendre = normalized_legendre(lmax + 1, x)
    m, degree = np.arange(lmax + 1)[:, None], np.arange(lmax + 1)[None, :]
    inside = degree >= m

    def root(value: np.ndarray) -> np.ndarray:
        return np.sqrt(np.clip(np.where(inside, value, 0), 0, None))[..., None]

    above = legendre[1:, :-1]  # order m + 1, degree l
    below = np.concatenate([-legendre[1:2, :-1], legendre[:-2, :-1]])  # order m − 1; −P̄^1 for m = 0
    derivative = 0.5 * (
        root((degree - m) * (degree + m + 1)) * above - root((degree + m) * (degree - m + 1)) * below
    )
    # The same for degree l − 1.
    before_above = np.concatenate([np.zeros_like(above[:, :1]), above[:, :-1]], 1)
    before_below = np.concatenate([np.zeros_like(below[:, :1]), below[:, :-1]], 1)
    zonal = 0.5 * (
        root((degree - m) * (degree - m - 1)) * before_above
        + root((degree + m) * (degree + m - 1)) * before_below
    )
    ratio = np.sqrt((2 * degree + 1) / np.maximum(2 * degree - 1, 1))[..., None]
    return derivative, np.where(m[..., None] > 0, zonal * ratio, 0.0)


class VectorHarmonics(nn.Module):
    """(ψ, χ) <-> (u, v) by an FFT and Legendre matrix products.

    Coefficients are those of :class:`vaevar.sphere.harmonics.SphericalHarmonics`, [..., L, M] complex, in
    m² s⁻¹; winds are in m s⁻¹. Exact for fields that the truncation represents; ψ and χ have mean 0.

    Args:
        grid: Gaussian or equiangular with poles.
        lmax: triangular truncation, within the limits of ``SphericalHarmonics``.
        dtype: float32 or float64.

    Raises:
        ValueError: for another grid family, or a truncation that the grid cannot represent.
    """

    meridional: Tensor
    zonal: Tensor
    meridional_analysis: Tensor
    zonal_analysis: Tensor

    def __init__(self, grid: Grid, lmax: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.scalar = SphericalHarmonics(grid, lmax, dtype)
        self.grid, self.lmax = grid, lmax
        meridional, zonal = legendre_gradients(lmax, np.sin(np.radians(grid.latitude)))
        degree = np.arange(lmax + 1)[None, :, None]
        inverse = np.where(degree > 0, EARTH_RADIUS / np.maximum(degree * (degree + 1), 1), 0.0)
        weights = inverse * quadrature_weights(grid) / 2
        for name, matrix in (
            ("meridional", meridional / EARTH_RADIUS),
            ("zonal", zonal / EARTH_RADIUS),
            ("meridional_analysis", meridional * weights),
            ("zonal_analysis", zonal * weights),
        ):
            self.register_buffer(name, torch.from_numpy(matrix).to(dtype), persistent=False)

    def wind_waves(self, psi: Tensor, chi: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients in parts, [..., L, M, 2] each -> u and v, [..., H, M, 2] each."""
        u = times_i(to_waves(self.zonal, chi)) - to_waves(self.meridional, psi)
        v = times_i(to_waves(self.zonal, psi)) + to_waves(self.meridional, chi)
        return u, v

    def potential_coefficients(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Waves in parts, [..., H, M, 2] each -> ψ and χ, [..., L, M, 2] each."""
        meridional, zonal = self.meridional_analysis, self.zonal_analysis
        psi = -times_i(to_coefficients(zonal, v)) - to_coefficients(meridional, u)
        chi = -times_i(to_coefficients(zonal, u)) + to_coefficients(meridional, v)
        return psi, chi

    def synthesise(self, psi: Tensor, chi: Tensor) -> tuple[Tensor, Tensor]:
        """ψ and χ, [..., L, M] complex -> u and v, [..., H, W]."""
        u, v = self.wind_waves(torch.view_as_real(psi), torch.view_as_real(chi))
        return field_of(u, self.grid.shape[1]), field_of(v, self.grid.shape[1])

    def analyse(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """u and v, [..., H, W] -> ψ and χ, [..., L, M] complex."""
        count = self.lmax + 1
        psi, chi = self.potential_coefficients(waves_of(u, count), waves_of(v, count))
        return torch.view_as_complex(psi.contiguous()), torch.view_as_complex(chi.contiguous())

    def wind(self, psi: Tensor, chi: Tensor) -> tuple[Tensor, Tensor]:
        """Fields ψ and χ, [..., H, W] -> u and v, [..., H, W]."""
        return self.synthesise(self.scalar.analyse(psi), self.scalar.analyse(chi))

    def potentials(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """u and v, [..., H, W] -> fields ψ and χ, [..., H, W]."""
        psi, chi = self.analyse(u, v)
        return self.scalar.synthesise(psi), self.scalar.synthesise(chi)
