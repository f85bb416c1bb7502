"""The protocol of forecasters, and the roll-out that all of them share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


class Forecaster(Protocol):
    """A model that steps from the last states to the next.

    Physical units in and out: a forecaster normalises for itself. ``history`` is 1 for a model of one initial
    state and 2 for FengWu (t − 6 h and t).
    """

    @property
    def history(self) -> int:
        """Number of past states that a step needs."""

    @property
    def step_hours(self) -> int:
        """Hours between those states, and from the last one to the forecast."""

    @property
    def spec(self) -> StateSpec:
        """The C channels."""

    @property
    def grid(self) -> Grid:
        """The H × W points."""

    def step(self, states: Tensor) -> Tensor:
        """One step forward.

        Args:
            states: [B, history, C, H, W], physical units, oldest first, ``step_hours`` apart.

        Returns:
            [B, C, H, W], physical units, ``step_hours`` after the last of ``states``.
        """


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
    """
    if states.ndim != 5 or states.shape[1] != forecaster.history:
        raise ValueError(
            f"states are {tuple(states.shape)}, expected [B, {forecaster.history}, C, H, W]: "
            "the past states that one step needs"
        )
    for number in range(1, steps + 1):
        forecast = forecaster.step(states)
        yield forecast
        if number < steps:
            states = torch.cat([states[:, 1:], forecast[:, None]], dim=1)
            # Free it before the next step: 287 MB at 721 × 1440.
            del forecast
