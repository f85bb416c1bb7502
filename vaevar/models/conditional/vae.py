"""The conditional VAE: the background's error, given the background and where it was observed before.

    p(w) = N(0, I),   δ | w, c  =  D(w; c) + noise,   D(w; c) = S U_p M Σ_b e^{s_b(c)} ⊙ F_b U_v U_h w

The context c is the background x_b and its coverage (:mod:`vaevar.data.observations.coverage`). D starts as
U = S U_p M U_v U_h of 3DVar (:mod:`vaevar.models.covariance.transform`). It learns how the size of the day's
errors differs from the homogeneous and stationary errors of U, for each variable, place and band b of total
wavenumbers (F_b).

D is linear in w, so the posterior of w is a Gaussian that need not be learned: the encoder of Kingma and
Welling's VAE (2014) is exact, and the evidence lower bound is the evidence itself. With x = (S U_p M)⁻¹ δ,
x = Σ_b e^{s_b} ⊙ F_b y and noise of variance σ² in y,

    −log p(δ | c) = Σ_b [ ½ Σ_{l in b} ‖(C_l + τ² I)^{−½} y_l‖² + N_b Σ_i ⟨s_bi⟩ ] + const,

with τ² = σ²/(lmax + 1)², N_b the number of modes of a band and ⟨·⟩ the mean over the sphere. The last term is
the log-determinant of multiplication by e^s within a band, which is that of its symbol for an s smooth
compared with the band (Szegő's theorem).

The loss differs from this in two ways. First, the errors lack the noise σ, which keeps directions of almost
no variance out of the sum, and (S U_p M)⁻¹ is approximate. So each variable's power at each wavenumber is
divided by its mean over draws of U itself: where errors follow 3DVar's B, s = 0 is best. Second, the bands
have weights N_b^{−½}; each band's part is a proper score by itself. With equal weights the few modes of the
large scales, which make up most of an error, would hardly count and be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from vaevar.errors import UserError
from vaevar.mistakes.bounds import require_at_least, require_positive
from vaevar.models.conditional.network import ContextNetwork, Modulation
from vaevar.models.covariance.based import BasedOnCovariance
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.models.covariance.transform import CovarianceTransform
from vaevar.models.training.optimisation import ClippedModule, adamw, total_steps, warmup_cosine
from vaevar.plausible.statistics import judge_means, judge_stds
from vaevar.sphere.harmonics import quadrature_weights
from vaevar.state import difference


class ConditionalVAE(ClippedModule, BasedOnCovariance):
    """p(truth − background | background, coverage).

    Args:
        covariance: file of the statistics of 3DVar's B, on the grid of the samples.
        widths, depth, maps, dropout: as in :class:`vaevar.models.conditional.network.ContextNetwork`.
        bands: as in :class:`vaevar.models.conditional.network.Modulation`.
        sigma: σ, in units of the standardised variables.
        learning_rate, weight_decay: of AdamW.
        warmup_steps: optimiser steps of the linear warm-up, which a cosine to 0 follows.
        coverage_maps: number of coverage maps, K.

    Attributes:
        spec, grid: of backgrounds and errors.
        background_mean, background_std: [C, 1, 1], taken from the data module when the fit begins, and
            stored in every checkpoint, as is the checksum of the statistics.

    Raises:
        UserError: for statistics that are missing or damaged, or a setting out of range.
    """

    weights_format, kind = "vaevar-conditional-vae-2", "conditional VAE"
    training_config = "configs/conditional_vae.yaml"
    judged: ClassVar = {"background_mean": judge_means, "background_std": judge_stds}

    background_mean: Tensor
    background_std: Tensor
    whitening: Tensor
    band_modes: Tensor
    expected: Tensor
    area: Tensor

    def __init__(
        self,
        covariance: str,
        widths: Sequence[int] = (96, 144, 192),
        depth: int = 1,
        maps: int = 8,
        dropout: float = 0.1,
        bands: Sequence[int] = (0, 3, 6, 11, 18),
        sigma: float = 0.2,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 100,
        coverage_maps: int = 4,
    ) -> None:
        super().__init__()
        if not (0 <= dropout < 1 and widths):
            raise UserError(
                f"ConditionalVAE: dropout {dropout} must lie in [0, 1), and widths {list(widths)} have one "
                "entry or more"
            )
        require_at_least("ConditionalVAE", 1, widths=widths)
        require_at_least(
            "ConditionalVAE", 0, depth=depth, maps=maps, coverage_maps=coverage_maps,
            weight_decay=weight_decay, warmup_steps=warmup_steps,
        )  # fmt: skip
        require_positive("ConditionalVAE", sigma=sigma, learning_rate=learning_rate)
        self.save_hyperparameters()
        statistics = CovarianceStatistics.load(covariance)
        self.transform = CovarianceTransform(statistics)
        self.spec, self.grid = statistics.spec, statistics.grid
        count = len(self.spec)
        self.context = ContextNetwork(
            count + coverage_maps, self.grid, tuple(widths), depth, maps, min(12, statistics.lmax), dropout
        )
        try:
            self.modulation = Modulation(self.transform.balance.inner, count, widths[0], bands)
        except ValueError as error:
            raise UserError(f"ConditionalVAE: {error}") from None
        self.modes = (statistics.lmax + 1) ** 2
        self.register_buffer("band_modes", torch.tensor(self.modulation.modes).float(), persistent=False)
        self.register_buffer("expected", torch.ones(count, statistics.lmax + 1), persistent=False)
        values, vectors = statistics.eigen()
        inverse = 1 / np.sqrt(values + sigma**2 / self.modes)
        whitening = np.einsum("lik,lk,ljk->lij", vectors, inverse, vectors)
        self.register_buffer("whitening", torch.from_numpy(whitening).float(), persistent=False)
        area = torch.from_numpy(quadrature_weights(self.grid))
        self.register_buffer("area", (area / area.mean()).float()[:, None], persistent=False)
        self.keep_digest(covariance)
        self.register_buffer("background_mean", torch.zeros(count, 1, 1))
        self.register_buffer("background_std", torch.ones(count, 1, 1))

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(n, (lmax + 1)²), the shape of w."""
        return self.transform.shape

    def scales(self, background: Tensor, coverage: Tensor) -> Tensor:
        """s of the day, [B, b, n, H, W].

        Args:
            background: [B, C, H, W], physical units.
            coverage: [B, K, H, W].
        """
        context = self.context((background - self.background_mean) / self.background_std, coverage)
        with torch.autocast(context.device.type, enabled=False):
            return self.modulation.scales(context.float())

    def decode(self, w: Tensor, scales: Tensor) -> Tensor:
        """D(w; c): [B, *latent_shape] -> [B, C, H, W] in physical units; linear in w."""
        with torch.autocast(w.device.type, enabled=False):
            return self.transform.balanced(self.modulation(self.transform.coloured(w), scales))

    def evidence(self, errors: Tensor, scales: Tensor) -> Tensor:
        """−log p of errors, up to a constant, per latent unit of each band: [B, b].

        Powers are divided by those of draws of U, which :meth:`setup` estimates (1 before).

        Args:
            errors: [B, C, H, W], physical units.
            scales: [B, b, n, H, W], s.
        """
        with torch.autocast(errors.device.type, enabled=False):
            with torch.no_grad():
                x = self.transform.standardised(errors)
            y = self.modulation.inverse(x, scales)
            degrees = (self._white_power(y) / self.expected).sum(1)
            norms = torch.stack([degrees[:, low:high].sum(1) for low, high in self.modulation.spans], 1)
            volume = (scales * self.area).mean((3, 4)).sum(2)
            return (norms / 2 / self.band_modes + volume) / len(self.spec)

    def _white_power(self, y: Tensor) -> Tensor:
        """‖(C_l + τ² I)^{−½} y_l‖², [B, n, L], of coefficients in parts."""
        white = torch.einsum("lij,bjlmr->bilmr", self.whitening, y).square().sum(-1)
        return 2 * white.sum(-1) - white[..., 0]  # orders m and −m

    @torch.no_grad()
    def _expected_power(self, draws: int = 128, batch: int = 16) -> Tensor:
        """The mean of :meth:`_white_power` per mode over draws of U, [n, L]."""
        random = torch.Generator().manual_seed(0)
        total = torch.zeros_like(self.expected)
        for _ in range(draws // batch):
            w = torch.randn(batch, *self.latent_shape, generator=random).to(total)
            total += self._white_power(self.transform.standardised(self.transform(w))).sum(0)
        return total / (draws // batch * batch) / (2 * torch.arange(total.shape[1]).to(total) + 1)

    # ---- Lightning ----------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take the backgrounds' mean and standard deviation from the data module.

        Raises:
            UserError: when its channels or grid are not those of the statistics.
        """
        if stage != "fit":
            return
        data = getattr(self.trainer, "datamodule", None)
        names = ("background_mean", "background_std")
        if data is None or not all(hasattr(data, name) for name in (*names, "spec", "grid")):
            raise UserError("ConditionalVAE: fit on BackgroundErrorsWithCoverage of vaevar.data.samples")
        if data.spec != self.spec or data.grid != self.grid:
            raise UserError(
                "ConditionalVAE: the covariance is of other states than the errors, "
                f"{difference(self.spec, self.grid, data.spec, data.grid)}; calibrate it on the same samples"
            )
        expected = self.hparams["coverage_maps"]
        coverage_maps = getattr(data, "coverage_maps", expected)
        if coverage_maps != expected:
            raise UserError(
                f"ConditionalVAE: the samples have {coverage_maps} coverage maps, but the model expects "
                f"{expected}; set coverage_maps to {coverage_maps}"
            )
        for name in names:
            getattr(self, name).copy_(getattr(data, name)[:, None, None])
        self.expected.copy_(self._expected_power())

    def _weighted(self, bands: Tensor) -> Tensor:
        """The mean over bands, [b] -> [], with weights √N_b for values per latent unit."""
        weight = self.band_modes.sqrt()
        return (bands * weight).sum() / weight.sum()

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        background, errors, coverage = batch
        loss = self._weighted(self.evidence(errors, self.scales(background, coverage)).mean(0))
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Log ``val/loss``, and ``val/gain``, by which it is below the loss of 3DVar's B.

        ``val/gain_3`` is the gain in the band that begins at wavenumber 3. In nats per latent unit.
        """
        background, errors, coverage = batch
        scales = self.scales(background, coverage)
        evidence = self.evidence(errors, scales).mean(0)
        gains = self.evidence(errors, torch.zeros_like(scales)).mean(0) - evidence
        values = {"val/loss": self._weighted(evidence), "val/gain": self._weighted(gains)}
        settings: dict[str, Any] = {"batch_size": len(errors), "sync_dist": True}
        self.log_dict(values, prog_bar=True, **settings)
        bands = {f"val/gain_{low}": gain for (low, _), gain in zip(self.modulation.spans, gains, strict=True)}
        self.log_dict(bands, **settings)

    def configure_optimizers(self) -> Any:
        """AdamW; linear warm-up, then a cosine down to 0."""
        settings = self.hparams
        factor = warmup_cosine(total_steps(self), settings["warmup_steps"])
        return adamw(self, settings["learning_rate"], settings["weight_decay"], factor)
