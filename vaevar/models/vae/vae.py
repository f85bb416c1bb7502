"""The VAE of background errors, which VAE-Var uses in place of a covariance matrix.

Xiao et al., "VAE-Var: Variational Autoencoder-Enhanced Variational Methods for Data Assimilation in
Meteorology", ICLR 2025. A sample x is a background error divided by the standard deviation of its channel (at
its latitude, if the data module says so). The loss is that of the paper,

    L = Σ (x̂ − x)² / (2 σ²) + KL(N(μ, diag e^v) ‖ N(0, I)),   KL = ½ Σ (μ² + e^v − v − 1),

with sums over channels, points and latent units, and the mean over the batch. σ separates signal from
noise: an error pattern gets latent units only if its variance, summed over its points, exceeds σ². The
paper's 2.0 is for 128 × 256 points. On a coarser grid a pattern has fewer points, and σ must be smaller by
the square root of the ratio of points for the same threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vaevar.batch_random import shared_randn, step_generator
from vaevar.errors import UserError
from vaevar.mistakes.bounds import require_at_least, require_positive
from vaevar.models.held_out.views import HeldOut
from vaevar.models.training.checkpoint import SavedModule
from vaevar.models.training.optimisation import adamw, total_steps, warmup_cosine
from vaevar.models.training.states import require_states_of_data, settings_for
from vaevar.models.vae.divergence import kl_divergence
from vaevar.models.vae.held_out import held_out
from vaevar.models.vae.network import Decoder, Encoder, VAEShape
from vaevar.plausible.statistics import judge_error_stds
from vaevar.sphere.grid import Grid, GridFamily
from vaevar.state import PRESSURE_LEVELS, StateSpec


class VAE(SavedModule):
    """A variational autoencoder of background errors on a latitude × longitude grid.

    Args:
        nlat, nlon: H and W of the grid.
        gaussian: true: Gaussian latitudes; false: equiangular with both poles; "cells": equiangular without
            poles; "regular": from the north pole, without the south pole.
        surface, upper, levels: the channels, as in :class:`vaevar.state.StateSpec`.
        patch: grid points of a patch, each way.
        stem_width, head_width: features of each group's stem, and head.
        widths, depths, heads: for each scale, the finest first (each next one halves rows and columns):
            features, blocks of one pass, attention heads (0: convolutions only).
        window: rows and columns of an attention window.
        expansion, kernel_size: of the convolution blocks.
        latent_scale, latent_channels: the scale of the latent field, and its number of channels.
        sigma: σ in the loss, in units of the error's standard deviation.
        kl_weight: factor of the KL term; 1 is the published loss.
        area_weighted: weight squared errors by the area of a grid point (mean 1). The published loss weights
            all grid points alike, even near the poles, where they are dense.
        learning_rate, weight_decay: of AdamW.
        warmup_steps: optimiser steps of the linear warm-up.
        cosine: let the learning rate fall to 0 along a cosine by the end of the fit.
        compile: run encoder and decoder through ``torch.compile`` while fitting.
        checkpoint_activations: recompute the activations within each stage in the backward pass: less memory
            for one more forward pass. Loss and gradients are the same.

    Attributes:
        spec, grid: the channels and points of decoded fields.
        error_std: [C, H, 1], physical units per unit of the decoder. It is taken from the data module when
            the fit begins, and stored in every checkpoint.

    Raises:
        UserError: for a setting out of range, or sizes that do not fit the grid or each other.

    Example:
        >>> vaevar.VAE.for_data(errors, widths=[8], depths=[1], heads=[0], latent_scale=0).latent_shape
        (32, 8, 16)
    """

    weights_format, kind = "vaevar-vae-2", "VAE"
    training_config = "configs/vae.yaml"
    judged: ClassVar = {"error_std": judge_error_stds}

    error_std: Tensor
    point_weights: Tensor

    without_effect: ClassVar = ("checkpoint_activations",)

    def __init__(
        self,
        nlat: int = 48,
        nlon: int = 96,
        gaussian: GridFamily = True,
        surface: Sequence[str] = ("u10", "v10", "t2m", "msl"),
        upper: Sequence[str] = ("z", "q", "u", "v", "t"),
        levels: Sequence[int] = PRESSURE_LEVELS,
        patch: int = 2,
        stem_width: int = 24,
        head_width: int = 16,
        widths: Sequence[int] = (96, 192, 224, 224),
        depths: Sequence[int] = (1, 1, 1, 1),
        heads: Sequence[int] = (0, 6, 7, 0),
        window: int = 6,
        expansion: int = 4,
        kernel_size: int = 3,
        latent_scale: int = 1,
        latent_channels: int = 32,
        sigma: float = 2.0,
        kl_weight: float = 1.0,
        area_weighted: bool = False,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        warmup_steps: int = 100,
        cosine: bool = True,
        compile: bool = False,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        require_at_least(
            "VAE", 1, patch=patch, stem_width=stem_width, head_width=head_width, widths=widths, window=window,
            expansion=expansion, kernel_size=kernel_size, latent_channels=latent_channels,
        )  # fmt: skip
        require_at_least(
            "VAE", 0, depths=depths, heads=heads, kl_weight=kl_weight, weight_decay=weight_decay,
            warmup_steps=warmup_steps,
        )  # fmt: skip
        require_positive("VAE", sigma=sigma, learning_rate=learning_rate)
        try:
            self.spec = StateSpec(surface, upper, levels)
            self.grid = Grid.of_family(gaussian, nlat, nlon)
            surface_group = (len(self.spec.surface),) if self.spec.surface else ()
            self.shape = VAEShape(
                rows=nlat, columns=nlon, patch=patch, stem_width=stem_width, head_width=head_width,
                groups=surface_group + (len(self.spec.levels),) * len(self.spec.upper),
                widths=tuple(widths), depths=tuple(depths), heads=tuple(heads), window=window,
                expansion=expansion, kernel_size=kernel_size, latent_scale=latent_scale,
                latent_channels=latent_channels,
            )  # fmt: skip
            self.encoder = Encoder(self.shape, checkpoint_activations)
            self.decoder = Decoder(self.shape, checkpoint_activations)
        except ValueError as error:
            raise UserError(f"VAE: {error}") from None
        self.sigma, self.kl_weight = sigma, kl_weight
        self.register_buffer("error_std", torch.ones(len(self.spec), nlat, 1))
        weights = self.grid.area_weights.float()[:, None] if area_weighted else torch.ones(nlat, 1)
        self.register_buffer("point_weights", weights, persistent=False)
        self.to(memory_format=torch.channels_last)
        self._latent_moments: list[Tensor] = []

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(Cz, h, w): the shape of w."""
        return self.shape.latent

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised errors [B, C, H, W] -> mean and log-variance of w, each [B, Cz, h, w]."""
        mean, log_variance = self.encoder(x)
        # In the first steps exp() of an outlying log-variance must not overflow.
        return mean.float(), log_variance.float().clamp(-20.0, 10.0)

    def decode(self, w: Tensor) -> Tensor:
        """D(w): latent fields [B, Cz, h, w] -> normalised errors [B, C, H, W]."""
        return self.decoder(w)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct normalised errors from the mean of w: [B, C, H, W] -> the same."""
        return self.decode(self.encode(x)[0])

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw normalised errors D(w), w ~ N(0, I): [count, C, H, W]."""
        w = torch.randn(count, *self.latent_shape, generator=generator)
        return self.decode(w.to(self.error_std.device))

    @classmethod
    def for_data(cls, data: Any, **settings: Any) -> Self:
        """A VAE of the channels and the grid of a data module; ``settings`` are the other arguments.

        Raises:
            UserError: when the grid is of no family, or the sizes do not fit it.
        """
        return cls(**settings_for(data), **settings)

    def losses(self, x: Tensor, step: int = 0) -> dict[str, Tensor]:
        """The loss and its two terms, scalars, for normalised errors [B, C, H, W].

        Args:
            x: the errors.
            step: number of the step, which determines the noise of w.
        """
        mean, log_variance = self.encode(x)
        noise = shared_randn(mean, step_generator(step, 0, mean.device))
        w = mean + noise * (log_variance / 2).exp()
        squared = (self.decode(w).float() - x.float()).square() * self.point_weights
        reconstruction = squared.flatten(1).sum(1).mean() / (2 * self.sigma**2)
        kl = kl_divergence(mean, log_variance).mean()
        loss = reconstruction + self.kl_weight * kl
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl}

    def held_out(self, data: Any) -> HeldOut:
        """What the report of its fit shows; ``data`` are those of the fit."""
        return held_out(self, data)

    # ---- Lightning ----------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take the error's standard deviation from the data module.

        Raises:
            UserError: when its channels or grid are not the VAE's.
        """
        if stage != "fit":
            return
        if self.hparams["compile"]:
            self.encoder.compile()
            self.decoder.compile()
        data = getattr(self.trainer, "datamodule", None)
        if data is None or not all(hasattr(data, name) for name in ("error_std", "spec", "grid")):
            raise UserError(
                "VAE: the data module lacks error_std, spec or grid; fit on BackgroundErrors of "
                "vaevar.data.samples"
            )
        require_states_of_data(self, data)
        self.error_std.copy_(data.error_std)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        losses = self.losses(batch, self.global_step)
        # Averaged over the processes, it is the loss of the whole batch.
        self.log_dict(
            {f"train/{name}": value for name, value in losses.items()}, prog_bar=True, sync_dist=True
        )
        return losses["loss"]

    def on_validation_epoch_start(self) -> None:
        self._latent_moments = []

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log the loss, and the fraction of each variable's variance that the posterior mean explains."""
        scores = {f"val/{name}": value for name, value in self.losses(batch, batch_idx).items()}
        mean = self.encode(batch)[0]
        residual = (self.decode(mean).float() - batch).square().mean((0, 2, 3))
        variance = batch.square().mean((0, 2, 3)).clamp_min(1e-12)
        scores["val/explained_variance"] = 1 - (residual / variance).mean()
        for name in (*self.spec.surface, *self.spec.upper):
            channels = self.spec.variable_slice(name)
            scores[f"val_explained/{name}"] = 1 - (residual[channels] / variance[channels]).mean()
        self.log_dict(scores, batch_size=batch.shape[0], sync_dist=True)
        count = torch.full_like(mean[:1], mean.shape[0])
        self._latent_moments.append(torch.cat([count, mean.sum(0)[None], mean.square().sum(0)[None]]))

    def on_validation_epoch_end(self) -> None:
        """Log the number of active units: posterior mean of variance over 0.01 (Burda et al., 2016)."""
        moments = torch.stack(self._latent_moments).sum(0)
        gathered = self.all_gather(moments)
        assert isinstance(gathered, Tensor)
        count, total, squares = gathered.reshape(-1, *moments.shape).sum(0)
        active = (squares / count - (total / count).square() > 0.01).float()
        self.log("val/active_units", active.sum())
        self.log("val/active_fraction", active.mean())

    def configure_optimizers(self) -> Any:
        """AdamW; linear warm-up, then constant or a cosine down to 0."""
        settings = self.hparams
        total, warmup = total_steps(self, endless=not settings["cosine"]), settings["warmup_steps"]
        # Without a cosine, hold the full rate to the end and beyond.
        hold = 0 if settings["cosine"] else math.inf
        factor = warmup_cosine(total, warmup, origin=warmup, hold=hold)
        return adamw(self, settings["learning_rate"], settings["weight_decay"], factor)

    @staticmethod
    def stored(name: str, values: Tensor) -> Tensor:
        """Networks in half precision; ``error_std`` as it is."""
        return values if name == "error_std" else values.half()
