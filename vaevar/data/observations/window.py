"""H of a window of time: every observation at its own time, from the states of the window's steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from vaevar.data.observations.operator import ObservationOperator
from vaevar.data.observations.points import Observations, Points
from vaevar.mistakes.notices import notice
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec


@dataclass(frozen=True)
class _Slot:
    """What is observed of one step's state.

    Attributes:
        rows: [p], numbers of the points among all P.
        weight: [p], the weight of this step in each.
        operator: H for these p.
    """

    rows: Tensor
    weight: Tensor
    operator: ObservationOperator


class WindowOperator:
    """H for points at times of their own, [K, C, H, W] -> [P].

    What is observed between two steps is compared with the two states, weighted linearly by its time.

    Args:
        points: P of them.
        hours: [P], from the first of the K steps to each.
        step_hours: between steps.
        steps: K.
        spec, grid: of the states.
        device: of the states.
    """

    def __init__(
        self,
        points: Points,
        hours: np.ndarray,
        step_hours: int,
        steps: int,
        spec: StateSpec,
        grid: Grid,
        device: torch.device,
    ) -> None:
        self._slots: list[_Slot] = []
        self._size = len(points)
        for rows, weight in slots(np.asarray(hours) / step_hours, steps):
            operator = points.select(rows).operator(spec, grid).to(device)
            located = torch.tensor(rows, device=device), torch.tensor(weight, device=device)
            self._slots.append(_Slot(*located, operator))

    def __call__(self, states: Tensor) -> Tensor:
        """H(x_0, ..., x_{K−1}), [K, C, H, W] -> [P]."""
        return self._gather([slot.operator(state) for slot, state in zip(self._slots, states, strict=True)])

    def observed_increment(
        self, backgrounds: Sequence[State], grid: Grid, dtype: torch.dtype
    ) -> Callable[[list[Tensor]], Tensor]:
        """(δ_0, ..., δ_{K−1}) -> H(x_b + δ) − H(x_b), for the minimisation.

        Args:
            backgrounds: x_b of each step.
            grid: of the increments.
            dtype: precision of the result.
        """
        pairs = zip(self._slots, backgrounds, strict=True)
        observers = [slot.operator.observed_increment(state, grid, dtype) for slot, state in pairs]
        return lambda increments: self._gather(
            [observe(increment) for observe, increment in zip(observers, increments, strict=True)]
        )

    def _gather(self, parts: Sequence[Tensor]) -> Tensor:
        # H of no observations has no precision of its own.
        seen = [number for number, slot in enumerate(self._slots) if len(slot.rows)]
        dtype = reduce(torch.promote_types, (parts[number].dtype for number in seen))
        observed = torch.zeros(self._size, dtype=dtype, device=parts[0].device)
        for number in seen:
            slot = self._slots[number]
            observed = observed.index_add(0, slot.rows, slot.weight.to(dtype) * parts[number])
        return observed


def joined(observations: Sequence[Observations], step_hours: int) -> tuple[Observations, np.ndarray]:
    """All observations of a window, and the hours from its first step to each, [P].

    Args:
        observations: those of each step; ``time_offset`` counts from the step.
        step_hours: between steps.
    """
    hours = [number * step_hours + one.time_offset for number, one in enumerate(observations)]
    return Observations.concatenate(list(observations)), np.concatenate(hours)


def slots(steps: np.ndarray, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each step the numbers of the points that it has a part in, and its weight in them.

    Args:
        steps: [P], the time of each point in steps from the first. Outside of the window the nearest end
            stands for the state.
        count: of the steps, K.
    """
    last = count - 1
    if bool(np.any((steps < 0) | (steps > last))):
        notice(
            "observations before the first or after the last time of an assimilation window are taken as "
            "made at that time; select those that are near enough"
        )
    steps = np.clip(steps, 0, last)
    before = np.minimum(np.floor(steps), max(last - 1, 0)).astype(int)
    part = steps - before
    found = []
    for number in range(count):
        weight = np.where(before == number, 1 - part, 0.0) + np.where(before + 1 == number, part, 0.0)
        rows = np.flatnonzero(weight)
        found.append((rows, weight[rows]))
    return found
