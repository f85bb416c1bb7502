"""What a forecaster must be, and the roll-out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vaevar.assim.assimilator import FreeRun
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.errors import UserError
from vaevar.forecast import Forecaster, check_forecaster, rollout
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SPEC, GRID = StateSpec(surface=["t2m"], upper=[], levels=[]), Grid.gaussian(4)


class Sum(Forecaster):
    """x(t + 12 h) = x(t) + x(t − 12 h)."""

    def __init__(self) -> None:
        self.history, self.step_hours, self.spec, self.grid = 2, 12, SPEC, GRID

    def step(self, states):  # a user's own class need not be annotated
        return states.sum(1)


class Nameless(Sum):
    def __init__(self) -> None:
        self.history = 2


class Flat(Sum):
    def step(self, states: Tensor) -> Tensor:
        return states


def test_a_rollout_feeds_a_forecaster_its_own_output() -> None:
    states = torch.ones(1, 2, 1, 4, 8)
    values = [float(state[0, 0, 0, 0]) for state in rollout(Sum(), states, 5)]
    np.testing.assert_array_equal(values, [2, 3, 5, 8, 13])


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="Nameless: its constructor must set step_hours, spec, grid"):
        check_forecaster(Nameless())
    with pytest.raises(UserError, match="must set step_hours"):
        AssimilationModule(Nameless(), {"free": FreeRun()})
    with pytest.raises(UserError, match=r"Flat: step returned \(1, 2, 1, 4, 8\), expected"):
        next(rollout(Flat(), torch.ones(1, 2, 1, 4, 8), 1))
    with pytest.raises(ValueError, match="the past states that one step needs"):
        next(rollout(Sum(), torch.ones(1, 1, 1, 4, 8), 1))
