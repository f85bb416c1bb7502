"""What a forecaster must be, and the roll-out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vaevar.assim.assimilator import FreeRun
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.errors import UserError
from vaevar.forecast import Forecaster, Trajectory, check_forecaster, named, rollout
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
    with pytest.raises(UserError, match=r"Flat: step returned a Tensor \(1, 2, 1, 4, 8\) of float32"):
        next(rollout(Flat(), torch.ones(1, 2, 1, 4, 8), 1))
    with pytest.raises(ValueError, match="the past states that one step needs"):
        next(rollout(Sum(), torch.ones(1, 1, 1, 4, 8), 1))


STATES = torch.full((1, 2, 1, 4, 8), 280.0)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda states: None, "step returned None, expected a tensor"),
        (lambda states: states[:, -1].numpy(), r"step returned a ndarray \(1, 1, 4, 8\) of float32"),
        (lambda states: list(states[:, -1]), "step returned a list of 1"),
        (lambda states: states[:, -1].int(), r"step returned a Tensor \(1, 1, 4, 8\) of int32"),
        (lambda states: states[:, -1, ..., :4], r"step returned a Tensor \(1, 1, 4, 4\)"),
        (lambda states: states.mul_(1.0)[:, -1], "step changes the states that it is given"),
        (lambda states: states[:, -1] / 0, "in its 12 h forecast t2m is inf at 32 of 32 points"),
    ],
)
def test_what_a_step_returns_is_said_with_the_name_of_the_forecaster(
    returned: Callable[[Tensor], Any], said: str
) -> None:
    def drifting(states: Tensor) -> Any:
        return returned(states)

    forecaster = Forecaster.from_function(drifting, SPEC, GRID, history=2, step_hours=12)
    start = Trajectory(STATES[0].clone(), SPEC, GRID)
    with pytest.raises(UserError, match=f"drifting: {said}"):
        forecaster.forecast(start, 12)


def test_a_step_leaves_no_graph_behind() -> None:
    weight = torch.ones((), requires_grad=True)
    forecaster = Forecaster.from_function(lambda states: weight * states[:, -1], SPEC, GRID)
    assert not next(rollout(forecaster, STATES[:, :1], 1)).requires_grad


def test_start_states_are_counted_and_their_times_compared() -> None:
    hours = np.datetime64("2021-01-01T00") + np.timedelta64(1, "h") * np.arange(0, 25, 12)
    three = Trajectory(STATES[0, :1].repeat(3, 1, 1, 1), SPEC, GRID, hours)
    assert Sum().forecast(three, 12).times.tolist() == [*hours[1:], np.datetime64("2021-01-02T12")]
    wrong = Trajectory(three.values, SPEC, GRID, hours[0] + (hours - hours[0]) // 2)
    for start, time, said in (
        (wrong, None, "start states are of .*T06.*, and Sum starts from states 12 h apart"),
        (three, "2021-01-01T18", "the start states end at 2021-01-02T00, and time is 2021-01-01T18"),
        ([three[0]] * 3, None, "3 start states, and Sum starts from 2, 12 h apart"),
        (three[0], None, "1 start states, and Sum starts from 2"),
        (three.values, None, "starts from States or a store, not from a Tensor"),
    ):
        with pytest.raises(UserError, match=said):
            Sum().forecast(start, 12, time)


def test_a_trajectory_is_shown_in_a_line() -> None:
    times = np.datetime64("2021-01-01T00", "h") + np.timedelta64(12, "h") * np.arange(2)
    assert repr(Trajectory(STATES[0], SPEC, GRID, times)) == (
        "Trajectory(2 states of 1 channels on Grid(4 × 8, Gaussian), 2021-01-01T00 to 2021-01-01T12)"
    )
    assert repr(Trajectory(STATES[0], SPEC, GRID)[0]) == "State(1 channels on Grid(4 × 8, Gaussian))"


def test_a_message_names_a_forecaster_without_its_checksum() -> None:
    class File:
        description = "model.onnx sha256:0123abcd"

    assert named(File()) == "model.onnx"  # type: ignore[arg-type]
