"""H of a window: every observation at its own time, from the states of the window's steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from vaevar.data.observations.operator import ObservationOperator
from vaevar.data.observations.points import Observations
from vaevar.mistakes.notices import notice
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec


@dataclass(frozen=True)
class _Slot:
    """What is observed of one step's state.

    Attributes:
        rows: [p], numbers of the observations among all P.
        weight: [p], the weight of this step in each.
        operator: H for these p.
    """

    rows: Tensor
    weight: Tensor
    operator: ObservationOperator


class ObservedWindow:
    """The observations of a window of K steps.

    An observation between two steps is compared with the two states, weighted linearly by its time.

    Args:
        observations: those of each step, K of them; ``time_offset`` counts from the step.
        step_hours: between steps.
        spec, grid: of the states.
        device: of the states.

    Attributes:
        observations: all P.
    """

    def __init__(
        self,
        observations: Sequence[Observations],
        step_hours: int,
        spec: StateSpec,
        grid: Grid,
        device: torch.device,
    ) -> None:
        self.observations = Observations.concatenate(observations)
        self._slots: list[_Slot] = []
        for rows, weight in slots([one.time_offset for one in observations], step_hours):
            operator = self.observations.select(rows).operator(spec, grid).to(device)
            kind = {"device": device}
            self._slots.append(
                _Slot(torch.tensor(rows, **kind), torch.tensor(weight, **kind), operator)  # type: ignore[arg-type]
            )

    def __len__(self) -> int:
        return len(self.observations)

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
        observed = torch.zeros(len(self), dtype=dtype, device=parts[0].device)
        for number in seen:
            slot = self._slots[number]
            observed = observed.index_add(0, slot.rows, slot.weight.to(dtype) * parts[number])
        return observed


def slots(offsets: Sequence[np.ndarray], step_hours: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each step the numbers of the observations that it has a part in, and its weight in them.

    Args:
        offsets: hours from each of the K steps to its observations; all of them are numbered in order.
        step_hours: between steps.
    """
    last = len(offsets) - 1
    steps = np.concatenate([number + np.asarray(hours) / step_hours for number, hours in enumerate(offsets)])
    beyond = np.maximum(-steps, steps - last).max(initial=0.0) * step_hours
    if beyond > 0:
        notice(
            f"observations up to {beyond:g} h outside of the assimilation window are taken as made at its "
            "nearest end; select those that are near enough"
        )
    steps = np.clip(steps, 0, last)
    before = np.minimum(np.floor(steps), max(last - 1, 0)).astype(int)
    after_weight = steps - before
    found = []
    for number in range(last + 1):
        weight = np.where(before == number, 1 - after_weight, 0) + np.where(
            before + 1 == number, after_weight, 0
        )
        rows = np.flatnonzero(weight)
        found.append((rows, weight[rows]))
    return found
