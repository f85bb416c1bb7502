"""Gradients of a forecast's error against finite differences, and impacts of observations on linear toys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.assim.window.toys import GRID, MEAN, SIZE, SPEC, bent, control, observed, random, start
from vaevar.assim.gauss_newton import Linearised, solve
from vaevar.assim.problem import Problem
from vaevar.assim.variational import VariationalAssimilator
from vaevar.assim.window.fourdvar import FourDVar
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.experiments.sensitivity.adjoint import Impacts, impacts
from vaevar.experiments.sensitivity.initial import perturbed, scaled
from vaevar.experiments.sensitivity.region import Region
from vaevar.experiments.sensitivity.score import ForecastError
from vaevar.forecast import Forecaster
from vaevar.state import State

STD = np.array([2.0, 3.0, 5.0])
REGION = Region(-30, 60, -100, 60)


def score(hours: int = 12, channels: tuple[int, ...] = (0, 2)) -> ForecastError:
    truth = State(MEAN + random(len(SPEC), *GRID.shape, seed=9), SPEC, GRID)
    return ForecastError(truth, REGION.weights(GRID), list(channels), STD, hours)


def linear(history: int) -> Forecaster:
    """x_{t+1} − m = Σ M_k (x_{t−k} − m)"""
    matrices = [0.7 * random(SIZE, SIZE, seed=20 + past) / SIZE**0.5 for past in range(history)]

    def step(states: Tensor) -> Tensor:
        past = (states - MEAN).flatten(2)
        made = sum(past[:, number] @ matrices[number].T for number in range(history))
        assert isinstance(made, Tensor)
        return MEAN + made.reshape(states[:, 0].shape)

    return Forecaster.from_function(step, SPEC, GRID, history, differentiable=True)


def temperatures(offsets: list[float], seed: int) -> Observations:
    """Of t2m, for which H is linear, off the steps too."""
    rows = observed(offsets, seed)
    speeds = np.random.default_rng(seed).normal(281.0, 1.0, len(offsets))
    return replace(rows, variable=np.full(len(offsets), "t2m"), value=speeds)


def by_hand(states: Tensor, forecaster: Forecaster, of: ForecastError) -> float:
    """J_e from its formula, point by point."""
    for _ in range(of.lead_hours // forecaster.step_hours):
        states = torch.cat([states, forecaster.step(states[None])])[-forecaster.history :]
    rows, columns = GRID.shape
    total, area = 0.0, 0.0
    for row in range(rows):
        for column in range(columns):
            inside = -30 <= GRID.latitude[row] <= 60
            if not (inside and (GRID.longitude[column] <= 60 or GRID.longitude[column] >= 260)):
                continue
            weight = float(GRID.area_weights[row])
            error = states[-1, :, row, column] - of.truth.values[:, row, column]
            squares = [(float(error[channel]) / STD[channel]) ** 2 for channel in of.channels]
            total, area = total + weight * sum(squares) / len(squares), area + weight
    return total / area


@pytest.mark.parametrize("history", [1, 2])
@pytest.mark.parametrize("hours", [6, 18])
def test_forecast_error_and_its_gradient(history: int, hours: int) -> None:
    forecaster, states, of = bent(history), start(history), score(hours)
    value, gradient = of.gradient(forecaster, states)
    np.testing.assert_allclose(value, by_hand(states, forecaster, of), rtol=1e-12)
    assert of.value(forecaster, states) == pytest.approx(value, rel=1e-12)
    assert gradient.shape == states.shape
    for seed in range(3):
        direction = random(*states.shape, seed=30 + seed)
        ahead, behind = (of.value(forecaster, states + h * direction) for h in (1e-5, -1e-5))
        np.testing.assert_allclose(
            float((gradient * direction).sum()), (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-10
        )
    # The same gradient per std and area: δJ_e is the sum over channels of the area mean of s δx/σ.
    sensitivity, direction = scaled(gradient, STD, GRID), random(*states.shape, seed=40)
    normalised = direction / torch.from_numpy(STD)[:, None, None]
    np.testing.assert_allclose(
        float(GRID.area_mean(sensitivity * normalised).sum()), float((gradient * direction).sum()), rtol=1e-12
    )


def test_small_perturbations_do_what_the_gradient_says() -> None:
    forecaster, states, of = bent(2), start(2), score()
    _, gradient = of.gradient(forecaster, states)
    perturbation = -gradient[-1:] / gradient[-1:].norm()
    tried = perturbed(of, forecaster, states, gradient, perturbation, (1e-5, 1e-2, 0.1))
    assert [one.size for one in tried] == [1e-5, 1e-2, 0.1]
    np.testing.assert_allclose(tried[1].predicted, -0.01 * float(gradient[-1].norm()))
    assert tried[1].predicted < 0 > tried[1].found
    # The error is of first order in the size.
    assert tried[0].error < 2e-5
    np.testing.assert_allclose(tried[2].error / tried[1].error, 10, rtol=0.2)


class Case:
    """A linear toy, whose analysis is exact."""

    def __init__(self, window: int, history: int, model_error: float = 0.0, size: float = 0.3) -> None:
        self.forecaster = linear(history)
        self.start = start(history)
        self.observations = [temperatures([0.0, 2.0, -1.5] if window > 1 else [0.0] * 4, 50 + number)
                             for number in range(window)]  # fmt: skip
        settings = {"lambda_": 2.0, "iterations": 300, "history": 30, "tolerance": 1e-13, "dtype": "float64"}
        self.arm: VariationalAssimilator = (
            FourDVar(control(), window, model_error_scale=model_error, **settings)  # type: ignore[arg-type]
            if window > 1
            else VariationalAssimilator(control(), **settings)  # type: ignore[arg-type]
        )
        self.score = score(12)

    def states(self, observations: list[Observations]) -> tuple[Tensor, Tensor]:
        """The last states of background and analysis."""
        problem, w = self.minimum(observations)
        before = torch.stack([state.values for state in problem.backgrounds])
        after = before + torch.stack(problem.increments(w))
        count = self.forecaster.history
        return tuple(torch.cat([self.start[:-1], states])[-count:] for states in (before, after))  # type: ignore[return-value]

    def minimum(self, observations: list[Observations]) -> tuple[Problem, Tensor]:
        """Where J is least, to more digits than a line search can see."""
        problem = self.arm.problem(self.start, observations, self.forecaster)
        found = self.arm.minimum(problem.cost, problem.first).final
        w = found.w.clone().requires_grad_(True)
        linear = Linearised(problem.cost, w)
        rest, _ = solve(problem.cost.lambda_, linear, -found.gradient, 500, 1e-15)
        assert rest.norm() < 1e-5 * found.w.norm()
        return problem, found.w + rest

    def impacts(self, gradient: Tensor) -> Impacts:
        count = min(self.arm.window, self.forecaster.history)
        return impacts(*self.minimum(self.observations), gradient[-count:], 500, 1e-13)


@pytest.mark.filterwarnings("ignore:observations before the first or after the last")
@pytest.mark.parametrize(
    ("window", "history", "model_error"), [(1, 1, 0.0), (1, 2, 0.0), (3, 1, 0.0), (3, 2, 0.0), (3, 2, 0.4)]
)
def test_impacts_add_up_to_the_change_of_the_forecast_error(
    window: int, history: int, model_error: float
) -> None:
    case = Case(window, history, model_error)
    before, after = case.states(case.observations)
    value_b, gradient_b = case.score.gradient(case.forecaster, before)
    value_a, gradient_a = case.score.gradient(case.forecaster, after)
    gradient = 0.5 * (gradient_a + gradient_b)
    found = case.impacts(gradient)
    assert found.residual < 1e-10
    assert found.values.shape == (sum(map(len, case.observations)),)
    assert abs(value_a - value_b) > 1e-3
    np.testing.assert_allclose(found.values.sum(), value_a - value_b, rtol=1e-8)

    # Each is what its innovation does to the analysis, made again with another value.
    joined = Observations.concatenate(case.observations)
    for number in (0, len(joined) - 1):
        step, row = divmod(number, len(case.observations[0]))
        moved = list(case.observations)
        value = moved[step].value.copy()
        value[row] += 1.0
        moved[step] = replace(moved[step], value=value)
        change = case.states(moved)[1] - after
        problem = case.arm.problem(case.start, case.observations, case.forecaster)
        expected = float(problem.cost.innovation[number]) * float((gradient * change).sum())
        np.testing.assert_allclose(found.values[number], expected, rtol=1e-6, atol=1e-10)


def test_the_perturbation_is_the_analysis_error_that_matters_most() -> None:
    """Against the matrices of a 3DVar."""
    case = Case(1, 1)
    _, after = case.states(case.observations)
    _, gradient = case.score.gradient(case.forecaster, after)
    found = case.impacts(gradient)
    operator = case.observations[0].operator(SPEC, GRID)
    u = case.arm.control.matrix.double()  # type: ignore[union-attr]
    columns = u.T.reshape(-1, len(SPEC), *GRID.shape)
    a = operator(columns).T / torch.tensor(case.observations[0].error_std)[:, None]
    covariance = u @ torch.linalg.inv(2.0 * torch.eye(u.shape[1]).double() + a.T @ a) @ u.T
    g = gradient.flatten()
    expected = -covariance @ g / (g @ covariance @ g).sqrt()
    np.testing.assert_allclose(found.perturbation.flatten(), expected, atol=1e-9)


def test_regions() -> None:
    weights = REGION.weights(GRID)
    np.testing.assert_allclose(weights.sum(), 1.0)
    # Around Greenwich: 270°, 315°, 0° and 45° of the 8 longitudes.
    assert (weights.any(0) == [True, True, False, False, False, False, True, True]).all()
    np.testing.assert_allclose(Region(-90, 90, 0, 360).weights(GRID).sum(1) * 4, GRID.area_weights)
    assert (Region(-90, 90, 170, -170).weights(GRID) > 0).any(0).nonzero()[0].tolist() == [4]
    for wrong in ((50, 40, 0, 10), (-91, 0, 0, 10), (0, 50, 10, 10), (0, float("nan"), 0, 10)):
        with pytest.raises(UserError, match="region"):
            Region(*wrong)
    with pytest.raises(UserError, match="holds no point"):
        Region(1, 2, 0, 10).weights(GRID)
