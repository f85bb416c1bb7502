"""Which steps of a window an observation is compared with, and H of the whole window."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.assim.window.toys import GRID, MEAN, SPEC, observed, random
from vaevar.data.observations.points import Observations
from vaevar.data.observations.window import WindowOperator, joined, slots
from vaevar.mistakes.notices import Notice
from vaevar.state import State

NOTHING = Observations.concatenate([])


def weights(offsets: list[list[float]], step_hours: int) -> np.ndarray:
    """[K, P]"""
    count = sum(map(len, offsets))
    found = np.zeros((len(offsets), count))
    made = [observed(one) if one else NOTHING for one in offsets]
    points, hours = joined(made, step_hours)
    assert len(points) == count
    for number, (rows, weight) in enumerate(slots(hours / step_hours, len(offsets))):
        assert np.unique(rows).size == rows.size
        assert (weight > 0).all()
        found[number, rows] = weight
    return found


def test_weights_by_hand() -> None:
    offsets = [[0.0, 1.5], [0.0, -3.0, 4.5], [-6.0, 0.0]]
    np.testing.assert_array_equal(
        weights(offsets, 6),
        [
            [1, 0.75, 0, 0.5, 0, 0, 0],
            [0, 0.25, 1, 0.5, 0.25, 1, 0],
            [0, 0, 0, 0, 0.75, 0, 1],
        ],
    )
    np.testing.assert_array_equal(weights([[0.0, 0.0]], 6), [[1, 1]])
    np.testing.assert_array_equal(weights([[], [0.0], []], 12), [[0], [1], [0]])


@settings(max_examples=60, deadline=None)
@given(
    offsets=st.lists(st.lists(st.floats(-30, 30), max_size=4), min_size=1, max_size=5),
    step_hours=st.sampled_from([1, 3, 6, 12]),
)
def test_weights_of_an_observation_sum_to_one(offsets: list[list[float]], step_hours: int) -> None:
    """At most two steps, next to each other, that enclose its time; beyond the window its nearest end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        found = weights(offsets, step_hours)
    np.testing.assert_allclose(found.sum(0), 1, rtol=0, atol=1e-12)
    exact = np.concatenate([number + np.array(one) / step_hours for number, one in enumerate(offsets)])
    inside = np.clip(exact, 0, len(offsets) - 1)
    np.testing.assert_allclose(np.arange(len(offsets)) @ found, inside, rtol=0, atol=1e-9)
    assert (np.abs(np.arange(len(offsets))[:, None] - inside)[found > 0] <= 1).all()


def test_what_lies_outside_of_the_window_is_told() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights([[0.0, 6.0], [0.0, -6.0]], 6)
    with pytest.warns(Notice, match="before the first or after the last time of an assimilation window"):
        found = weights([[-2.5], [0.0, 1.0]], 6)
    np.testing.assert_array_equal(found, [[1, 0, 0], [0, 1, 1]])


def operator_of(observations: list[Observations]) -> tuple[WindowOperator, Observations]:
    points, hours = joined(observations, 6)
    return WindowOperator(points, hours, 6, len(observations), SPEC, GRID, torch.device("cpu")), points


def window(dtype: torch.dtype = torch.float64) -> tuple[WindowOperator, Observations, list[State]]:
    observations = [observed(offsets, seed) for seed, offsets in enumerate(([0.0, 2.0], [], [-1.5, 0.0]))]
    states = [State((MEAN + random(3, *GRID.shape, seed=seed)).to(dtype), SPEC, GRID) for seed in range(3)]
    return *operator_of(observations), states


def test_every_observation_is_seen_at_its_own_time() -> None:
    operator, points, states = window()
    seen = operator(torch.stack([state.values for state in states]))
    alone = [points.operator(SPEC, GRID)(state.values) for state in states]
    third = alone[0][1] * 2 / 3 + alone[1][1] / 3
    fourth = alone[1][2] * 0.25 + alone[2][2] * 0.75
    torch.testing.assert_close(seen, torch.stack([alone[0][0], third, fourth, alone[2][3]]))


def test_increments_are_observed_as_the_difference_of_states() -> None:
    operator, _, states = window()
    increments = [0.1 * random(3, *GRID.shape, seed=seed) for seed in (7, 8, 9)]
    before = torch.stack([state.values for state in states])
    difference = operator(before + torch.stack(increments)) - operator(before)
    observe = operator.observed_increment(states, GRID, torch.float64)
    torch.testing.assert_close(observe(increments), difference, rtol=1e-9, atol=1e-12)


def test_adjoint_of_a_linear_window() -> None:
    """⟨H δ, y⟩ = ⟨δ, Hᵀ y⟩ in double precision."""
    _, speeds, states = window()
    linear = [
        Observations.from_dataframe(made.to_dataframe().assign(variable="t2m", value=280.0))
        for made in (speeds.select(np.array(rows)) for rows in ([0, 1], [2, 3]))
    ]
    operator, _ = operator_of([*linear, NOTHING])
    observe = operator.observed_increment(states, GRID, torch.float64)
    increments = [random(3, *GRID.shape, seed=seed).requires_grad_(True) for seed in (7, 8, 9)]
    y = random(4, seed=10)
    seen = observe(increments)
    adjoint = torch.autograd.grad(seen @ y, increments, allow_unused=True, materialize_grads=True)
    left = (seen @ y).item()
    right = sum((one * other).sum().item() for one, other in zip(increments, adjoint, strict=True))
    assert left == pytest.approx(right, rel=1e-13)
    twice = observe([2 * increment for increment in increments])
    torch.testing.assert_close(twice, 2 * seen, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("empty", [0, 1, 2])
def test_steps_without_observations(empty: int, precision: torch.dtype) -> None:
    """In any place, also the first; in any precision."""
    offsets: list[list[float]] = [[0.0], [0.0], [0.0]]
    observations = [observed(one, seed) for seed, one in enumerate(offsets)]
    whole, _ = operator_of(observations)
    observations[empty] = NOTHING
    operator, _ = operator_of(observations)
    *_, states = window(torch.float32)
    values = torch.stack([state.values for state in states])
    kept = [number for number in range(3) if number != empty]
    torch.testing.assert_close(operator(values), whole(values)[kept], rtol=0, atol=0)
    increments = [torch.ones_like(state.values) for state in states]
    seen = operator.observed_increment(states, GRID, precision)(increments)
    of_all = whole.observed_increment(states, GRID, precision)(increments)
    torch.testing.assert_close(seen, of_all[kept], rtol=0, atol=0)
    assert seen.dtype == precision
