from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vaevar.assim.assimilator import Analysis, Assimilator, FreeRun
from vaevar.assim.control.base import ControlTransform, LinearControl
from vaevar.assim.cost import Cost
from vaevar.assim.minimiser import minimise
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.interpolation import PointInterpolation
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.points import Observations
from vaevar.data.observations.simulate import simulate
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec, regrid

SPEC = StateSpec(surface=["u10", "t2m"], upper=["t"], levels=[500, 850])
GRID = Grid.gaussian(4)
SIZE = len(SPEC) * 4 * 8
NOON = np.datetime64("2022-01-01T12", "ns")


class Bent(ControlTransform):
    """A small nonlinear D: D(0) = 0, but not a straight line."""

    def __init__(self, grid: Grid = GRID, gain: float = 0.5, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.spec, self.grid, self.gain = SPEC, grid, gain
        random = torch.Generator().manual_seed(1)
        size = len(SPEC) * grid.shape[0] * grid.shape[1]
        self.first = nn.Parameter(torch.randn(20, 12, generator=random, dtype=dtype) / 3)
        self.second = nn.Parameter(torch.randn(size, 20, generator=random, dtype=dtype) / 3)

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, 4)

    def forward(self, w: Tensor) -> Tensor:
        hidden = torch.tanh(self.gain * (self.first @ w.flatten()))
        return (self.second @ hidden).unflatten(0, (len(SPEC), *self.grid.shape))


def background(grid: Grid = GRID, dtype: torch.dtype = torch.float64) -> State:
    mean = torch.tensor([3.0, 280.0, 255.0, 275.0], dtype=dtype)[:, None, None]
    noise = torch.randn(
        (len(SPEC), *grid.shape), generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    return State(mean + noise.to(dtype), SPEC, grid)


def observed(truth: State, columns: int = 10, seed: int = 3) -> Observations:
    return simulate(truth, ColumnNetwork(columns, seed), ObservationErrors(), NOON, seed)


def square_root(seed: int = 4) -> Tensor:
    """A full-rank, correlated U."""
    random = torch.Generator().manual_seed(seed)
    matrix = torch.randn(SIZE, SIZE, generator=random, dtype=torch.float64) / math.sqrt(SIZE)
    return matrix + 0.5 * torch.eye(SIZE, dtype=torch.float64)


def plus(state: State, increment: Tensor) -> State:
    return dataclasses.replace(state, values=state.values + increment)


def test_gradient_against_finite_differences() -> None:
    control, here = Bent(), background()
    made = observed(here)
    operator = PointInterpolation(SPEC, GRID, made)
    innovation = torch.tensor(made.value) - operator(here.values)
    cost = Cost(control, operator, innovation, torch.tensor(made.error_std), lambda_=4.0)

    def value(w: Tensor) -> Tensor:
        j_b, j_o = cost.terms(w)
        return j_b + j_o

    random = torch.Generator().manual_seed(5)
    w = torch.randn(control.shape, generator=random, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(value(w), w)
    with torch.no_grad():
        for position in np.ndindex(*control.shape):
            step = torch.zeros_like(w)
            step[position] = 1e-5
            slope = (value(w + step) - value(w - step)) / 2e-5
            assert slope.item() == pytest.approx(gradient[position].item(), rel=1e-7, abs=1e-6)
        # The error of a one-sided difference falls in proportion to the step.
        direction = torch.randn(control.shape, generator=random, dtype=torch.float64)
        steps = [1e-2, 1e-3, 1e-4]
        slope = (gradient * direction).sum()
        errors = [abs(((value(w + h * direction) - value(w)) / h - slope).item()) for h in steps]
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.1)


def test_cost_by_hand() -> None:
    # One control w, D(w) = 2 w everywhere; two observations of it with errors 1 and 0.5.
    cost = Cost(
        lambda w: 2 * w, lambda x: x.expand(2), torch.tensor([3.0, 1.0]), torch.tensor([1.0, 0.5]), 4.0
    )
    j_b, j_o = cost.terms(torch.tensor([0.25]))
    assert j_b.item() == pytest.approx(0.5 * 4 * 0.0625)
    assert j_o.item() == pytest.approx(0.5 * (2.5**2 + (0.5 / 0.5) ** 2))


@pytest.mark.parametrize("lambda_", [1.0, 4.0])
def test_linear_gaussian_analysis_is_the_blue(lambda_: float) -> None:
    matrix, here = square_root(), background()
    made = observed(plus(here, torch.full_like(here.values, 0.7)), columns=12)
    control = LinearControl(matrix, SPEC, GRID)
    variational = VariationalAssimilator(
        control, lambda_=lambda_, iterations=200, history=60, tolerance=1e-10, dtype="float64"
    )
    found = variational(here, made)

    operator = PointInterpolation(SPEC, GRID, made)
    h = operator(torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, *here.values.shape)).T
    b = matrix @ matrix.T / lambda_
    r = torch.diag(torch.tensor(made.error_std) ** 2)
    d = torch.tensor(made.value) - operator(here.values)
    increment = b @ h.T @ torch.linalg.solve(h @ b @ h.T + r, d)
    expected = here.values + increment.reshape(here.values.shape)
    assert (found.state.values - expected).abs().max() < 1e-6 * increment.abs().max()
    # At the minimum 2 J = dᵀ (H B Hᵀ + R)⁻¹ d.
    minimum = (d @ torch.linalg.solve(h @ b @ h.T + r, d)).item()
    assert found.diagnostics["chi2"] == pytest.approx(minimum / len(made), rel=1e-9)
    j_o = 0.5 * ((h @ increment - d) / torch.tensor(made.error_std)).square().sum().item()
    assert found.diagnostics["j_o"] == pytest.approx(j_o, rel=1e-6)


def test_float32_agrees_with_float64() -> None:
    here = background()
    made = observed(plus(here, torch.ones_like(here.values)))
    matrix = square_root()
    settings_ = {"iterations": 40, "tolerance": 1e-4}
    exact = VariationalAssimilator(LinearControl(matrix, SPEC, GRID), dtype="float64", **settings_)
    single = VariationalAssimilator(LinearControl(matrix.float(), SPEC, GRID), **settings_)
    expected = exact(here, made).state.values
    found = single(background(dtype=torch.float32), made).state.values
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-3)


def test_nonlinear_analysis_recovers_the_truth() -> None:
    control, here = Bent(), background()
    w_true = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)
    truth = plus(here, control(w_true).detach())
    made = observed(truth, columns=60)
    operator = PointInterpolation(SPEC, GRID, made)
    made = dataclasses.replace(made, value=operator(truth.values).numpy(), error_std=np.full(len(made), 1e-3))
    variational = VariationalAssimilator(control, iterations=300, tolerance=1e-9, dtype="float64")
    found = variational(here, made)
    assert (found.state.values - truth.values).abs().max() < 1e-4
    assert here.values is not found.state.values


def test_diagnostics_and_callback() -> None:
    here = background()
    made = observed(plus(here, torch.ones_like(here.values)))
    variational = VariationalAssimilator(LinearControl(square_root(), SPEC, GRID), dtype="float64")
    seen: list[tuple[int, float]] = []
    variational.on_iteration = lambda iteration, j, _: seen.append((iteration, j))
    diagnostics = variational(here, made).diagnostics
    assert set(diagnostics) == {
        "j_b", "j_o", "j_o_initial", "grad_norm", "initial_grad_norm", "iterations", "evaluations", "chi2",
        "lambda", "seconds",
    }  # fmt: skip
    assert all(type(value) is float and math.isfinite(value) for value in diagnostics.values())
    assert [iteration for iteration, _ in seen] == list(range(1, int(diagnostics["iterations"]) + 1))
    costs = [diagnostics["j_o_initial"], *(j for _, j in seen)]
    assert all(after < before for before, after in itertools.pairwise(costs))
    assert costs[-1] == diagnostics["j_b"] + diagnostics["j_o"]
    assert diagnostics["grad_norm"] <= 1e-3 * diagnostics["initial_grad_norm"]
    assert 0 < diagnostics["seconds"] < 60
    # The line search takes its first trial almost always: no evaluation is made twice.
    assert diagnostics["evaluations"] < 1.5 * diagnostics["iterations"] + 5


@pytest.mark.parametrize(
    ("innovation", "lambda_", "expected"),
    [
        ([100.0, 10.0], 0.5, [1.0, 0.1]),  # no further than a prior standard deviation
        ([100.0, 10.0], 4.0, [1.0, 0.1]),
        ([0.3, -0.1], 4.0, [0.075, -0.025]),  # no further than 1/λ along the slope
        ([3.0, -1.0], 0.5, [1.0, -1 / 3]),
        ([0.5, -0.1], 0.8, [0.625, -0.125]),
    ],
)
def test_the_first_trial_is_neither_timid_nor_bold(
    innovation: list[float], lambda_: float, expected: list[float]
) -> None:
    tried: list[Tensor] = []

    def control(w: Tensor) -> Tensor:
        tried.append(w.detach().clone())
        return w

    d = torch.tensor(innovation, dtype=torch.float64)
    cost = Cost(control, lambda x: x, d, torch.ones(2, dtype=torch.float64), lambda_)
    found = minimise(cost, torch.zeros(2, dtype=torch.float64), 30, 10, 1e-9)
    torch.testing.assert_close(tried[1], torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(found.final.w, d / (1 + lambda_))
    assert found.evaluations == len(tried)
    assert found.initial.grad_norm == pytest.approx(float(d.norm()))


def test_iterations_are_a_limit() -> None:
    here = background()
    variational = VariationalAssimilator(
        LinearControl(square_root(), SPEC, GRID), iterations=2, tolerance=0.0
    )
    found = variational(here, observed(plus(here, torch.ones_like(here.values))))
    assert found.diagnostics["iterations"] == 2


def test_it_stops_where_float32_ends() -> None:
    here = background(dtype=torch.float32)
    variational = VariationalAssimilator(
        LinearControl(square_root().float(), SPEC, GRID), iterations=500, tolerance=0.0
    )
    diagnostics = variational(here, observed(plus(here, torch.ones_like(here.values)))).diagnostics
    assert diagnostics["iterations"] < 30
    # J is known to 1e-7, so its minimum to the square root of that.
    assert diagnostics["grad_norm"] < 1e-3 * diagnostics["initial_grad_norm"]


def test_no_observations_leave_the_background() -> None:
    here = background()
    found = VariationalAssimilator(Bent())(here, Observations.concatenate([]))
    assert found.state is here
    assert found.diagnostics["iterations"] == 0
    assert math.isnan(found.diagnostics["chi2"])
    free = FreeRun()(here, observed(here))
    assert isinstance(free, Analysis)
    assert free.state is here
    assert free.diagnostics == {}


def test_perfect_background_stays() -> None:
    here = background()
    made = observed(here)
    made = dataclasses.replace(made, value=PointInterpolation(SPEC, GRID, made)(here.values).numpy())
    found = VariationalAssimilator(Bent(), dtype="float64")(here, made)
    torch.testing.assert_close(found.state.values, here.values)
    assert found.diagnostics["iterations"] == 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(mode: type) -> None:
    here = background()
    made = observed(plus(here, torch.ones_like(here.values)))
    control = Bent()
    expected = VariationalAssimilator(control, dtype="float64")(here, made).state.values
    with mode():
        inside = dataclasses.replace(here, values=here.values.clone())
        found = VariationalAssimilator(control, dtype="float64")(inside, made).state.values
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in control.parameters())


def test_bfloat16_autocast_keeps_the_sums_in_float32() -> None:
    here = background(dtype=torch.float32)
    made = observed(plus(here, torch.ones_like(here.values)), columns=40)
    control = Bent(dtype=torch.float32)
    expected = VariationalAssimilator(control)(here, made)
    operator = PointInterpolation(SPEC, GRID, made).to(torch.float32)
    innovation = torch.tensor(made.value).float() - operator(here.values)
    cost = Cost(control, operator, innovation, torch.tensor(made.error_std).float(), 1.0)
    w = torch.zeros(control.shape)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert control(w).dtype == torch.bfloat16
        assert {term.dtype for term in cost.terms(w)} == {torch.float32}
        torch.testing.assert_close(cost.terms(w)[1], 0.5 * (innovation / cost.error_std).square().sum())
        found = VariationalAssimilator(control)(here, made)
    assert found.state.values.dtype == torch.float32
    torch.testing.assert_close(found.state.values, expected.state.values, rtol=0, atol=0.1)
    assert found.diagnostics["j_o"] < 1.05 * expected.diagnostics["j_o"]


def test_an_operator_with_products_is_not_asked_in_reduced_precision() -> None:
    random = torch.Generator().manual_seed(0)
    matrix, w = torch.randn(6, 4, generator=random), torch.randn(4, generator=random)
    cost = Cost(lambda w: w, lambda x: matrix @ x, torch.ones(6), torch.ones(6), 1.0)
    expected = 0.5 * (1 - matrix @ w).square().sum()
    torch.testing.assert_close(cost.terms(w)[1], expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (matrix @ w).dtype == torch.bfloat16
        torch.testing.assert_close(cost.terms(w)[1], expected)


def test_increment_on_a_coarser_grid() -> None:
    fine = Grid.equiangular(13, 24)
    here = background(fine)
    made = observed(plus(here, torch.ones_like(here.values)), columns=20)
    control = LinearControl(square_root(), SPEC, GRID)
    variational = VariationalAssimilator(control, iterations=200, tolerance=1e-8, dtype="float64")
    found = variational(here, made)
    increment = found.state.values - here.values
    assert found.state.grid == fine

    # H_D interpolates straight from D's grid, so the closed form is that of a state on D's grid.
    coarse = PointInterpolation(SPEC, GRID, made)
    h = coarse(torch.eye(SIZE, dtype=torch.float64).reshape(SIZE, len(SPEC), *GRID.shape)).T
    b, r = square_root() @ square_root().T, torch.diag(torch.tensor(made.error_std) ** 2)
    d = torch.tensor(made.value) - PointInterpolation(SPEC, fine, made)(here.values)
    best = (b @ h.T @ torch.linalg.solve(h @ b @ h.T + r, d)).reshape(len(SPEC), *GRID.shape)
    torch.testing.assert_close(increment, regrid(best, SPEC, GRID, fine), rtol=0, atol=1e-5)


def test_other_channels_are_refused() -> None:
    here = background()
    other = StateSpec(surface=["u10", "t2m"], upper=["t"], levels=[500, 1000])
    with pytest.raises(
        UserError, match=r"made for other channels than the background's, without t1000 and with t850"
    ):
        VariationalAssimilator(Bent())(dataclasses.replace(here, spec=other), observed(here))


def test_a_background_with_nan_is_refused_clearly() -> None:
    here = background()
    made = observed(here)
    here.values[:] = math.nan  # a State made of such values would not have been accepted
    with pytest.raises(FloatingPointError, match=r"cost of the background is not finite.*NaN"):
        VariationalAssimilator(Bent(), dtype="float64")(here, made)


@pytest.mark.parametrize(
    "arguments",
    [
        {"lambda_": 0.0}, {"lambda_": -1.0}, {"lambda_": math.inf}, {"lambda_": math.nan}, {"iterations": 0},
        {"history": 0}, {"tolerance": 1.0}, {"tolerance": -1e-9}, {"tolerance": math.nan},
    ],
)  # fmt: skip
def test_arguments_out_of_range(arguments: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(arguments))):
        VariationalAssimilator(Bent(), **arguments)  # type: ignore[arg-type]


def test_an_overflowing_trial_step_is_taken_back() -> None:
    # J is infinite for w > 0.9: the first trial step, of length 1, falls there.
    def wall(w: Tensor) -> Tensor:
        return torch.where(w < 0.9, w, torch.full_like(w, math.inf))

    cost = Cost(wall, lambda x: x, torch.tensor([0.8]), torch.tensor([0.1]), 1e-3)
    minimum = minimise(cost, torch.zeros(1), iterations=30, history=5, tolerance=1e-6)
    assert minimum.final.w.item() == pytest.approx(0.8, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(2, 6),
    half=st.integers(1, 5),
    columns=st.integers(1, 8),
    size=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_any_shape_lowers_the_cost(rows: int, half: int, columns: int, size: int, seed: int) -> None:
    grid = Grid.gaussian(rows, 2 * half)
    here = background(grid)
    random = torch.Generator().manual_seed(seed)
    matrix = torch.randn(len(SPEC) * rows * 2 * half, size, generator=random, dtype=torch.float64)
    variational = VariationalAssimilator(LinearControl(matrix, SPEC, grid), dtype="float64", tolerance=1e-6)
    made = observed(plus(here, torch.ones_like(here.values)), columns, seed)
    found = variational(here, made)
    assert found.state.values.shape == here.values.shape
    assert found.diagnostics["j_b"] + found.diagnostics["j_o"] < found.diagnostics["j_o_initial"]
    assert found.diagnostics["grad_norm"] < found.diagnostics["initial_grad_norm"]
    again = variational(here, made)
    assert torch.equal(again.state.values, found.state.values)


def test_assimilators_are_modules_that_move_with_their_owner() -> None:
    variational = VariationalAssimilator(LinearControl(square_root(), SPEC, GRID))
    assert isinstance(variational, Assimilator)
    assert "control.matrix" in dict(variational.named_buffers())
