"""The spectral VAE: VAE-Var with 3DVar's B inside.

    p(w) = N(0, I),   δ | w  =  D(w) + noise,   D(w) = S U (w + F(w)),   F(0) = 0,   F(−w) = −F(w)

w is the control vector of 3DVar, and S U its transform (:mod:`vaevar.models.covariance.transform`). F is a
network that begins as zero. So the analysis begins as 3DVar's with the same B, balanced and linear, and what
training adds is what errors have beyond a Gaussian with that B.

The encoder is Gaussian, as Kingma and Welling's (2014). It begins as the exact posterior of the linear model
(:mod:`vaevar.models.spectral.gaussian`), to which networks add, to its mean and to its log-variance. So the
evidence lower bound begins at the evidence of the linear model itself. The loss is that of VAE-Var (Xiao et
al., ICLR 2025), with noise that is white in the standardised control variables x = (S U_p M)⁻¹ δ instead of
in the channels,

    L = ‖x̂ − x‖² / (2 τ²) + KL(q(w | x) ‖ N(0, I)),      x̂ = C^½ (w + F(w)).

Two things keep F from learning what is no property of the errors. They lack the noise that the model has, and
without it F would shrink all directions of little variance; so noise of the same size is added to x. And
(S U_p M)⁻¹ is approximate; so each variable's x is scaled, degree by degree, such that draws of U have the
variances of C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vaevar.batch_random import shared_randn, step_generator
from vaevar.errors import UserError
from vaevar.mistakes.bounds import require_at_least, require_positive
from vaevar.models.covariance.based import BasedOnCovariance
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.models.covariance.transform import CovarianceTransform
from vaevar.models.spectral.gaussian import LinearGaussian
from vaevar.models.spectral.network import LogVariance, OddNetwork
from vaevar.models.training.optimisation import ClippedModule, adamw, total_steps, warmup_cosine
from vaevar.state import difference


class SpectralVAE(ClippedModule, BasedOnCovariance):
    """p(δ) of background errors δ, with B of 3DVar as its linear part.

    Args:
        covariance: file of the statistics of 3DVar's B, on the grid of the samples.
        widths, depth: of the decoder's and the encoder's networks (:class:`OddNetwork`).
        variance_width: of :class:`LogVariance`.
        sigma: σ = τ (lmax + 1), the noise, in units of the standardised variables.
        learning_rate, weight_decay: of AdamW.
        warmup_steps: optimiser steps of the linear warm-up, which a cosine to 0 follows.

    Attributes:
        spec, grid: of the errors.
        latent_shape: (n, (lmax + 1)²), the shape of w.

    Raises:
        UserError: for statistics that are missing or damaged, or a setting out of range.
    """

    weights_format, kind = "vaevar-spectral-vae-1", "spectral VAE"
    training_config = "configs/spectral_vae.yaml"

    scaling: Tensor
    variance: Tensor
    field_std: Tensor

    def __init__(
        self,
        covariance: str,
        widths: Sequence[int] = (64, 96),
        depth: int = 1,
        variance_width: int = 64,
        sigma: float = 0.2,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        if not widths:
            raise UserError("SpectralVAE: widths is empty, must have one entry or more")
        require_at_least("SpectralVAE", 1, widths=widths, variance_width=variance_width)
        require_at_least("SpectralVAE", 0, depth=depth, weight_decay=weight_decay, warmup_steps=warmup_steps)
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
        variance = torch.einsum(
            "pik,kp->ip", self.linear.vectors[self.linear.degree].square(), self.linear.values
        )
        self.register_buffer("variance", variance, persistent=False)
        field_std = variance.sum(-1).clamp_min(1e-30).sqrt()
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

    def decode(self, w: Tensor) -> Tensor:
        """D(w): [B, n, (lmax + 1)²] -> [B, C, H, W] in physical units."""
        with torch.autocast(w.device.type, enabled=False):
            return self.transform(self.bent(w))

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw errors D(w), w ~ N(0, I): [count, C, H, W] in physical units."""
        w = torch.randn(count, *self.latent_shape, generator=generator)
        return self.decode(w.to(self.scaling))

    # ---- encoder --------------------------------------------------------------------------------

    def standardised(self, errors: Tensor) -> Tensor:
        """x of errors: [B, C, H, W] in physical units -> [B, n, (lmax + 1)²]."""
        with torch.autocast(errors.device.type, enabled=False):
            x = self.transform.pack(self.transform.standardised(errors.float()))
            return x * self.scaling[:, self.linear.degree]

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of w | x, [B, n, (lmax + 1)²], and its log-variance along the eigenvectors, the same."""
        linear = self.linear
        parts = self.transform.unpack(x) / self.field_std
        mean = linear.mean(x) + self.size * self.transform.pack(self.encoder_mean(parts))
        variance = linear.values + linear.noise**2
        squares = linear.along(x).square() / variance
        power = squares.new_zeros(*squares.shape[:-1], self.size).index_add(-1, linear.degree, squares)
        power = power / (2 * torch.arange(self.size).to(power) + 1)
        change = self.encoder_variance((power + 1e-3).log())
        return mean, linear.posterior_log_variance + change.float()[..., linear.degree].clamp(-5, 5)

    def losses(self, x: Tensor, step: int = 0) -> dict[str, Tensor]:
        """The loss and its parts, in nats per latent number; ``gain`` is what the lower bound has over the
        evidence of the linear model.

        Args:
            x: [B, n, (lmax + 1)²], standardised errors, without noise.
            step: number of the step, which determines the noises.
        """
        linear, generator = self.linear, step_generator(step, 0, x.device)
        x = x + linear.noise * shared_randn(x, generator)
        mean, log_variance = self.encode(x)
        noise = shared_randn(x, generator) * (log_variance / 2).exp()
        w = mean + linear.back(noise)
        squares = (linear.coloured(self.bent(w)) - x).flatten(1).square().sum(1)
        reconstruction = squares / (2 * linear.noise**2)
        kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).flatten(1).sum(1)
        count = x[0].numel()
        constant = count * math.log(linear.noise * math.sqrt(2 * math.pi))
        gain = -(reconstruction + kl + constant) - linear.evidence(x)
        parts = {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl, "gain": gain}
        return {name: values.mean() / count for name, values in parts.items()}

    # ---- Lightning ------------------------------------------------------------------------------

    @torch.no_grad()
    def calibrate(self, draws: int = 128, batch: int = 16) -> None:
        """Scale x such that draws of U have the variances of C, degree by degree."""
        random = torch.Generator().manual_seed(0)
        total = torch.zeros_like(self.variance)
        for _ in range(draws // batch):
            w = torch.randn(batch, *self.latent_shape, generator=random).to(total)
            total += self.transform.pack(self.transform.standardised(self.transform(w))).square().sum(0)

        def by_degree(values: Tensor) -> Tensor:
            return values.new_zeros(len(values), self.size).index_add(-1, self.linear.degree, values)

        found = by_degree(total / (draws // batch * batch))
        self.scaling.copy_((by_degree(self.variance) / found.clamp_min(1e-30)).sqrt().clamp(0.5, 2))

    def setup(self, stage: str) -> None:
        """Check that the data are of the same states.

        Raises:
            UserError: when their channels or grid are not those of the statistics.
        """
        if stage != "fit":
            return
        data = getattr(self.trainer, "datamodule", None)
        if data is None or not all(hasattr(data, name) for name in ("error_std", "spec", "grid")):
            raise UserError("SpectralVAE: fit on BackgroundErrors of vaevar.data.samples")
        if data.spec != self.spec or data.grid != self.grid:
            raise UserError(
                "SpectralVAE: the covariance is of other states than the errors, "
                f"{difference(self.spec, self.grid, data.spec, data.grid)}; calibrate it on the same samples"
            )
        self.calibrate()

    def _standardised(self, batch: Tensor) -> Tensor:
        std = self.trainer.datamodule.error_std.to(batch)  # type: ignore[attr-defined]
        return self.standardised(batch * std)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        losses = self.losses(self._standardised(batch), self.global_step)
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, sync_dist=True)
        return losses["loss"]

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log the loss, and ``val/gain``: by how much the bound is above the linear model's evidence."""
        losses = self.losses(self._standardised(batch), batch_idx)
        values = {f"val/{name}": value for name, value in losses.items()}
        self.log_dict(values, prog_bar=True, batch_size=len(batch), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW; linear warm-up, then a cosine down to 0."""
        settings = self.hparams
        factor = warmup_cosine(total_steps(self), settings["warmup_steps"])
        return adamw(self, settings["learning_rate"], settings["weight_decay"], factor)
