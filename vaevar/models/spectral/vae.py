"""VAE-Var's VAE with 3DVar's B inside.

    p(w) = N(0, I),   δ | w, c  =  D(w; c) + noise,
    D(w; c) = S U_p M Σ_b e^{s_b(c)} ⊙ F_b U_v U_h (w + F(w))

w is the control vector of 3DVar, and S U_p M U_v U_h = U its transform
(:mod:`vaevar.models.covariance.transform`). Two networks bend it:

- F, with F(0) = 0 and F(−w) = −F(w), which makes of the Gaussian of U what errors are beyond one.
- s_b(c), which tells how the size of the day's errors differs from the homogeneous and stationary errors of
  U, for each variable, place and band b of total wavenumbers (F_b selects it). The context c is the
  background and its coverage (:mod:`vaevar.data.observations.coverage`).

Both begin as zero. So the analysis begins as 3DVar's with the same B, balanced and linear.

The encoder is Gaussian, as Kingma and Welling's (2014). It begins as the exact posterior of the linear model
(:mod:`vaevar.models.spectral.gaussian`), to which networks add, to its mean and to its log-variance. So the
evidence lower bound begins at the evidence of the linear model itself. The loss is that of VAE-Var (Xiao et
al., ICLR 2025), with noise that is white in the standardised control variables instead of in the channels,

    L = ‖ŷ − y‖² / (2 τ²) + KL(q(w | y) ‖ N(0, I)),      ŷ = C^½ (w + F(w)),

y = (Σ_b e^{s_b} ⊙ F_b)⁻¹ (S U_p M)⁻¹ δ, plus the score of s (:mod:`vaevar.models.spectral.day`), which has
no need of an encoder, since D is linear in e^s.

Two things keep F from learning what is no property of the errors. They lack the noise that the model has, and
without it F would shrink all directions of little variance; so noise of the same size is added to y. And
(S U_p M)⁻¹ is approximate; so each variable's y is scaled, degree by degree, such that draws of U have the
variances of C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vaevar.batch_random import shared_randn, step_generator
from vaevar.errors import UserError
from vaevar.mistakes.bounds import require_at_least, require_positive
from vaevar.models.covariance.based import BasedOnCovariance
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.models.covariance.transform import CovarianceTransform
from vaevar.models.held_out.views import HeldOut
from vaevar.models.spectral.day import DayScales
from vaevar.models.spectral.gaussian import LinearGaussian
from vaevar.models.spectral.held_out import held_out
from vaevar.models.spectral.network import LogVariance, OddNetwork
from vaevar.models.training.optimisation import ClippedModule, adamw, total_steps, warmup_cosine
from vaevar.plausible.statistics import judge_means, judge_stds
from vaevar.state import difference


class SpectralVAE(ClippedModule, BasedOnCovariance):
    """p(truth − background | background, coverage), with B of 3DVar as its linear part.

    Args:
        covariance: file of the statistics of 3DVar's B, on the grid of the samples.
        widths, depth: of the decoder's F and the encoder's network of the mean
            (:class:`vaevar.models.spectral.network.OddNetwork`).
        variance_width: of :class:`vaevar.models.spectral.network.LogVariance`.
        bands: first total wavenumber of each band that has its own s. Empty: no s, so that D(w) is of no
            particular day, as for errors whose backgrounds and coverage are not known.
        context_widths, maps, dropout: of the network of s
            (:class:`vaevar.models.spectral.context.ContextNetwork`).
        coverage_maps: number of coverage maps, K.
        sigma: σ = τ (lmax + 1), the noise, in units of the standardised variables.
        learning_rate, weight_decay: of AdamW.
        warmup_steps: optimiser steps of the linear warm-up, which a cosine to 0 follows.

    Attributes:
        spec, grid: of backgrounds and errors.
        day: s(c), with the statistics of the backgrounds, which come from the data module when the fit
            begins and are stored in every checkpoint, as is the checksum of B's statistics. None without
            bands.

    Raises:
        UserError: for statistics that are missing or damaged, or a setting out of range.

    Example:
        >>> vaevar.SpectralVAE(str(weights / "cycle_covariance.nc"), widths=[8], bands=[]).latent_shape
        (69, 1024)
    """

    weights_format, kind = "vaevar-spectral-vae-1", "spectral VAE"
    training_config = "configs/spectral_vae.yaml"
    judged: ClassVar = {"day.background_mean": judge_means, "day.background_std": judge_stds}

    scaling: Tensor
    variance: Tensor
    field_std: Tensor

    def __init__(
        self,
        covariance: str,
        widths: Sequence[int] = (16, 24),
        depth: int = 1,
        variance_width: int = 64,
        bands: Sequence[int] = (0, 3, 6, 11, 18),
        context_widths: Sequence[int] = (96, 144, 192),
        maps: int = 8,
        dropout: float = 0.1,
        coverage_maps: int = 4,
        sigma: float = 0.2,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        if not (widths and context_widths and 0 <= dropout < 1):
            raise UserError(
                f"SpectralVAE: widths {list(widths)} and context_widths {list(context_widths)} must have one "
                f"entry or more, and dropout {dropout} lie in [0, 1)"
            )
        require_at_least(
            "SpectralVAE", 1, widths=widths, context_widths=context_widths, variance_width=variance_width
        )
        require_at_least(
            "SpectralVAE", 0, depth=depth, maps=maps, coverage_maps=coverage_maps,
            weight_decay=weight_decay, warmup_steps=warmup_steps,
        )  # fmt: skip
        require_positive("SpectralVAE", sigma=sigma, learning_rate=learning_rate)
        self.save_hyperparameters()
        statistics = CovarianceStatistics.load(covariance)
        self.keep_digest(covariance)
        self.transform = CovarianceTransform(statistics)
        self.spec, self.grid, self.size = statistics.spec, statistics.grid, statistics.lmax + 1
        count, harmonics = len(self.spec), self.transform.balance.inner
        self.linear = LinearGaussian(statistics, sigma)
        self.nonlinear = OddNetwork(harmonics, count, tuple(widths), depth)
        self.encoder_mean = OddNetwork(harmonics, count, tuple(widths), depth)
        self.encoder_variance = LogVariance(count * self.size, variance_width)
        self.day: DayScales | None = None
        if bands:
            try:
                self.day = DayScales(
                    statistics, harmonics, sigma, context_widths, depth, maps, dropout, bands, coverage_maps
                )
            except ValueError as error:
                raise UserError(f"SpectralVAE: {error}") from None
        self.register_buffer("variance", self.linear.variance(), persistent=False)
        field_std = self.variance.sum(-1).clamp_min(1e-30).sqrt()
        self.register_buffer("field_std", field_std[:, None, None, None], persistent=False)
        self.register_buffer("scaling", torch.ones(count, self.size))

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(n, (lmax + 1)²), the shape of w."""
        return self.transform.shape

    # ---- decoder --------------------------------------------------------------------------------

    def bent(self, w: Tensor) -> Tensor:
        """w + F(w): [B, n, (lmax + 1)²] -> the same."""
        correction = self.nonlinear(self.transform.coloured(w) / self.field_std)
        return w + self.size * self.transform.pack(correction)

    def scales(self, background: Tensor, coverage: Tensor) -> Tensor | None:
        """s of the day, [B, b, n, H, W]; None for a VAE without bands.

        Args:
            background: [B, C, H, W], physical units.
            coverage: [B, K, H, W].
        """
        return None if self.day is None else self.day(background, coverage)

    def decode(self, w: Tensor, scales: Tensor | None = None) -> Tensor:
        """D(w; c): [B, n, (lmax + 1)²] -> [B, C, H, W] in physical units; without scales, s = 0."""
        with torch.autocast(w.device.type, enabled=False):
            y = self.transform.coloured(self.bent(w))
            if scales is not None and self.day is not None:
                y = self.day.modulation(y, scales)
            return self.transform.balanced(y)

    @torch.no_grad()
    def sample(
        self, count: int, generator: torch.Generator | None = None, scales: Tensor | None = None
    ) -> Tensor:
        """Draw errors D(w; c), w ~ N(0, I): [count, C, H, W] in physical units."""
        w = torch.randn(count, *self.latent_shape, generator=generator)
        return self.decode(w.to(self.scaling), scales)

    # ---- encoder --------------------------------------------------------------------------------

    def standardised(self, errors: Tensor, scales: Tensor | None = None) -> Tensor:
        """y of errors: [B, C, H, W] in physical units -> [B, n, (lmax + 1)²]."""
        with torch.autocast(errors.device.type, enabled=False):
            x = self.transform.standardised(errors.float())
            if scales is not None and self.day is not None:
                x = self.day.modulation.inverse(x, scales)
            return self._scaled(x)

    def _scaled(self, y: Tensor) -> Tensor:
        """Of coefficients in parts."""
        return self.transform.pack(y) * self.scaling[:, self.linear.degree]

    def encode(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of w | y, [B, n, (lmax + 1)²], and its log-variance along the eigenvectors, the same."""
        linear = self.linear
        parts = self.transform.unpack(y) / self.field_std
        mean = linear.mean(y) + self.size * self.transform.pack(self.encoder_mean(parts))
        change = self.encoder_variance((linear.relative_power(y) + 1e-3).log())
        return mean, linear.posterior_log_variance + change.float()[..., linear.degree].clamp(-5, 5)

    def losses(self, y: Tensor, step: int = 0) -> dict[str, Tensor]:
        """The loss and its parts, in nats per latent number; ``gain`` is what the lower bound has over the
        evidence of the linear model.

        Args:
            y: [B, n, (lmax + 1)²], standardised errors, without noise.
            step: number of the step, which determines the noises.
        """
        linear, generator = self.linear, step_generator(step, 0, y.device)
        y = y + linear.noise * shared_randn(y, generator)
        mean, log_variance = self.encode(y)
        noise = shared_randn(y, generator) * (log_variance / 2).exp()
        w = mean + linear.back(noise)
        squares = (linear.coloured(self.bent(w)) - y).flatten(1).square().sum(1)
        reconstruction = squares / (2 * linear.noise**2)
        kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).flatten(1).sum(1)
        count = y[0].numel()
        constant = count * math.log(linear.noise * math.sqrt(2 * math.pi))
        gain = -(reconstruction + kl + constant) - linear.evidence(y)
        parts = {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl, "gain": gain}
        return {name: values.mean() / count for name, values in parts.items()}

    @staticmethod
    def stored(name: str, values: Tensor) -> Tensor:
        """Networks in half precision."""
        network = name.split(".")[0] in ("nonlinear", "encoder_mean", "encoder_variance", "day")
        return values.half() if network and "background" not in name else values

    def held_out(self, data: Any) -> HeldOut:
        """What the report of its fit shows; ``data`` are those of the fit."""
        return held_out(self, data)

    # ---- Lightning ------------------------------------------------------------------------------

    @torch.no_grad()
    def calibrate(self, draws: int = 128, batch: int = 16) -> None:
        """Scale y such that draws of U have the variances of C, degree by degree."""
        random = torch.Generator().manual_seed(0)
        squares, white = torch.zeros_like(self.variance), torch.zeros_like(self.scaling)
        for _ in range(draws // batch):
            w = torch.randn(batch, *self.latent_shape, generator=random).to(squares)
            x = self.transform.standardised(self.transform(w))
            squares += self.transform.pack(x).square().sum(0)
            if self.day is not None:
                white += self.day.white_power(x).sum(0)
        count = draws // batch * batch
        found = self.linear.by_degree(squares / count).clamp_min(1e-30)
        self.scaling.copy_((self.linear.by_degree(self.variance) / found).sqrt().clamp(0.5, 2))
        if self.day is not None:
            self.day.expected.copy_(white / count / (2 * torch.arange(self.size).to(white) + 1))

    def setup(self, stage: str) -> None:
        """Check that the data are of the same states, take their statistics, and :meth:`calibrate`.

        Raises:
            UserError: when their channels, grid or coverage are not those that this VAE is for.
        """
        if stage != "fit":
            return
        data = getattr(self.trainer, "datamodule", None)
        view = "BackgroundErrors" if self.day is None else "BackgroundErrorsWithCoverage"
        names = ("error_std",) if self.day is None else ("background_mean", "background_std")
        if data is None or not all(hasattr(data, name) for name in (*names, "spec", "grid")):
            other = "with `bands` empty" if self.day is None else "or with `bands` empty on BackgroundErrors"
            raise UserError(f"SpectralVAE: fit on {view} of vaevar.data.samples, {other}")
        if data.spec != self.spec or data.grid != self.grid:
            raise UserError(
                "SpectralVAE: the covariance is of other states than the errors, "
                f"{difference(self.spec, self.grid, data.spec, data.grid)}; calibrate it on the same samples"
            )
        if self.day is not None:
            expected = self.hparams["coverage_maps"]
            if (found := getattr(data, "coverage_maps", expected)) != expected:
                raise UserError(
                    f"SpectralVAE: the samples have {found} coverage maps, but the model expects {expected}; "
                    f"set coverage_maps to {found}"
                )
            for name in names:
                getattr(self.day, name).copy_(getattr(data, name)[:, None, None])
        self.calibrate()

    def _losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Of a batch: that of F and, with bands, ``day``, the score of s, and what s gains (``day_gain``)."""
        if self.day is None:
            std = self.trainer.datamodule.error_std.to(batch)  # type: ignore[attr-defined]
            return self.losses(self.standardised(batch * std), step)
        background, errors, coverage = batch
        scales = self.day(background, coverage)
        with torch.autocast(errors.device.type, enabled=False):
            with torch.no_grad():
                x = self.transform.standardised(errors)
            y, score, gain = self.day.scored(x, scales)
        losses = self.losses(self._scaled(y.detach()), step)
        # F's part less the evidence of the linear model, so that it does not depend on how large s makes y.
        return losses | {"loss": score - losses["gain"], "day": score.detach(), "day_gain": gain}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        losses = self._losses(batch, self.global_step)
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, sync_dist=True)
        return losses["loss"]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss; ``val/gain``, by how much F's bound is above the linear model's evidence; and
        ``val/day_gain``, by how much the score with s is below that with s = 0."""
        losses = self._losses(batch, batch_idx)
        size = len(batch) if self.day is None else len(batch[0])
        values = {f"val/{name}": value for name, value in losses.items()}
        self.log_dict(values, prog_bar=True, batch_size=size, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW; linear warm-up, then a cosine down to 0."""
        settings = self.hparams
        factor = warmup_cosine(total_steps(self), settings["warmup_steps"])
        return adamw(self, settings["learning_rate"], settings["weight_decay"], factor)
