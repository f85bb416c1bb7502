"""U of 3DVar, from a spectral control vector with unit covariance to an increment; B = U Uᵀ.

    U = S U_p M U_v U_h:   w -> r_l = C_l^½ w_l -> recoloured by latitude -> balance and σ -> rescaled

The factors act from right to left. The usual formula U_p U_v U_h S has the standard deviations in S, at the
right. Here the standard deviations σ(φ) of the control variables are part of U_p, and S rescales each channel
and latitude so that the implied variance equals the calibrated one. It acts on the balanced result, so it
stands at the left.

- U_v U_h: for each total wavenumber l, a full covariance C_l between all control variables holds the
  vertical, the cross-variable and the horizontal covariance (Bannister, 2008, section 3). U_v U_h is its
  symmetric square root.
- M lets covariances depend on latitude (:class:`vaevar.models.covariance.local.LocalCovariance`).
- U_p multiplies by σ and adds the balanced part (:class:`vaevar.models.covariance.balance.Balance`).

w is packed as [n, (lmax + 1)²]: the coefficient (l, m) of a real field is at position l² + l + m, with
cosines at m > 0, zonal means at m = 0 and sines at m < 0, so that with r = C_l^½ w

    f_l0 = r_l0,      f_lm = (r_lm + i r_l,−m)/√2   for m > 0.

The mean square of the field over the sphere is then Σ r², and each r of degree l has the covariance C_l. U is
linear: w = 0 gives a zero increment.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.models.covariance.balance import Balance, to_latitudes
from vaevar.models.covariance.local import LocalCovariance
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


class CovarianceTransform(nn.Module):
    """U and an approximate left inverse.

    Args:
        statistics: the calibrated statistics. grid: the grid of the increments; by default that of the
        statistics. Statistics that depend on latitude
            are interpolated linearly, so that B is the same on any grid.
        dtype: float32 or float64.
        regularisation: ε of the inverse square root λ^½/(λ + ε λ_max) in :meth:`project`.

    Attributes:
        spec, grid: channels and points of the increments.
        shape: (n, (lmax + 1)²), the shape of w.

    Raises:
        ValueError: when the grid cannot carry the truncation of the statistics.
    """

    root: Tensor
    inverse_root: Tensor
    rescaling: Tensor
    position: Tensor
    factor: Tensor

    def __init__(
        self,
        statistics: CovarianceStatistics,
        grid: Grid | None = None,
        dtype: torch.dtype = torch.float32,
        regularisation: float = 1e-6,
    ) -> None:
        super().__init__()
        self.spec: StateSpec = statistics.spec
        self.grid = statistics.grid if grid is None else grid
        self.lmax = statistics.lmax
        self.balance = Balance(
            statistics.variables,
            statistics.grid,
            self.lmax,
            statistics.std,
            statistics.regression,
            self.grid,
            dtype,
        )
        self.local = LocalCovariance(statistics.windows, statistics.local, statistics.grid, dtype)
        values, vectors = statistics.eigen()
        damped = values + regularisation * values[:, -1:]
        inverse = np.divide(np.sqrt(values), damped, out=np.zeros_like(values), where=damped > 0)
        scale = to_latitudes(statistics.rescaling, statistics.grid.latitude, self.grid.latitude)
        for name, matrix in (
            ("root", np.einsum("lik,lk,ljk->lij", vectors, np.sqrt(values), vectors)),
            ("inverse_root", np.einsum("lik,lk,ljk->lij", vectors, inverse, vectors)),
            ("rescaling", scale),
        ):
            tensor = torch.from_numpy(np.ascontiguousarray(matrix)).to(dtype)
            self.register_buffer(name, tensor, persistent=False)
        position, factor = _packing(self.lmax)
        self.register_buffer("position", position, persistent=False)
        self.register_buffer("factor", factor.to(dtype), persistent=False)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.spec), (self.lmax + 1) ** 2

    def forward(self, w: Tensor) -> Tensor:
        """U w: [..., n, (lmax + 1)²] -> [..., C, H, W], physical units."""
        with torch.autocast(w.device.type, enabled=False):
            return self.balanced(self.coloured(w))

    def coloured(self, w: Tensor) -> Tensor:
        """U_v U_h w: [..., n, (lmax + 1)²] -> homogeneous variables r in parts, [..., n, L, M, 2]."""
        return torch.einsum("lij,...jlmr->...ilmr", self.root, self.unpack(w.to(self.root.dtype)))

    def balanced(self, coefficients: Tensor) -> Tensor:
        """S U_p M r: homogeneous variables in parts, [..., n, L, M, 2] -> [..., C, H, W], physical units."""
        return self.balance.field(self._waves(coefficients))

    def _waves(self, coefficients: Tensor, degree: int | None = None) -> Tensor:
        return self.balance(self.local(coefficients, degree)) * self.rescaling[..., None, None]

    def standardised(self, x: Tensor) -> Tensor:
        """An approximate inverse of :meth:`balanced`: [..., C, H, W] -> [..., n, L, M, 2]."""
        waves = self.balance.waves(x.to(self.root.dtype)) / self.rescaling[..., None, None]
        return self.local.inverse(self.balance.inverse(waves))

    def project(self, x: Tensor) -> Tensor:
        """An approximate left inverse of U: [..., C, H, W], physical units -> w, [..., n, (lmax + 1)²].

        It turns wind into ψ and χ, subtracts the balanced part, divides by σ, analyses, and applies M⁻¹ and
        C_l^−½. Parts beyond the truncation and along eigenvectors of almost no variance are lost.
        """
        with torch.autocast(x.device.type, enabled=False):
            coefficients = self.standardised(x)
            return self.pack(torch.einsum("lij,...jlmr->...ilmr", self.inverse_root, coefficients))

    def unpack(self, w: Tensor) -> Tensor:
        """[..., (lmax + 1)²] -> coefficients in parts [..., L, M, 2]."""
        return w.index_select(-1, self.position).unflatten(-1, self.factor.shape) * self.factor

    def pack(self, coefficients: Tensor) -> Tensor:
        """The inverse of :meth:`unpack`."""
        # Each place is filled once, since ``factor`` is 0 elsewhere; 2 · factor² = 1 where m > 0.
        weighted = coefficients * torch.where(self.factor > 0, 1 / self.factor, 0.0)
        out = weighted.new_zeros(*weighted.shape[:-3], (self.lmax + 1) ** 2)
        return out.index_add(-1, self.position, weighted.flatten(-3))

    @torch.no_grad()
    def implied_variance(self) -> Tensor:
        """The diagonal of B, [C, H]; exact, because U is homogeneous in longitude.

        A column of a square root of C_l passes through U with all orders m at once, since they remain
        separate zonal waves: Σ_m z_m e^{imλ}, with z_m linear in f_lm and E|f_lm|² = 1, has the variance
        |z_0|² + 2 Σ |z_m|².
        """
        variance = self.root.new_zeros(len(self.spec), self.grid.shape[0])
        twice = torch.where(torch.arange(self.lmax + 1) > 0, 2.0, 1.0).to(self.root)
        for degree in range(self.lmax + 1):
            values, vectors = torch.linalg.eigh(self.root[degree])
            columns = (vectors * values.clamp_min(0)).T[values > 1e-5 * values[-1].clamp_min(1e-30)]
            for block in columns.split(16):
                parts = block.new_zeros(*block.shape, self.lmax + 1, degree + 1, 2)  # m ≤ l
                parts[:, :, degree, :, 0] = block[..., None]
                waves = self._waves(parts, degree)
                variance += torch.einsum("kchmr,m->ch", waves.square(), twice[: degree + 1])
        return variance


def _packing(lmax: int) -> tuple[Tensor, Tensor]:
    """The positions in w of the parts of coefficients, [L · M · 2], and their factors, [L, M, 2]."""
    degree = torch.arange(lmax + 1)[:, None]
    order = torch.arange(lmax + 1)[None, :]
    inside, centre = order <= degree, degree**2 + degree
    position = torch.stack([centre + order, centre - order], -1) * inside[..., None]
    waves = (order > 0).double() * inside
    cosine = waves * 0.5**0.5 + (order == 0).double()
    return position.flatten(), torch.stack([cosine * inside, waves * 0.5**0.5], -1)
