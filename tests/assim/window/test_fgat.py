"""Observations at times of their own: how they are made, and the first guess at the appropriate time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.assim.window.toys import GRID, SPEC, bent, control, observed, start
from vaevar.assim.variational import VariationalAssimilator
from vaevar.assim.window.fgat import FGAT
from vaevar.assim.window.fourdvar import FourDVar
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.points import Observations
from vaevar.data.observations.simulate import simulate
from vaevar.data.observations.spread import SpreadInTime
from vaevar.errors import UserError
from vaevar.state import State

TIME = np.datetime64("2021-01-01T06", "h")
CLIMATE = np.array([4.0, 4.0, 8.0])


def t2m(offsets: list[float]) -> Observations:
    return observed(offsets, variable="t2m", value=np.full(len(offsets), 281.0))


def method() -> VariationalAssimilator:
    return VariationalAssimilator(control(), iterations=60, tolerance=1e-9, dtype="float64")


def test_without_offsets_it_is_the_method_itself() -> None:
    states, made = start(2), [t2m([0.0, 0.0])]
    (one,) = FGAT(method()).analyse_window(states, made, bent(2))
    (other,) = method().analyse_window(states, made, bent(2))
    assert torch.equal(one.state.values, other.state.values)


@pytest.mark.parametrize("history", [1, 2])
def test_innovations_are_taken_at_the_observations_times(history: int) -> None:
    """Of the background there: what agrees with it there moves nothing."""
    states, forecaster = start(history), bent(history)
    after = forecaster.step(states[None])[0]
    # Without a state before, what is observed earlier counts as of the analysis time.
    before = states[0] if history == 2 else states[-1]
    places = t2m([-3.0, 0.0, 2.0])
    operator = places.operator(SPEC, GRID)
    guess = [
        (operator(before) + operator(states[-1]))[0] / 2,
        operator(states[-1])[1],
        (2 * operator(states[-1]) / 3 + operator(after) / 3)[2],
    ]
    agreeing = places.with_values(np.array([float(value) for value in guess]), places.error_std)
    (found,) = FGAT(method()).analyse_window(states, [agreeing], forecaster)
    assert float(abs(found.increment["t2m"]).max()) < 1e-9
    warmer = places.with_values(agreeing.value + 1.0, places.error_std)
    (found,) = FGAT(method()).analyse_window(states, [warmer], forecaster)
    plain = places.with_values(operator(states[-1]).numpy() + 1.0, places.error_std)
    (expected,) = method().analyse_window(states, [_now(plain)], forecaster)
    torch.testing.assert_close(found.state.values, expected.state.values, atol=1e-7, rtol=0)


def _now(made: Observations) -> Observations:
    frame = made.to_dataframe()
    frame["time_offset"] = 0.0
    return Observations.from_dataframe(frame)


def test_windows_have_times_of_their_own() -> None:
    with pytest.raises(UserError, match="FourDVar analyses windows"):
        FGAT(FourDVar(control(), forecaster=bent(1)))


def test_places_are_observed_at_times_of_their_own() -> None:
    network = SpreadInTime(ColumnNetwork(count=50, seed=1), hours=4.0, seed=2)
    points = network.points(SPEC, TIME)
    offsets = points.time_offset.reshape(50, len(SPEC))
    assert (offsets == offsets[:, :1]).all()  # a column is observed at once
    assert np.abs(offsets).max() <= 2.0 == network.reach_hours
    assert np.unique(offsets).size == 50
    np.testing.assert_array_equal(network.points(SPEC, TIME).time_offset, points.time_offset)
    assert (network.points(SPEC, TIME + np.timedelta64(6, "h")).time_offset != points.time_offset).any()
    with pytest.raises(UserError, match="hours 0 must be positive"):
        SpreadInTime(ColumnNetwork(count=1), hours=0)


def test_the_truth_is_observed_at_its_own_time() -> None:
    states = [State(start(1)[0] + shift, SPEC, GRID) for shift in (-6.0, 0.0, 3.0)]
    network = SpreadInTime(ColumnNetwork(count=30, seed=1, quantities=["t2m"]))
    errors = ObservationErrors().with_climatology(SPEC, CLIMATE)
    plain = simulate(states[1], ColumnNetwork(count=30, seed=1, quantities=["t2m"]), errors, TIME, seed=0)
    spread = simulate(
        states[1], network, errors, TIME, seed=0, around=lambda: (states[0], states[2]), step_hours=6
    )
    hours = spread.time_offset
    np.testing.assert_allclose(spread.value - plain.value, np.where(hours < 0, hours, hours / 2), atol=1e-9)
    with pytest.raises(UserError, match="give `around`"):
        simulate(states[1], network, errors, TIME, seed=0)
