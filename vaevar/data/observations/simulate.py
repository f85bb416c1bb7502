"""Simulated observations: the truth at the points of a network, plus noise of the size that R says."""

from __future__ import annotations

import numpy as np

from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.networks import NOISE, Network, random_stream
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.state import State


def simulate(
    truth: State, network: Network, errors: ObservationErrors, time: np.datetime64, seed: int
) -> Observations:
    """Observe the truth: H(truth) plus Gaussian noise whose std is exactly ``error_std``.

    The noise depends on ``seed`` and ``time`` alone, so that every experiment arm, and a resumed
    run, sees the same observations. Noise may take humidity below zero; cutting it there would
    bias the observations.

    Args:
        truth: [C, H, W].
        network: where the observations are made.
        errors: how large their errors are.
        time: of the analysis.
        seed: of the noise, not negative.

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
    operator = points.operator(truth.spec, truth.grid).to(truth.values.device)
    exact = operator(truth.values.detach()).double().cpu().numpy()
    std = errors.error_std(points)
    noise = random_stream(NOISE, seed, time).standard_normal(len(points))
    try:
        return points.with_values(exact + std * noise, std)
    except ValueError as error:
        raise UserError(f"observations of {name} at {time}: {error}") from None
