"""What every forecaster is, and the roll-out that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


class Forecaster(ABC):
    """A model that steps from the last states to the next.

    Physical units in and out: a forecaster normalises for itself.

    Attributes:
        history: number of past states that a step needs: 1, or 2 for FengWu (t − 6 h and t).
        step_hours: hours between those states, and from the last one to the forecast.
        spec: the C channels.
        grid: the H × W points.
    """

    history: int
    step_hours: int
    spec: StateSpec
    grid: Grid

    @abstractmethod
    def step(self, states: Tensor) -> Tensor:
        """One step forward.

        Args:
            states: [B, history, C, H, W], physical units, oldest first, ``step_hours`` apart.

        Returns:
            [B, C, H, W], physical units, ``step_hours`` after the last of ``states``.
        """


def check_forecaster(forecaster: Forecaster) -> None:
    """Check that a forecaster has all its attributes.

    Raises:
        UserError: when one is missing.
    """
    missing = [name for name in Forecaster.__annotations__ if not hasattr(forecaster, name)]
    if missing:
        raise UserError(f"{type(forecaster).__name__}: its constructor must set {', '.join(missing)}")


def rollout(forecaster: Forecaster, states: Tensor, steps: int) -> Iterator[Tensor]:
    """Forecast by feeding a forecaster its own output, with one forecast at a time in memory.

    Args:
        forecaster: makes the steps.
        states: [B, history, C, H, W], physical units, oldest first.
        steps: number of steps.

    Yields:
        [B, C, H, W], physical units, after 1, 2, ... ``steps`` times ``step_hours``.

    Raises:
        ValueError: when the number of past states is not ``forecaster.history``.
        UserError: when a forecast has another shape than a state.
    """
    if states.ndim != 5 or states.shape[1] != forecaster.history:
        raise ValueError(
            f"states are {tuple(states.shape)}, expected [B, {forecaster.history}, C, H, W]: "
            "the past states that one step needs"
        )
    for number in range(1, steps + 1):
        forecast = forecaster.step(states)
        if forecast.shape != states[:, 0].shape:
            raise UserError(
                f"{type(forecaster).__name__}: step returned {tuple(forecast.shape)}, expected "
                f"[B, C, H, W] = {tuple(states[:, 0].shape)}"
            )
        yield forecast
        if number < steps:
            states = torch.cat([states[:, 1:], forecast[:, None]], dim=1)
            # Free it before the next step: 287 MB at 721 × 1440.
            del forecast
