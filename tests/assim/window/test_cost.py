"""The cost of a window and its gradient, as the analysis minimises it, against what the formula says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.assim.window.toys import GRID, SPEC, bent, control, observed, random, start
from vaevar.assim import variational
from vaevar.assim.cost import Cost
from vaevar.assim.window.fourdvar import FourDVar
from vaevar.data.observations.points import Observations
from vaevar.forecast import Forecaster

OFFSETS = ([0.0, 1.5, 3.0], [-2.0, 0.0], [-6.0, -0.5, 0.0, 0.0])


class Caught(Exception):
    """The cost that was to be minimised."""


def cost_of(
    method: FourDVar, states: Tensor, observations: list[Observations], forecaster: Forecaster, patch: Any
) -> tuple[Cost[list[Tensor]], int]:
    """What ``analyse_window`` minimises, and the size of its control vector."""

    def caught(cost: Cost[list[Tensor]], first: Tensor, *rest: object) -> None:
        raise Caught(cost, first.numel())

    patch.setattr(variational, "minimise", caught)
    with pytest.raises(Caught) as found:
        method.analyse_window(states, observations, forecaster)
    cost, size = found.value.args
    return cost, size


def by_hand(
    method: FourDVar, states: Tensor, observations: list[Observations], forecaster: Forecaster, v: Tensor
) -> Tensor:
    """J(w, η) from its formula, one observation at a time."""
    columns = method.control.shape[0]
    error = method.model_error or method.control
    w, rest = v[:columns], v[columns:]
    window = [*states[:-1], states[-1] + method.control(w)]
    for _ in observations[1:]:
        forecast = forecaster.step(torch.stack(window[-forecaster.history :])[None])[0]
        if method.model_error_scale:
            eta, rest = rest[: error.shape[0]], rest[error.shape[0] :]
            forecast = forecast + method.model_error_scale * error(eta)
        window.append(forecast)
    window = window[forecaster.history - 1 :]
    total = 0.5 * (method.lambda_ or 0.0) * v.square().sum()
    for number, made in enumerate(observations):
        for row in range(len(made)):
            one = made.select(np.array([row]))
            h = one.operator(SPEC, GRID)
            at = number + float(one.time_offset[0]) / 6
            below = min(int(np.floor(at)), len(window) - 2)
            seen = (1 - (at - below)) * h(window[below]) + (at - below) * h(window[below + 1])
            departure = (torch.tensor(one.value) - seen) / torch.tensor(one.error_std)
            total = total + 0.5 * departure.square().sum()
    return total


CASES = [
    (1, {"model_error_scale": 0.0}),
    (1, {"model_error_scale": 0.3}),
    (2, {"model_error_scale": 0.0}),
    (2, {"model_error_scale": 0.7, "model_error": control(seed=7, columns=5)}),
]


@pytest.mark.parametrize(("history", "settings"), CASES)
def test_cost_and_gradient(history: int, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """In w and in every η, with wind speeds, times between the steps, and forecasters that bend."""
    method = FourDVar(control(), window=3, lambda_=2.5, dtype="float64", **settings)
    forecaster, states = bent(history), start(history)
    observations = [observed(offsets, seed) for seed, offsets in enumerate(OFFSETS)]
    cost, size = cost_of(method, states, observations, forecaster, monkeypatch)
    errors = (settings.get("model_error") or method.control).shape[0] if method.model_error_scale else 0
    assert size == 12 + 2 * errors

    def value(v: Tensor) -> Tensor:
        j_b, j_o = cost.terms(v)
        return j_b + j_o

    v = random(size, seed=5).requires_grad_(True)
    expected = by_hand(method, states, observations, forecaster, v)
    assert value(v).item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(value(v), v)
    (of_formula,) = torch.autograd.grad(expected, v)
    torch.testing.assert_close(gradient, of_formula, rtol=1e-10, atol=1e-9)
    with torch.no_grad():
        for number in range(size):
            step = torch.zeros_like(v)
            step[number] = 1e-5
            slope = (value(v + step) - value(v - step)) / 2e-5
            assert slope.item() == pytest.approx(gradient[number].item(), rel=1e-6, abs=1e-6)
        # The error of a one-sided difference falls in proportion to the step.
        direction = random(size, seed=6)
        steps = [1e-2, 1e-3, 1e-4]
        slope = (gradient * direction).sum()
        errors_ = [abs(((value(v + h * direction) - value(v)) / h - slope).item()) for h in steps]
    assert errors_[0] / errors_[1] == pytest.approx(10, rel=0.2)
    assert errors_[1] / errors_[2] == pytest.approx(10, rel=0.2)


@pytest.mark.parametrize(("history", "settings"), CASES)
def test_the_analysis_is_the_minimum(history: int, settings: dict[str, Any]) -> None:
    """States of which each is the forecast from those before, but for model error; no w near by is better."""
    method = FourDVar(
        control(), window=3, lambda_=2.5, dtype="float64", iterations=200, tolerance=1e-9, **settings
    )
    forecaster, states = bent(history), start(history)
    observations = [observed(offsets, seed) for seed, offsets in enumerate(OFFSETS)]
    seen: list[float] = []
    method.on_iteration = lambda number, j, norm: seen.append(j)
    found = method.analyse_window(states, observations, forecaster)
    assert len(found) == 3
    trajectory = [*states[:-1], *(one.state.values for one in found)]
    for number in range(1, 3):
        before = torch.stack(trajectory[number - 1 : number - 1 + history])
        strayed = float((forecaster.step(before[None])[0] - found[number].state.values).abs().max())
        assert (strayed < 1e-10) == (method.model_error_scale == 0)
    backgrounds = [one.background for one in found]
    torch.testing.assert_close(backgrounds[0].values, states[-1], rtol=0, atol=0)
    free = forecaster.step(states[None])[0]
    torch.testing.assert_close(backgrounds[1].values, free, rtol=0, atol=0)
    numbers = found[0].diagnostics
    assert numbers["chi2"] == pytest.approx(2 * (numbers["j_b"] + numbers["j_o"]) / 9)
    assert numbers["lambda"] == 2.5
    assert numbers["grad_norm"] < 1e-6 * numbers["initial_grad_norm"]
    assert all(one.converged and one.diagnostics == numbers for one in found)
    assert seen[-1] == pytest.approx(numbers["j_b"] + numbers["j_o"])
    assert seen == sorted(seen, reverse=True)
