"""With a linear model, linear H and Gaussian errors: 4DVar's last state is the Kalman filter's mean, and its
first the smoother's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.assim.window.toys import random
from vaevar.assim.control.base import LinearControl
from vaevar.assim.window.fourdvar import FourDVar
from vaevar.data.observations.points import Observations
from vaevar.forecast import Forecaster
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SPEC, GRID = StateSpec(surface=["u10"], upper=[], levels=[]), Grid.gaussian(2, 8)
SIZE = 16
# J is known to 1e-16 of itself, and its minimum to the square root of that: 1e-8 of what is to be found.
SMALL = 0.05  # m/s
PROPAGATOR = 0.6 * torch.eye(SIZE, dtype=torch.float64) + 0.15 * random(SIZE, SIZE, seed=11)


def linear(states: Tensor) -> Tensor:
    flat = states[:, -1].flatten(1) @ PROPAGATOR.T
    return flat.reshape(-1, 1, *GRID.shape)


def made(seed: int, count: int = 6) -> Observations:
    generator = np.random.default_rng(seed)
    return Observations(
        variable="u10",
        latitude=generator.uniform(-50, 50, count),
        longitude=generator.uniform(0, 360, count),
        pressure=np.full(count, np.nan),
        value=SMALL * generator.standard_normal(count),
        error_std=generator.uniform(0.6, 1.2, count),
    )


@dataclass
class Gaussian:
    mean: Tensor
    covariance: Tensor


def h_of(one: Observations) -> Tensor:
    basis = torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, 1, *GRID.shape)
    return one.operator(SPEC, GRID)(basis).double().T


def kalman(prior: Gaussian, observations: list[Observations], q: Tensor) -> tuple[list[Gaussian], Gaussian]:
    """The filter's mean and covariance at each time, and the Rauch-Tung-Striebel smoother's at the first."""
    filtered, predicted = [], []
    for one in observations:
        if filtered:
            last = filtered[-1]
            prior = Gaussian(PROPAGATOR @ last.mean, PROPAGATOR @ last.covariance @ PROPAGATOR.T + q)
        predicted.append(prior)
        h, r = h_of(one), torch.diag(torch.tensor(one.error_std) ** 2)
        gain = torch.linalg.solve(h @ prior.covariance @ h.T + r, h @ prior.covariance).T
        d = torch.tensor(one.value) - h @ prior.mean
        filtered.append(Gaussian(prior.mean + gain @ d, prior.covariance - gain @ h @ prior.covariance))
    smoothed = filtered[-1]
    for here, following in zip(filtered[-2::-1], predicted[:0:-1], strict=True):
        gain = torch.linalg.solve(following.covariance, PROPAGATOR @ here.covariance).T
        smoothed = Gaussian(
            here.mean + gain @ (smoothed.mean - following.mean),
            here.covariance + gain @ (smoothed.covariance - following.covariance) @ gain.T,
        )
    return filtered, smoothed


@pytest.mark.parametrize(("window", "lambda_"), [(2, 1.0), (4, 1.0), (4, 3.0)])
@pytest.mark.parametrize("scale", [0.0, 0.5])
@pytest.mark.parametrize("minimiser", [{"tolerance": 0.0}, {"tolerance": 1e-12, "outer_loops": 2}])
def test_linear_gaussian_4dvar_is_the_kalman_filter(
    window: int, lambda_: float, scale: float, minimiser: dict[str, Any]
) -> None:
    u = torch.eye(SIZE, dtype=torch.float64) + 0.2 * random(SIZE, SIZE, seed=12)
    u_q = 0.8 * torch.eye(SIZE, dtype=torch.float64) + 0.1 * random(SIZE, SIZE, seed=13)
    observations = [made(seed) for seed in range(window)]
    background = SMALL * random(SIZE, seed=14)
    prior = Gaussian(background, u @ u.T / lambda_)
    q = scale**2 * u_q @ u_q.T / lambda_
    filtered, smoothed = kalman(prior, observations, q)

    method = FourDVar(
        LinearControl(u, SPEC, GRID),
        window,
        lambda_,
        model_error_scale=scale,
        model_error=LinearControl(u_q, SPEC, GRID),
        iterations=2000,
        history=100,
        dtype="float64",
        **minimiser,
    )
    forecaster = Forecaster.from_function(linear, SPEC, GRID, differentiable=True)
    start = background.reshape(1, 1, *GRID.shape)
    analyses = method.analyse_window(start, observations, forecaster)
    found = [one.state.values.flatten() for one in analyses]
    assert (found[-1] - filtered[-1].mean).abs().max() < 1e-8
    assert (found[0] - smoothed.mean).abs().max() < 1e-8
    # Neither is what one instant would give, nor one another.
    assert (smoothed.mean - filtered[0].mean).abs().max() > 0.1 * SMALL
    assert (filtered[-1].mean - PROPAGATOR @ filtered[-2].mean).abs().max() > 0.1 * SMALL
