"""Simulated observations: the truth at the points of a network, plus noise of the size that R says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.networks import NOISE, Network, random_stream
from vaevar.data.observations.points import Observations, Points
from vaevar.data.observations.window import WindowOperator
from vaevar.errors import UserError
from vaevar.state import State


def simulate(
    truth: State,
    network: Network,
    errors: ObservationErrors,
    time: np.datetime64,
    seed: int,
    around: Callable[[], tuple[State, State]] | None = None,
    step_hours: int = 6,
) -> Observations:
    """Observe the truth: H(truth) plus Gaussian noise whose std is exactly ``error_std``.

    What is observed before or after the analysis time (``time_offset``) is interpolated linearly in time
    between the truths of two steps.

    The noise depends on ``seed`` and ``time`` alone, so that every experiment arm, and a resumed
    run, sees the same observations. Noise may take humidity below zero; cutting it there would
    bias the observations.

    Args:
        truth: [C, H, W].
        network: where the observations are made.
        errors: how large their errors are.
        time: of the analysis.
        seed: of the noise, not negative.
        around: the truth one step before and one after; asked for only when something is observed there.
        step_hours: of these steps.

    Raises:
        ValueError: when the truth has a batch axis.
        UserError: when the state lacks what the network observes, the network gives points that cannot be, an
            observation is implausible, or the seed is negative.

    Example:
        >>> errors = vaevar.ObservationErrors().with_climatology(state.spec, climatology)
        >>> len(vaevar.simulate(state, vaevar.ColumnNetwork(count=20), errors, time, seed=0))
        120
    """
    time = np.datetime64(time)  # pandas has its own
    if truth.values.ndim != 3:
        raise ValueError(f"one state [C, H, W] is observed at a time, not {tuple(truth.values.shape)}")
    if seed < 0:
        raise UserError(f"the seed of the observation noise is {seed}, must not be negative")
    name = type(network).__name__
    try:
        points = network.points(truth.spec, time)
    except ValueError as error:
        raise UserError(f"{name} at {time}: {error}") from None
    exact = _observed(truth, points, around, step_hours)
    std = errors.error_std(points)
    noise = random_stream(NOISE, seed, time).standard_normal(len(points))
    try:
        return points.with_values(exact + std * noise, std)
    except ValueError as error:
        raise UserError(f"observations of {name} at {time}: {error}") from None


def _observed(
    truth: State, points: Points, around: Callable[[], tuple[State, State]] | None, step_hours: int
) -> np.ndarray:
    """H of the truth at the time of each point, [P]."""
    device = truth.values.device
    if not np.any(points.time_offset):
        operator = points.operator(truth.spec, truth.grid).to(device)
        return operator(truth.values.detach()).double().cpu().numpy()
    if around is None:
        raise UserError(
            "the network observes before and after the analysis time: give `around`, the truth at these times"
        )
    before, after = around()
    states = torch.stack([state.values.detach() for state in (before, truth, after)])
    over_time = WindowOperator(
        points, points.time_offset + step_hours, step_hours, 3, truth.spec, truth.grid, device
    )
    return over_time(states).double().cpu().numpy()
