"""A network trained here as a forecaster: it has a gradient, for 4DVar."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recomputed

from vaevar.content.digest import file_digest
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.models.forecaster.training import ForecasterModule
from vaevar.normalizer import Normalizer


class LearnedForecaster(Forecaster):
    """The network of a fit of ``configs/forecaster.yaml``, with the numbers of its ONNX file, and a gradient.

    Args:
        checkpoint: path of the weights, or a module in memory; relative paths start at the current directory.
        step_hours: the time step of the data that it was trained on.
        checkpointing: keep only the states of a trajectory for its gradient, and make each step again on the
            way back: less memory, and a third more time.

    Raises:
        UserError: for a file that is missing, damaged or of another model.

    Example:
        >>> vaevar.pretrained("forecaster_torch").differentiable
        True
    """

    history = 2
    differentiable = True

    without_effect: ClassVar = ("checkpointing",)

    def __init__(
        self, checkpoint: str | Path | ForecasterModule, step_hours: int = 6, checkpointing: bool = False
    ) -> None:
        if step_hours < 1:
            raise UserError(f"LearnedForecaster: step_hours is {step_hours}, must be at least 1")
        module = checkpoint if isinstance(checkpoint, ForecasterModule) else ForecasterModule.load(checkpoint)
        self._file = None if isinstance(checkpoint, ForecasterModule) else Path(checkpoint)
        self.network = module.network.eval().requires_grad_(False)
        self.spec, self.grid = module.spec, module.grid
        self.step_hours, self.checkpointing = step_hours, checkpointing
        self._normalizer = Normalizer(module.mean, module.std)

    @property
    def description(self) -> str:
        """The file's name and checksum, which tell results of different forecasters apart."""
        return f"{self._file.name} sha256:{file_digest(self._file)}" if self._file else "network in memory"

    def step(self, states: Tensor) -> Tensor:
        """One step forward, differentiable.

        Args:
            states: [B, 2, C, H, W], physical units, t − ``step_hours`` and then t.

        Returns:
            [B, C, H, W], physical units, t + ``step_hours``.

        Raises:
            ValueError: when ``states`` has another shape.
        """
        expected = (self.history, len(self.spec), *self.grid.shape)
        if tuple(states.shape[1:]) != expected:
            raise ValueError(f"states are {tuple(states.shape)}, expected (B, 2, C, H, W) = (B, {expected})")
        if self.checkpointing and torch.is_grad_enabled() and states.requires_grad:
            stepped: Tensor = recomputed(self._step, states, use_reentrant=False)
            return stepped
        return self._step(states)

    def _step(self, states: Tensor) -> Tensor:
        normalizer, network = self._normalizer.to(states.device), self.network.to(states.device)
        normalised = ((states - normalizer.mean) / normalizer.std).float().flatten(1, 2)
        change = network.change(normalised).float()
        following = network.next_state(normalised, change)
        return (following * normalizer.std + normalizer.mean).to(states.dtype)
