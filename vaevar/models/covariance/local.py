"""M of 3DVar's U: covariances that depend on latitude and scale together.

A covariance C_l for each total wavenumber is the same at all latitudes, and standard deviations that depend
on latitude are the same for all scales. Errors are different: vertical structures in the tropics are not
those in the storm tracks, and more of the tropics' variance is in large scales. With smooth windows F_b(l)
onto a few bands of wavenumbers, Σ_b F_b = 1, homogeneous fields r are recoloured at each latitude,

    x(φ) = Σ_b M_b(φ) (F_b r)(φ),      M_b(φ) C̄_b M_b(φ)ᵀ = Ĉ_b(φ),

where Ĉ_b(φ) is the samples' covariance of F_b x at that latitude, and C̄_b = Σ_l (2l + 1) F_b(l)² C_l that of
F_b r at all latitudes. This is the idea of wavelet-B (Fisher, 2003, ECMWF seminar on data assimilation), with
a single control vector. Of all matrices with this property the symmetric M_b is nearest to the identity: it
is the optimal transport between two Gaussians (Dowson and Landau, 1982). Shapes as in
:mod:`vaevar.models.covariance.balance`; b bands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.sphere.wind import to_coefficients, to_waves

LIMITS = (0.2, 5.0)  # of the eigenvalues of M_b; estimates beyond are sampling noise


def band_windows(lmax: int, centres: Sequence[int]) -> np.ndarray:
    """F_b(l), [b, lmax + 1]: triangles in log(l + 1) between the centres, constant beyond the outer ones.

    Args:
        lmax: triangular truncation.
        centres: ascending wavenumbers; those beyond lmax are dropped.

    Raises:
        ValueError: when the centres do not ascend, or none is within the truncation.
    """
    within = [centre for centre in centres if 0 <= centre <= lmax]
    if not within or list(centres) != sorted(set(centres)):
        raise ValueError(f"band centres {list(centres)} must ascend, and one must be within 0 and {lmax}")
    centre, degree = np.log1p(within), np.log1p(np.arange(lmax + 1))
    return np.stack([np.interp(degree, centre, unit) for unit in np.eye(len(within))])


def transport(mean: np.ndarray, local: np.ndarray, fraction: float) -> np.ndarray:
    """The symmetric M with M C̄ M = Ĉ among the leading EOFs of C̄, and the identity among the other EOFs.

    Args:
        mean: [n, n], C̄.
        local: [..., n, n], Ĉ.
        fraction: fraction of the variance that the leading EOFs explain.

    Returns:
        M, [..., n, n], with eigenvalues within :data:`LIMITS`.
    """
    values, vectors = np.linalg.eigh(mean)
    values, vectors = values[::-1], vectors[:, ::-1]
    leading = int(np.searchsorted(np.cumsum(values) / values.sum(), fraction - 1e-12)) + 1
    vectors, size = vectors[:, :leading], np.sqrt(values[:leading])
    projected = np.einsum("ik,...ij,jl->...kl", vectors, local, vectors)
    inner = _with_eigenvalues(
        projected * size[:, None] * size, lambda eigenvalues: np.sqrt(eigenvalues.clip(0))
    )
    within = _with_eigenvalues(inner / size[:, None] / size, lambda eigenvalues: eigenvalues.clip(*LIMITS))
    return np.eye(len(mean)) + vectors @ (within - np.eye(leading)) @ vectors.T


def _with_eigenvalues(matrix: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a function to the eigenvalues of a symmetric matrix [..., n, n]."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * change(values)[..., None, :]) @ vectors.swapaxes(-1, -2)


class LocalCovariance(nn.Module):
    """M: from r to x and, approximately, back; linear. Both are coefficients in parts, [..., n, L, M, 2].

    Args:
        windows: [b, L], F_b.
        matrices: [b, H, n, n], M_b.
        grid: the grid with the H latitudes.
        dtype: float32 or float64.

    Raises:
        ValueError: when the grid cannot carry the truncation.
    """

    def __init__(
        self, windows: np.ndarray, matrices: np.ndarray, grid: Grid, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.harmonics = SphericalHarmonics(grid, windows.shape[1] - 1, dtype)
        # Each band needs only the wavenumbers within its window.
        self.spans = [(int(used[0]), int(used[-1]) + 1) for used in (np.flatnonzero(row) for row in windows)]
        for name, values in (
            ("windows", windows),
            ("matrices", matrices),
            ("inverses", np.linalg.inv(matrices)),
        ):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)).to(dtype), False)

    windows: Tensor
    matrices: Tensor
    inverses: Tensor

    def forward(self, coefficients: Tensor, degree: int | None = None) -> Tensor:
        """M r.

        Args:
            coefficients: r.
            degree: the only l at which r is not 0; None: any.
        """
        spans = self.spans if degree is None else [_at(degree, *span) for span in self.spans]
        return self._apply_all(self.matrices, coefficients, spans)

    def inverse(self, coefficients: Tensor) -> Tensor:
        """The same with M_b⁻¹ in place of M_b; exact if M_b is the same for all latitudes and bands."""
        return self._apply_all(self.inverses, coefficients, self.spans)

    def _apply_all(self, matrices: Tensor, coefficients: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
        synthesis = self.harmonics.synthesis_matrix
        waves = coefficients.new_zeros(*coefficients.shape[:-3], synthesis.shape[2], *coefficients.shape[-2:])
        for window, matrix, (low, high) in zip(self.windows, matrices, spans, strict=True):
            if low == high:
                continue
            band = coefficients[..., low:high, :high, :] * window[low:high, None, None]
            band_waves = to_waves(synthesis[:high, low:high], band)
            coloured = torch.einsum("hij,...jhmr->...ihmr", matrix, band_waves)
            waves = torch.cat([waves[..., :high, :] + coloured, waves[..., high:, :]], -2)
        return to_coefficients(self.harmonics.analysis_matrix, waves)


def _at(degree: int, low: int, high: int) -> tuple[int, int]:
    """What a span has in common with one degree; empty if nothing."""
    return (degree, degree + 1) if low <= degree < high else (0, 0)
