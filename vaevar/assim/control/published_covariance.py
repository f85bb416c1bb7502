"""The control transform of the published 3DVar: D(w) = U w with assumed correlations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vaevar.assim.control.base import ControlTransform
from vaevar.constants import EARTH_RADIUS_KM
from vaevar.errors import UserError
from vaevar.models.covariance.balance import ControlVariables
from vaevar.models.covariance.published import PublishedStatistics
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.sphere.wind import VectorHarmonics

# Levels in which an assumed vertical correlation falls to 1/e, whatever their distance in pressure.
_LEVELS = 1.0


class PublishedCovarianceControl(ControlTransform):
    """D(w) = U w of :mod:`vaevar.models.covariance.published`.

    w is [n, L, M, 2], the real and imaginary parts of n control variables at L = M = lmax + 1 wavenumbers;
    those that no real field has do nothing.

    Args:
        statistics: path of the netCDF file that ``configs/published_covariance.yaml`` calibrates, or
            statistics already in memory.
        length_km: L of the horizontal correlation exp(−r²/2L²). It is tuned by hand in the published method;
            here on the validation period (``configs/tune_published.yaml``).
        dtype: precision of U.

    Raises:
        UserError: for a file that is missing, damaged or of another kind, or a length that is not positive or
            so large that nothing varies.
    """

    root: Tensor
    coefficients: Tensor
    horizontal: Tensor
    order: Tensor

    def __init__(
        self,
        statistics: str | Path | PublishedStatistics,
        length_km: float,
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        super().__init__()
        if not isinstance(statistics, PublishedStatistics):
            statistics = PublishedStatistics.load(statistics)
        if not (length_km > 0 and math.isfinite(length_km)):
            raise UserError(f"PublishedCovarianceControl: length_km is {length_km}, must be positive")
        if length_km > EARTH_RADIUS_KM:
            raise UserError(
                f"PublishedCovarianceControl: length_km is {length_km}, expected less than the "
                f"Earth's radius, {EARTH_RADIUS_KM:.0f} km: is it in metres?"
            )
        self.spec, self.grid, self.lmax = statistics.spec, statistics.grid, statistics.lmax
        self.variables, self.length_km = statistics.variables, length_km
        precision: torch.dtype = getattr(torch, dtype)
        self.winds = VectorHarmonics(self.grid, self.lmax, precision)
        self.scalar = SphericalHarmonics(self.grid, self.lmax, precision)
        root = np.linalg.cholesky(vertical_correlation(self.variables)) * statistics.std[:, None]
        regression = np.zeros((len(self.spec), self.variables.psi_count))
        has = statistics.partner >= 0
        regression[has, statistics.partner[has]] = statistics.coefficient[has]
        order, degree = torch.arange(self.lmax + 1), torch.arange(self.lmax + 1)[:, None]
        # E|f_lm|² = g_l²: real and imaginary part have half of it each, but for m = 0.
        parts = torch.stack([torch.where(order > 0, 0.5**0.5, 1.0), (order > 0) * 0.5**0.5], -1).double()
        inside = (order <= degree)[..., None]
        spectrum = torch.from_numpy(horizontal_std(self.lmax, length_km))[:, None, None]
        for name, tensor in (
            ("root", torch.from_numpy(root)),
            ("coefficients", torch.from_numpy(regression)),
            ("horizontal", spectrum * inside * parts),
        ):
            self.register_buffer(name, tensor.to(precision), persistent=False)
        self.register_buffer("order", torch.tensor(self.variables.channel_order), persistent=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.spec), self.lmax + 1, self.lmax + 1, 2

    def forward(self, w: Tensor) -> Tensor:
        """[n, L, M, 2] -> [C, H, W] in physical units, in the precision of U."""
        p, w = self.variables.psi_count, w.to(self.root.dtype)
        independent = torch.einsum("ij,jlmr->ilmr", self.root, w * self.horizontal)
        total = independent + torch.einsum("ip,plmr->ilmr", self.coefficients, independent[:p])
        complex_ = torch.view_as_complex(total.contiguous())
        others = self.scalar.synthesise(complex_[2 * p :])
        u, v = self.winds.synthesise(complex_[:p], complex_[p : 2 * p]) if p else (others[:0], others[:0])
        return torch.cat([u, v, others]).index_select(0, self.order)


def vertical_correlation(variables: ControlVariables) -> np.ndarray:
    """[n, n]: exp(−|i − j|) between the i-th and the j-th level of a variable, 0 between variables.

    ψ and χ count the levels that have both winds; the surface is no level.
    """
    winds = [(name[:3], name[3:]) for name in variables.names[: 2 * variables.psi_count]]
    channels = [variables.spec.channels[i] for i in variables.others]
    labels = winds + [(channel.variable, str(channel.level)) for channel in channels]
    rank = {str(level): number for number, level in enumerate(variables.spec.levels)}
    out = np.eye(len(labels))
    for i, (first, low) in enumerate(labels):
        for j, (second, high) in enumerate(labels):
            if first == second and low in rank and high in rank:
                out[i, j] = np.exp(-abs(rank[low] - rank[high]) / _LEVELS)
    return out


def horizontal_std(lmax: int, length_km: float) -> np.ndarray:
    """[L] std of a coefficient: g_l² ∝ exp(−l(l + 1) L²/2a²), Σ (2l + 1) g_l² = 1.

    On the plane the transform of exp(−r²/2L²) is a Gaussian; on the sphere k² becomes l(l + 1)/a² (Weaver
    and Courtier, 2001).
    """
    degree = np.arange(lmax + 1)
    power = np.exp(-degree * (degree + 1) * (length_km / EARTH_RADIUS_KM) ** 2 / 2)
    return np.sqrt(power / ((2 * degree + 1) * power).sum())
