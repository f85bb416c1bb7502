"""The denoiser of DiffDA: a conditional diffusion model of the difference between truth and forecast.

Huang et al., "DiffDA: a Diffusion Model for Weather-scale Data Assimilation", ICML 2024. The residual

    r = (truth − forecast) / std

given the forecast is modelled by a DDPM of 1000 steps. The published loss is the squared error of the noise,
Σ (ε̂ − ε)² = SNR Σ (r̂ − r)² with SNR = ᾱ/(1 − ᾱ). Here the weight SNR is replaced by min(1 + SNR, 5). The
upper limit keeps a small network from working mainly on the last, nearly clean steps (Hang et al., "Min-SNR",
ICCV 2023). The 1 retains the noisiest steps, which determine the large scales of the sample. Residuals are
never clipped: errors of a forecast reach many times their std.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vaevar.batch_random import shared_randn, shared_spread, step_generator
from vaevar.errors import UserError
from vaevar.mistakes.bounds import require_at_least, require_positive
from vaevar.models.diffusion.held_out import held_out
from vaevar.models.diffusion.network import DenoiserNetwork
from vaevar.models.diffusion.schedule import NoiseSchedule
from vaevar.models.held_out.views import HeldOut
from vaevar.models.training.checkpoint import SavedModule
from vaevar.models.training.optimisation import ClippedModule, adamw, total_steps, warmup_cosine
from vaevar.models.training.states import require_states_of_data
from vaevar.plausible.statistics import judge_error_stds, judge_means, judge_stds
from vaevar.sphere.grid import Grid, GridFamily
from vaevar.state import PRESSURE_LEVELS, StateSpec


class Denoiser(ClippedModule, SavedModule):
    """p(truth − forecast | forecast) for one lead time, as a denoiser.

    Args:
        nlat, nlon: H and W of the grid.
        gaussian: true: Gaussian latitudes; false: equiangular with both poles; "cells": equiangular without
            poles; "regular": from the north pole, without the south pole.
        surface, upper, levels: the channels, as in :class:`vaevar.state.StateSpec`.
        widths, depths, heads, window, kernel_size, patch, head_width, embedding: as in
            :class:`vaevar.models.diffusion.network.DenoiserNetwork`.
        steps, first_beta, last_beta: the noise schedule; the published one by default.
        max_weight: the upper limit of the weight in the loss.
        learning_rate, weight_decay: of AdamW.
        warmup_steps: optimiser steps of the linear warm-up, which a cosine to 0 follows.
        start_from: a checkpoint whose network is trained further, such as the 48 h one for 6 h.

    Attributes:
        residual_std: [C, 1, 1], physical units per unit of r.
        forecast_mean, forecast_std: [C, 1, 1], the normalisation of the forecasts.
        lead_hours: scalar, the lead time of the training forecasts. All four are taken from the data module
            when the fit begins, and stored in every checkpoint.

    Raises:
        UserError: for a setting out of range, when the sizes do not fit together, or ``start_from`` is of
            another network.
    """

    weights_format, kind = "vaevar-denoiser-1", "denoiser"
    training_config = "configs/diffda.yaml"
    judged: ClassVar = {
        "residual_std": judge_error_stds,
        "forecast_mean": judge_means,
        "forecast_std": judge_stds,
    }

    residual_std: Tensor
    forecast_mean: Tensor
    forecast_std: Tensor
    lead_hours: Tensor
    row_weights: Tensor

    def __init__(
        self,
        nlat: int = 48,
        nlon: int = 96,
        gaussian: GridFamily = True,
        surface: Sequence[str] = ("u10", "v10", "t2m", "msl"),
        upper: Sequence[str] = ("z", "q", "u", "v", "t"),
        levels: Sequence[int] = PRESSURE_LEVELS,
        widths: Sequence[int] = (112, 168, 196),
        depths: Sequence[int] = (1, 1, 2),
        heads: Sequence[int] = (0, 6, 7),
        window: int = 6,
        kernel_size: int = 3,
        patch: int = 2,
        head_width: int = 32,
        embedding: int = 128,
        steps: int = 1000,
        first_beta: float = 1e-4,
        last_beta: float = 0.02,
        max_weight: float = 5.0,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        warmup_steps: int = 100,
        start_from: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["start_from"])
        require_at_least(
            "Denoiser", 1, widths=widths, window=window, kernel_size=kernel_size, patch=patch,
            head_width=head_width, embedding=embedding, max_weight=max_weight,
        )  # fmt: skip
        require_at_least(
            "Denoiser", 0, depths=depths, heads=heads, weight_decay=weight_decay, warmup_steps=warmup_steps
        )
        require_positive("Denoiser", learning_rate=learning_rate)
        try:
            self.spec = StateSpec(surface, upper, levels)
            self.grid = Grid.of_family(gaussian, nlat, nlon)
            count = len(self.spec)
            self.schedule = NoiseSchedule(steps, first_beta, last_beta)
            self.network = DenoiserNetwork(
                count, nlat, nlon, tuple(widths), tuple(depths), tuple(heads), window, kernel_size, patch,
                head_width, embedding,
            )  # fmt: skip
        except ValueError as error:
            raise UserError(f"Denoiser: {error}") from None
        self.max_weight = max_weight
        self.register_buffer("residual_std", torch.ones(count, 1, 1))
        self.register_buffer("forecast_mean", torch.zeros(count, 1, 1))
        self.register_buffer("forecast_std", torch.ones(count, 1, 1))
        self.register_buffer("lead_hours", torch.zeros((), dtype=torch.int64))
        self.register_buffer("row_weights", self.grid.area_weights.float()[:, None], persistent=False)
        self.to(memory_format=torch.channels_last)
        if start_from is not None:
            self.take_weights(start_from, self.read(start_from))

    def condition(self, forecast: Tensor) -> Tensor:
        """Normalise forecasts [..., C, H, W] for the network."""
        return (forecast - self.forecast_mean) / self.forecast_std

    def clean(self, noised: Tensor, condition: Tensor, step: int) -> Tensor:
        """Estimate the clean residual r̂ at one step of the schedule.

        Args:
            noised: [B, C, H, W], x_t.
            condition: [B or 1, C, H, W], normalised forecasts.
            step: t, from 1.

        Returns:
            [B, C, H, W], in units of ``residual_std``.
        """
        signal = self.schedule.signal[step].expand(len(noised)).to(noised)
        return self.network(noised, condition.expand(len(noised), -1, -1, -1), signal)

    def losses(
        self, condition: Tensor, residual: Tensor, step: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The weighted loss of each sample, and its area-weighted mean square error of r̂, [B] each."""
        noised = self.schedule.noised(residual, step, noise)
        signal = self.schedule.signal[step].float()
        error = (self.network(noised, condition, signal).float() - residual).square() * self.row_weights
        square = error.mean((1, 2, 3))
        return (1 + signal / (1 - signal)).clamp_max(self.max_weight) * square, square

    def held_out(self, data: Any) -> HeldOut:
        """What the report of its fit shows; ``data`` are those of the fit."""
        return held_out(self, data)

    # ---- Lightning ----------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take the normalisation from the data module.

        Raises:
            UserError: when its channels or grid are not the denoiser's.
        """
        if stage != "fit":
            return
        data = getattr(self.trainer, "datamodule", None)
        names = ("residual_std", "forecast_mean", "forecast_std", "lead_hours")
        if data is None or not all(hasattr(data, name) for name in (*names, "spec", "grid")):
            raise UserError("Denoiser: fit on BackgroundErrorPairs of vaevar.data.samples")
        require_states_of_data(self, data)
        for name in names[:3]:
            getattr(self, name).copy_(getattr(data, name)[:, None, None])
        self.lead_hours.fill_(data.lead_hours)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        condition, residual = batch
        for_steps, for_noise = (
            step_generator(self.global_step, stream, residual.device) for stream in (0, 1)
        )
        # One step from each of B equal parts of the schedule: an even spread in every batch.
        fraction = shared_spread(residual, for_steps)
        step = 1 + (fraction * self.schedule.steps).long().clamp_max(self.schedule.steps - 1)
        loss, square = self.losses(condition, residual, step, shared_randn(residual, for_noise))
        self.log_dict({"train/loss": loss.mean(), "train/mse": square.mean()}, prog_bar=True)
        return loss.mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """The loss at fixed steps with fixed noise, so that epochs are comparable.

        ``val/mse_T`` is the error of the residual's mean given the forecast. 1 minus it is the fraction of
        the error's variance that the forecast itself explains.
        """
        condition, residual = batch
        generator = torch.Generator().manual_seed(batch_idx)
        noise = torch.randn(residual.shape, generator=generator).to(residual)
        total = []
        for fraction in (0.02, 0.1, 0.25, 0.5, 1.0):
            number = max(1, round(fraction * self.schedule.steps))
            step = torch.full((len(residual),), number, device=residual.device)
            loss, square = self.losses(condition, residual, step, noise)
            total.append(loss.mean())
            name = "T" if fraction == 1 else f"{fraction:g}T"
            self.log(f"val/mse_{name}", square.mean(), batch_size=len(residual), sync_dist=True)
        self.log("val/loss", torch.stack(total).mean(), True, batch_size=len(residual), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW; linear warm-up, then a cosine down to 0."""
        settings = self.hparams
        factor = warmup_cosine(total_steps(self), settings["warmup_steps"])
        return adamw(self, settings["learning_rate"], settings["weight_decay"], factor, betas=(0.9, 0.95))

    @staticmethod
    def stored(name: str, values: Tensor) -> Tensor:
        """The network in half precision; the statistics of the data as they are."""
        return values.half() if name.startswith("network.") else values
