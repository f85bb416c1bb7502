"""The scales of the day, s(c), and the score that they are fitted by.

c is the background and its coverage (:mod:`vaevar.data.observations.coverage`). With x = (S U_p M)⁻¹ δ,
x = Σ_b e^{s_b(c)} ⊙ F_b y and noise of variance σ² in y, the evidence of a linear Gaussian model is

    −log p(δ | c) = Σ_b [ ½ Σ_{l in b} ‖(C_l + τ² I)^{−½} y_l‖² + N_b Σ_i ⟨s_bi⟩ ] + const,

with τ² = σ²/(lmax + 1)², N_b the number of modes of a band and ⟨·⟩ the mean over the sphere. The last term is
the log-determinant of multiplication by e^s within a band, which is that of its symbol for an s smooth
compared with the band (Szegő's theorem).

The score differs from this in two ways. First, the errors lack the noise σ, which keeps directions of almost
no variance out of the sum, and (S U_p M)⁻¹ is approximate. So each variable's power at each wavenumber is
divided by its mean over draws of U itself: where errors follow 3DVar's B, s = 0 is best. Second, the bands
have weights N_b^{−½}; each band's part is a proper score by itself. With equal weights the few modes of the
large scales, which make up most of an error, would hardly count and be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.models.spectral.context import ContextNetwork
from vaevar.models.spectral.modulation import Modulation
from vaevar.sphere.harmonics import SphericalHarmonics, quadrature_weights


class DayScales(nn.Module):
    """s(c), and how well it fits errors. Coefficients are in parts, [B, n, L, M, 2].

    Args:
        statistics: of B.
        harmonics: of the standardised variables.
        sigma: σ, in units of the standardised variables.
        widths, depth, maps, dropout: as in :class:`vaevar.models.spectral.context.ContextNetwork`.
        bands: as in :class:`vaevar.models.spectral.modulation.Modulation`.
        coverage_maps: number of coverage maps, K.

    Attributes:
        background_mean, background_std: [C, 1, 1], of the backgrounds; to be set.
        expected: [n, L], the power of draws of U at each wavenumber; to be set.

    Raises:
        ValueError: for bands that do not ascend from 0.
    """

    background_mean: Tensor
    background_std: Tensor
    whitening: Tensor
    expected: Tensor
    area: Tensor

    def __init__(
        self,
        statistics: CovarianceStatistics,
        harmonics: SphericalHarmonics,
        sigma: float,
        widths: Sequence[int],
        depth: int,
        maps: int,
        dropout: float,
        bands: Sequence[int],
        coverage_maps: int,
    ) -> None:
        super().__init__()
        count, grid = len(statistics.spec), statistics.grid
        self.context = ContextNetwork(
            count + coverage_maps, grid, tuple(widths), depth, maps, min(12, statistics.lmax), dropout
        )
        self.modulation = Modulation(harmonics, count, widths[0], bands)
        values, vectors = statistics.eigen()
        inverse = 1 / np.sqrt(values + (sigma / (statistics.lmax + 1)) ** 2)
        whitening = np.einsum("lik,lk,ljk->lij", vectors, inverse, vectors)
        area = torch.from_numpy(quadrature_weights(grid))
        self.register_buffer("whitening", torch.from_numpy(whitening).float(), persistent=False)
        self.register_buffer("area", (area / area.mean()).float()[:, None], persistent=False)
        self.register_buffer("expected", torch.ones(count, statistics.lmax + 1), persistent=False)
        self.register_buffer("background_mean", torch.zeros(count, 1, 1))
        self.register_buffer("background_std", torch.ones(count, 1, 1))

    def forward(self, background: Tensor, coverage: Tensor) -> Tensor:
        """s of the day, [B, b, n, H, W].

        Args:
            background: [B, C, H, W], physical units.
            coverage: [B, K, H, W].
        """
        context = self.context((background - self.background_mean) / self.background_std, coverage)
        with torch.autocast(context.device.type, enabled=False):
            return self.modulation.scales(context.float())

    def score(self, y: Tensor, scales: Tensor) -> Tensor:
        """−log p of errors, up to a constant, per latent number of each band: [B, b].

        Args:
            y: standardised errors divided by the scales, :meth:`Modulation.inverse` of x.
            scales: [B, b, n, H, W], s.
        """
        degrees = (self.white_power(y) / self.expected).sum(1)
        norms = torch.stack([degrees[:, low:high].sum(1) for low, high in self.modulation.spans], 1)
        volume = (scales * self.area).mean((3, 4)).sum(2)
        return (norms / 2 / norms.new_tensor(self.modulation.modes) + volume) / y.shape[1]

    def scored(self, x: Tensor, scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Errors divided by their scales, and what the scales are worth.

        Args:
            x: standardised errors.
            scales: [B, b, n, H, W], s.

        Returns:
            y, [B, n, L, M, 2]; the mean score over bands and samples; and by how much it is below that of
            s = 0, without a gradient. Both in nats per latent number.
        """
        y = self.modulation.inverse(x, scales)
        score = self.mean_over_bands(self.score(y, scales).mean(0))
        with torch.no_grad():
            before = self.mean_over_bands(self.score(x, torch.zeros_like(scales)).mean(0))
        return y, score, before - score.detach()

    def mean_over_bands(self, bands: Tensor) -> Tensor:
        """The mean of values per latent number, [..., b] -> [...], with weights √N_b."""
        weight = bands.new_tensor(self.modulation.modes).sqrt()
        return (bands * weight).sum(-1) / weight.sum()

    def white_power(self, y: Tensor) -> Tensor:
        """‖(C_l + τ² I)^{−½} y_l‖², [B, n, L]."""
        white = torch.einsum("lij,bjlmr->bilmr", self.whitening, y).square().sum(-1)
        return 2 * white.sum(-1) - white[..., 0]  # orders m and −m
