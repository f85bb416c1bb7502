"""Trains a small forecaster with FengWu's contract: two past states in, the next state out.

The network predicts the 6 h change of normalised fields in units of its standard deviation, x(t + 6 h) =
x(t) + σ_Δ · f(x(t − 6 h), x(t)). A first stage trains single steps. A second one trains on roll-outs
(``rollout_steps``), like FengWu's replay buffer and GraphCast, because a cycle depends on how errors grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vaevar.content.kinds import model_of, what_holds, what_is
from vaevar.content.tensors import read_tensors
from vaevar.errors import UserError, first_line
from vaevar.mistakes.bounds import require_at_least, require_positive
from vaevar.models.forecaster.held_out import held_out
from vaevar.models.forecaster.network import ForecastNetwork
from vaevar.models.forecaster.resolved_scales import ResolvedScales
from vaevar.models.forecaster.training_cycle import TrainingCycle
from vaevar.models.held_out.views import HeldOut
from vaevar.models.training.checkpoint import SavedModule
from vaevar.models.training.optimisation import ClippedModule, adamw, total_steps, warmup_cosine
from vaevar.models.training.shared_weights import with_shared
from vaevar.models.training.states import require_states_of_data
from vaevar.plausible.statistics import judge_means, judge_stds
from vaevar.sphere.grid import Grid, GridFamily
from vaevar.state import StateSpec


class ForecasterModule(ClippedModule, SavedModule):
    """Trains a :class:`ForecastNetwork`.

    The loss is the area-weighted mean square error of the forecast, each channel divided by the std of its
    6 h change, averaged over ``rollout_steps`` steps. The gradient flows through the roll-out.

    Args:
        rows, columns: of the grid.
        gaussian: true: Gaussian latitudes; false: equiangular with both poles; "cells": equiangular without
            poles; "regular": from the north pole, without the south pole.
        surface, upper, levels: the channels.
        widths, depths, kernel_size, patch: as in :class:`ForecastNetwork`.
        learning_rate: peak; it rises over ``warmup_steps`` and falls to zero along a cosine.
        weight_decay: of AdamW.
        warmup_steps: optimiser steps of the linear warm-up.
        rollout_steps: roll-out steps in the loss; the samples must be long enough.
        resolved_lmax, memory: as in :class:`vaevar.models.forecaster.resolved_scales.ResolvedScales`, for
            data of a spectral model. None: no limit on the scales.
        cycled: train on the states of cheap assimilation cycles
            (:mod:`vaevar.models.forecaster.training_cycle`). The data must come in ``lanes``. The loss of a
            sample then has the weight c/(c + E), where E is the mean square error of its initial state and c
            that of a forecast from true states.
        start_from: checkpoint of an earlier fit whose network is trained further.

    Raises:
        UserError: for a setting out of range, when the settings do not fit together, or ``start_from`` is no
            checkpoint of this network.
    """

    weights_format, kind = "vaevar-forecaster-1", "forecaster"
    training_config = "configs/forecaster.yaml"
    judged: ClassVar = {"mean": judge_means, "std": judge_stds}

    mean: Tensor
    std: Tensor
    row_weights: Tensor

    def __init__(
        self,
        rows: int = 48,
        columns: int = 96,
        gaussian: GridFamily = True,
        surface: Sequence[str] = ("u10", "v10", "t2m", "msl"),
        upper: Sequence[str] = ("z", "q", "u", "v", "t"),
        levels: Sequence[int] = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000),
        widths: Sequence[int] = (256, 384),
        depths: Sequence[int] = (3, 4),
        kernel_size: int = 5,
        patch: int = 2,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.02,
        warmup_steps: int = 200,
        rollout_steps: int = 1,
        resolved_lmax: int | None = None,
        memory: float = 0.9,
        cycled: bool = False,
        start_from: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["start_from"])
        name = "ForecasterModule"
        require_at_least(
            name, 1, widths=widths, kernel_size=kernel_size, patch=patch, rollout_steps=rollout_steps
        )
        require_at_least(name, 0, depths=depths, weight_decay=weight_decay, warmup_steps=warmup_steps)
        require_positive(name, learning_rate=learning_rate)
        try:
            self.spec = StateSpec(surface, upper, levels)
            self.grid = Grid.of_family(gaussian, rows, columns)
            count = len(self.spec)
            resolved = (
                None if resolved_lmax is None else ResolvedScales(count, self.grid, resolved_lmax, memory)
            )
            self.network = ForecastNetwork(count, rows, columns, widths, depths, kernel_size, patch, resolved)
        except ValueError as error:
            raise UserError(f"{name}: {error}") from None
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        if cycled and rollout_steps > 1:
            raise UserError("ForecasterModule: cycled trains single steps; set rollout_steps to 1")
        self.warmup_steps, self.rollout_steps, self.cycled = warmup_steps, rollout_steps, cycled
        self.register_buffer("row_weights", self.grid.area_weights.float()[:, None], persistent=False)
        # The normalisation of the training data, for the export.
        self.register_buffer("mean", torch.zeros(len(self.spec), dtype=torch.float64))
        self.register_buffer("std", torch.ones(len(self.spec), dtype=torch.float64))
        if start_from is not None:
            try:
                self.network.load_state_dict(network_weights(start_from))
            except RuntimeError:
                raise UserError(
                    f"{start_from}: not a checkpoint of this network; its channels, grid, widths, depths, "
                    "kernel_size or patch differ"
                ) from None

    def setup(self, stage: str) -> None:
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        require_states_of_data(self, datamodule)
        self.network.change_std.copy_(datamodule.change_std.reshape(-1, 1, 1))
        if self.network.resolved is not None:
            self.network.resolved.set_mean(datamodule.mean_state)
        self.mean.copy_(datamodule.normalizer.mean.flatten())
        self.std.copy_(datamodule.normalizer.std.flatten())

    def errors(self, states: Tensor, steps: int) -> Tensor:
        """Errors of a roll-out, in units of the std of the 6 h change.

        Args:
            states: [B, 2 + T, C, H, W], normalised; the roll-out starts from the first two.
            steps: at most T.

        Returns:
            [B, steps, C, H, W].
        """
        window = states[:, :2].flatten(1, 2)
        errors = []
        for step in range(steps):
            if steps > 1 and torch.is_grad_enabled():
                change = checkpoint(self.network.change, window, use_reentrant=False)
            else:
                change = self.network.change(window)
            current = window[:, len(self.spec) :]
            following = self.network.next_state(window, change.float())
            errors.append((following - states[:, 2 + step]) / self.network.change_std)
            window = torch.cat([current, following], 1)
        return torch.stack(errors, 1)

    def mean_square(self, errors: Tensor) -> Tensor:
        """Area-weighted mean square by step and channel: [B, T, C, H, W] -> [T, C]."""
        return (errors.square() * self.row_weights).mean((0, 3, 4))

    def mean_square_of_each(self, errors: Tensor) -> Tensor:
        """Area-weighted mean square of each sample over all channels: [B, C, H, W] -> [B]."""
        return (errors.square() * self.row_weights).mean((1, 2, 3))

    def held_out(self, data: Any) -> HeldOut:
        """What the report of its fit shows; ``data`` are those of the fit."""
        return held_out(self, data)

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        errors = self._cycled_errors(batch) if self.cycled else self.errors(batch, self.rollout_steps)
        square = self.mean_square(errors)
        with torch.no_grad():
            log_variance = (square[0][:, None, None] * self.network.change_std**2).clamp_min(1e-12).log()
            self.network.log_variance.lerp_(log_variance, 0.01)
        loss = square.mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_train_start(self) -> None:
        if self.cycled:
            datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            if datamodule.lanes is None:
                raise UserError("ForecasterModule: cycled needs data in lanes; set lanes of the data module")
            processes = datamodule.batch_size * self.trainer.world_size
            self._cycle = TrainingCycle(self.grid, datamodule.lanes // processes)

    def _cycled_errors(self, batch: Tensor) -> Tensor:
        """As :meth:`errors` for one step from the states of the cycles, with each sample's weight applied."""
        states = self._cycle.start(batch)
        errors = self.errors(states, 1)
        scale = self.network.change_std
        self._cycle.proceed(batch, states[:, 1], batch[:, 2] + scale * errors[:, 0].detach())
        start = self.mean_square_of_each((states[:, 1] - batch[:, 1]) / scale)
        attainable = (self.network.log_variance.exp() / scale.square()).mean()
        weight = attainable / (attainable + start)
        return errors * weight.sqrt()[:, None, None, None, None]

    def on_validation_epoch_start(self) -> None:
        self._squares: list[Tensor] = []
        self._windows = 0

    def validation_step(self, batch: Tensor, _: int) -> None:
        square = self.mean_square(self.errors(batch, batch.shape[1] - 2))
        self._squares.append(square * batch.shape[0])
        self._windows += batch.shape[0]

    def on_validation_epoch_end(self) -> None:
        # Take the root after the mean over all windows of all processes.
        total = torch.stack(self._squares).sum(0)
        windows = torch.tensor(float(self._windows), device=total.device)
        reduce = self.trainer.strategy.reduce
        square = reduce(total, reduce_op="sum") / reduce(windows, reduce_op="sum")
        self.log("val/loss", square[: self.rollout_steps].mean(), prog_bar=True, sync_dist=True)
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        for name in ("z500", "t850", "u500", "t2m"):
            if self.spec.has(name):
                index = self.spec.index(name)
                scale = float(datamodule.change_std[index]) * float(datamodule.normalizer.std[index])
                for step in sorted({0, square.shape[0] - 1}):
                    rmse = square[step, index].sqrt() * scale
                    self.log(f"val/rmse_{name}_{6 * (step + 1)}h", rmse, sync_dist=True)

    def configure_optimizers(self) -> Any:
        # The cosine counts from the first step, but takes effect after the warm-up.
        factor = warmup_cosine(total_steps(self), self.warmup_steps, hold=self.warmup_steps)
        return adamw(
            self,
            self.learning_rate,
            self.weight_decay,
            factor,
            betas=(0.9, 0.95),
            undecayed=[self.network.ground],
        )


def network_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the network's weights from a checkpoint of :class:`ForecasterModule`.

    Raises:
        UserError: when the file is missing or is no such checkpoint.
    """
    try:
        content = with_shared(path, read_tensors(path))
        state = content["state_dict"]
    except UserError:
        raise
    except Exception as error:  # unpickling raises exceptions of many kinds; each means "not a checkpoint"
        found = f" but {what_is(path)}" if Path(path).is_file() else ""
        reason = first_line(error)[:200]
        raise UserError(
            f"{path}: not a checkpoint of a forecaster{found} ({type(error).__name__}: {reason})"
        ) from None
    if model_of(content) not in ("ForecasterModule", None):
        raise UserError(f"{path}: not a checkpoint of a forecaster but {what_holds(content)}")
    prefix = "network."
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
