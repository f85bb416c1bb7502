"""What every forecaster is to the rest of the program, and the roll-out that all of them share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


class Forecaster(Protocol):
    """A model that carries the last states one time step forward.

    Physical units in and out; normalisation is the forecaster's own affair. A forecaster that
    keeps the dynamics of one state needs ``history`` 1, FengWu needs 2 (t − 6 h and t).
    """

    @property
    def history(self) -> int:
        """How many past states a step needs."""

    @property
    def step_hours(self) -> int:
        """Hours between those states, and from the last of them to the forecast."""

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
    """Forecast by feeding a forecaster its own output; one state at a time is held in memory.

    Args:
        forecaster: carries the states forward.
        states: [B, history, C, H, W], physical units, oldest first.
        steps: how many steps.

    Yields:
        [B, C, H, W], physical units, after 1, 2, ... ``steps`` times ``step_hours``.

    Raises:
        ValueError: when the number of past states is not what the forecaster needs.
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
            # Not held during the next step: at 721 × 1440 it is 287 MB.
            del forecast
