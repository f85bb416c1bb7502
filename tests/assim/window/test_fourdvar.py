"""4DVar's settings, what it refuses, and what it does when a forecaster fails it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vaevar
from tests.assim.window.toys import GRID, SPEC, bent, control, observed, start
from vaevar.assim.control.base import LinearControl
from vaevar.assim.variational import VariationalAssimilator
from vaevar.assim.window.fourdvar import FourDVar
from vaevar.data.observations.points import Observations
from vaevar.errors import ForecasterFault, UserError
from vaevar.forecast import Forecaster
from vaevar.mistakes.notices import Notice
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

NOTHING = Observations.concatenate([])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("history", [1, 2])
def test_a_window_of_one_is_3dvar_to_the_last_bit(dtype: Any, history: int) -> None:
    """In a cycle of several analyses, of states in single precision."""
    forecaster = bent(history)
    settings: dict[str, Any] = {"lambda_": 2.0, "iterations": 15, "dtype": dtype}
    first = [State(values, SPEC, GRID) for values in start(history, torch.float32)]
    times = [f"2021-01-01T{hour:02d}" for hour in (0, 6, 12, 18)]

    def observe(time: np.datetime64) -> Observations:
        return observed([0.0] * 8, seed=int(time.astype(int)) % 97)

    def run(method: vaevar.Assimilator) -> list[vaevar.Analysis]:
        steps = vaevar.cycle(
            forecaster,
            method,
            first,
            times,
            lambda time: observed([0.0] * 8, seed=int(time.astype(int)) % 97),
        )
        return [step.result for step in steps]

    ours = run(FourDVar(control(), window=1, **settings))
    for one, other in zip(ours, run(VariationalAssimilator(control(), **settings)), strict=True):
        assert one.state.values.dtype == torch.float32
        assert torch.equal(one.state.values, other.state.values)
        assert one.background is not None
        assert other.background is not None
        assert torch.equal(one.background.values, other.background.values)
        assert not torch.equal(one.state.values, one.background.values)
        numbers = [
            {name: value for name, value in result.diagnostics.items() if name != "seconds"}
            for result in (one, other)
        ]
        assert numbers[0] == numbers[1]
        assert one.converged == other.converged


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"window": 0}, "window is 0, must be at least 1"),
        ({"lambda_": None}, "lambda_ is null"),
        ({"lambda_": 0.0}, "lambda_ is 0"),
        ({"model_error_scale": -0.1}, "model_error_scale is -0.1"),
        ({"model_error_scale": float("nan")}, "model_error_scale is nan"),
        ({"model_error_scale": float("inf")}, "model_error_scale is inf"),
        ({"iterations": 0}, "iterations 0"),
        ({"forecaster": Forecaster.from_function(lambda x: x[:, -1], SPEC, GRID)}, "has no gradient"),
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=f"FourDVar: .*{says}"):
        FourDVar(control(), **wrong)


def other(spec: StateSpec = SPEC, grid: Grid = GRID, **settings: Any) -> Forecaster:
    return Forecaster.from_function(lambda x: x[:, -1], spec, grid, differentiable=True, **settings)


WIND = StateSpec(["u10", "v10"], [], [])


@pytest.mark.parametrize(
    ("settings", "forecaster", "says"),
    [
        ({}, Forecaster.from_function(lambda x: x[:, -1], SPEC, GRID), "has no gradient, which 4DVar needs"),
        ({"forecaster": other(WIND)}, bent(1), "own forecaster steps from other states than the cycle's"),
        ({"forecaster": other(grid=Grid.gaussian(6))}, bent(1), "own forecaster steps from other states"),
        ({"forecaster": bent(2)}, bent(1), "other states than the cycle's, history 2 instead of 1"),
        ({"forecaster": other(step_hours=12)}, bent(1), "step_hours 12 instead of 6"),
        ({}, other(WIND), "made for other channels than the background's"),
        (
            {"model_error": LinearControl(torch.ones(64, 2), WIND, GRID), "model_error_scale": 0.3},
            bent(1),
            "made for other channels",
        ),
    ],
)
def test_what_cannot_work_together_is_refused_before_a_cycle_begins(
    settings: dict[str, Any], forecaster: Forecaster, says: str
) -> None:
    method = FourDVar(control(), window=2, **settings)
    with pytest.raises(UserError, match=says):
        method.require_forecaster(forecaster)
    with pytest.raises(UserError, match=says):
        method.analyse_window(start(forecaster.history), [NOTHING] * 2, forecaster)
    asked: list[Any] = []
    spec = forecaster.spec
    first = State(start(1)[0, : len(spec)], spec, forecaster.grid)
    steps = vaevar.cycle(
        forecaster, method, [first], ["2021-01-01T00", "2021-01-01T06"], lambda time: asked.append(time)
    )
    with pytest.raises(UserError, match=says):
        next(steps)
    assert not asked


def test_one_time_is_not_a_window() -> None:
    with pytest.raises(UserError, match="analyses windows of 3 times: call its analyse_window, or run it in"):
        FourDVar(control(), window=3)(State(start(1)[0], SPEC, GRID), observed([0.0]))


def test_nothing_observed_leaves_the_forecast() -> None:
    found = FourDVar(control(), window=3).analyse_window(start(2), [NOTHING] * 3, bent(2))
    following = bent(2).step(start(2)[None])[0]
    assert torch.equal(found[0].state.values, start(2)[-1])
    assert torch.equal(found[1].state.values, following)
    assert all(one.state is one.background for one in found)
    some = FourDVar(control(), window=1).analyse_window(start(1), [observed([0.0])], bent(1))
    assert found[0].diagnostics.keys() == some[0].diagnostics.keys()
    assert found[0].diagnostics["iterations"] == 0


def test_who_calls_it_alone_is_told_that_it_did_not_converge() -> None:
    method = FourDVar(control(), window=3, iterations=1, tolerance=1e-6)
    with pytest.warns(Notice, match="FourDVar: the minimisation did not converge: after 1 iterations"):
        method.analyse_window(start(1), observations(), bent(1))


def observations() -> list[Observations]:
    return [observed([0.0] * 4, seed) for seed in range(3)]


def test_it_works_where_gradients_are_off() -> None:
    method = FourDVar(control(), window=3, model_error_scale=0.5)
    expected = method.analyse_window(start(1), observations(), bent(1))
    with torch.inference_mode():
        found = method.analyse_window(start(1), observations(), bent(1))
    for one, wanted in zip(found, expected, strict=True):
        assert torch.equal(one.state.values, wanted.state.values)
        assert not one.state.values.requires_grad


class Spoilt(torch.autograd.Function):
    """Identity, whose gradient is not a number in one value of t2m; from a value on, if one is given."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, beyond: float) -> Tensor:
        ctx.spoilt = beyond == 0 or bool((states.detach()[:, -1, 0] > beyond).any())
        return states.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone()
        if ctx.spoilt:
            gradient[..., 2, 1, 3] = torch.nan
        return gradient, None


def spoilt(beyond: float = 0.0) -> Forecaster:
    good = bent(1)
    return Forecaster.from_function(
        lambda states: good.step(Spoilt.apply(states, beyond)), SPEC, GRID, differentiable=True
    )


def test_a_gradient_that_is_not_finite_names_step_and_channel() -> None:
    with pytest.raises(ForecasterFault, match=r"gradient through step 2 of _Function .* not finite in t2m"):
        FourDVar(control(), window=3).analyse_window(start(1), observations(), spoilt())


def test_a_trial_too_far_out_is_taken_back() -> None:
    """Where the gradient is lost far from the background, the line search comes back from there."""
    largest = float(start(1)[0, 0].max())
    # A strange observation pulls the first trial to where there is no gradient.
    strange = [NOTHING, observed([0.0] * 6, variable="u10", value=[20.0] * 6, error_std=[1.0] * 6), NOTHING]
    method = FourDVar(control(), window=3, dtype="float64")
    free = method.analyse_window(start(1), strange, bent(1))
    assert float(free[0].state.values[0].max()) > largest + 1.0
    found = method.analyse_window(start(1), strange, spoilt(beyond=largest + 1.0))
    numbers = found[0].diagnostics
    assert numbers["j_b"] + numbers["j_o"] < numbers["j_o_initial"]
    assert float(found[0].state.values[0].max()) <= largest + 1.0


def failing(error: Callable[[], Exception]) -> Forecaster:
    def step(states: Tensor) -> Tensor:
        raise error()

    return Forecaster.from_function(step, SPEC, GRID, differentiable=True)


def test_a_forecast_that_fails_within_the_window_is_the_forecasters_fault() -> None:
    method = FourDVar(control(), window=3)
    with pytest.raises(ForecasterFault, match="the forecast through its window fails: the session is gone"):
        method.analyse_window(start(1), observations(), failing(lambda: UserError("the session is gone")))
    with pytest.raises(KeyError):
        method.analyse_window(start(1), observations(), failing(lambda: KeyError("z500")))
