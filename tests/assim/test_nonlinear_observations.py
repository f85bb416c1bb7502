"""A nonlinear H, the speed of the wind: operator, gradient of J, analysis and a twin experiment."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from vaevar.assim.context import STANDALONE
from vaevar.assim.control.base import LinearControl
from vaevar.assim.cost import Cost
from vaevar.assim.interpolation.linear import LinearInterpolation
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.interpolation import PointInterpolation
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.operator import CombinedOperator, ObservationOperator, Quantity
from vaevar.data.observations.points import Observations, Points
from vaevar.data.observations.simulate import simulate
from vaevar.data.observations.wind_speed import WindSpeed
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec, regrid

SPEC = StateSpec(surface=["u10", "v10", "t2m"], upper=["t"], levels=[500, 850])
GRID = Grid.gaussian(8)
SIZE = len(SPEC) * 8 * 16
NOON = np.datetime64("2022-01-01T12", "ns")
ERRORS = ObservationErrors(others={"ws10": 0.5})
MEAN = torch.tensor([6.0, -3.0, 280.0, 255.0, 275.0], dtype=torch.float64)[:, None, None]


def draw(seed: int, size: int = SIZE) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def control(grid: Grid = GRID) -> LinearControl:
    """Errors that fall off over 2000 km, independent by channel, with a std of 2 units."""
    latitude, longitude = np.meshgrid(np.radians(grid.latitude), np.radians(grid.longitude), indexing="ij")
    points = np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], -1
    ).reshape(-1, 3)
    distance = 6371.0 * np.linalg.norm(points[:, None] - points, axis=-1)
    covariance = 4.0 * np.exp(-0.5 * (distance / 2000.0) ** 2) + 1e-6 * np.eye(len(points))
    root = torch.from_numpy(np.linalg.cholesky(covariance))
    return LinearControl(torch.block_diag(*[root] * len(SPEC)), SPEC, grid)


def background(grid: Grid = GRID) -> State:
    return State(
        MEAN + draw(2, len(SPEC) * grid.shape[0] * grid.shape[1]).reshape(-1, *grid.shape), SPEC, grid
    )


def observed(truth: State, quantities: list[str] | None, columns: int = 40) -> Observations:
    return simulate(truth, ColumnNetwork(columns, 3, quantities=quantities), ERRORS, NOON, 4)


def test_wind_speed_is_the_length_of_the_interpolated_wind() -> None:
    points = ColumnNetwork(30, 1, quantities=["ws10"]).points(SPEC, NOON)
    x = background().values
    u, v = (
        Points(variable=np.array(name), latitude=points.latitude, longitude=points.longitude,
               pressure=np.array(np.nan)).operator(SPEC, GRID)(x)
        for name in ("u10", "v10")
    )  # fmt: skip
    operator = points.operator(SPEC, GRID)
    assert isinstance(operator, WindSpeed)
    assert not operator.linear
    torch.testing.assert_close(operator(x), torch.hypot(u, v))
    batched = operator(torch.stack([x, 2 * x]))
    torch.testing.assert_close(batched[1], 2 * operator(x))


def test_the_tangent_is_the_derivative_and_autograd_its_adjoint() -> None:
    points = ColumnNetwork(30, 1, quantities=["ws10", "t2m", "t"]).points(SPEC, NOON)
    operator = points.operator(SPEC, GRID)
    x, direction = background().values, draw(5).reshape(-1, *GRID.shape)
    tangent = operator.tangent(x, direction)
    step = 1e-6
    differences = (operator(x + step * direction) - operator(x - step * direction)) / (2 * step)
    torch.testing.assert_close(tangent, differences, rtol=1e-7, atol=1e-7)
    y = draw(6, len(points))
    x = x.requires_grad_(True)
    (adjoint,) = torch.autograd.grad(operator(x), x, y)
    assert float((tangent * y).sum()) == pytest.approx(float((adjoint * direction).sum()), rel=1e-12)
    linear = ColumnNetwork(5, 1).points(SPEC, NOON).operator(SPEC, GRID)
    torch.testing.assert_close(linear.tangent(x.detach(), direction), linear(direction))


def test_calm_air_has_a_gradient_of_zero() -> None:
    points = ColumnNetwork(3, 1, quantities=["ws10"]).points(SPEC, NOON)
    x = torch.zeros(len(SPEC), *GRID.shape, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(points.operator(SPEC, GRID)(x).sum(), x)
    assert not gradient.any()


def test_several_operators_keep_the_order_of_the_observations() -> None:
    points = ColumnNetwork(6, 1, quantities=["t2m", "ws10", "t500"]).points(SPEC, NOON)
    assert points.variable[:4].tolist() == ["t2m", "ws10", "t", "t2m"]
    operator = points.operator(SPEC, GRID)
    assert isinstance(operator, CombinedOperator)
    assert not operator.linear
    x = background().values
    one_by_one = [points.select(np.array([i])).operator(SPEC, GRID)(x)[0] for i in range(len(points))]
    torch.testing.assert_close(operator(x), torch.stack(one_by_one))
    nothing = points.select(np.zeros(len(points), dtype=bool)).operator(SPEC, GRID)
    assert nothing(x).shape == (0,)
    assert nothing.linear


def test_the_incremental_and_the_full_path_agree_where_h_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = State(background().values + control()(draw(7)), SPEC, GRID)
    made = observed(truth, None)
    increment = control()(draw(8))
    operator = made.operator(SPEC, GRID)
    incremental = operator.observed_increment(background(), GRID, torch.float64)
    full = operator.full_path(background(), GRID, torch.float64)
    torch.testing.assert_close(full(increment), incremental(increment), rtol=1e-6, atol=1e-6)

    arm = VariationalAssimilator(control(), 1.0, iterations=60, tolerance=1e-10, dtype="float64")
    first = arm(background(), made)
    monkeypatch.setattr(PointInterpolation, "observed_increment", ObservationOperator.full_path)
    second = arm(background(), made)
    torch.testing.assert_close(second.state.values, first.state.values, rtol=0, atol=1e-6)
    assert second.diagnostics["j_o"] == pytest.approx(first.diagnostics["j_o"], rel=1e-6)


class Scaled(ObservationOperator):
    """A linear H that says no more than that it is: 3 · t2m."""

    observes: ClassVar = {"thrice_t2m": Quantity("K", ("t2m",))}
    linear = True

    def __init__(self, spec: StateSpec, grid: Grid, points: Points) -> None:
        super().__init__(spec, grid, points)
        self.t2m = PointInterpolation(spec, grid, replace(points, variable=np.array("t2m")))

    def forward(self, state: Tensor) -> Tensor:
        return 3 * self.t2m(state)


def test_a_linear_operator_reads_increments_on_their_own_grid() -> None:
    coarse = Grid.gaussian(4)
    points = ColumnNetwork(20, 1, quantities=["thrice_t2m"]).points(SPEC, NOON)
    increment = draw(9, len(SPEC) * 4 * 8).reshape(-1, *coarse.shape)
    operator = points.operator(SPEC, GRID)
    result = operator.observed_increment(background(), coarse, torch.float64)(increment)
    torch.testing.assert_close(result, points.operator(SPEC, coarse)(increment))


def test_the_full_path_regrids_the_increment() -> None:
    coarse = Grid.gaussian(4)
    made = observed(background(), ["ws10"])
    operator = made.operator(SPEC, GRID)
    increment = draw(9, len(SPEC) * 4 * 8).reshape(-1, *coarse.shape)
    x_b = background().values
    expected = operator(x_b + regrid(increment, SPEC, coarse, GRID)) - operator(x_b)
    result = operator.observed_increment(background(), coarse, torch.float64)(increment)
    torch.testing.assert_close(result, expected)


def test_the_gradient_of_j_against_finite_differences() -> None:
    made = observed(State(background().values + control()(draw(7)), SPEC, GRID), ["ws10", "t2m"])
    operator = made.operator(SPEC, GRID)
    innovation = torch.tensor(made.value) - operator(background().values)
    observe = operator.observed_increment(background(), GRID, torch.float64)
    cost = Cost(control(), observe, innovation, torch.tensor(made.error_std), 2.0)
    w = 0.5 * draw(10)

    def j(at: Tensor) -> Tensor:
        return sum(cost.terms(at), torch.zeros(()))

    at = w.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(j(at), at)
    for seed in range(5):
        direction = draw(20 + seed)
        step = 1e-5
        difference = float(j(w + step * direction) - j(w - step * direction)) / (2 * step)
        assert float(gradient @ direction) == pytest.approx(difference, rel=1e-7)


def test_a_twin_experiment_in_which_wind_speeds_lower_the_error_of_the_wind() -> None:
    first = background()
    errors_before, errors_after = [], []
    for seed in range(3):
        truth = State(first.values + control()(draw(30 + seed)), SPEC, GRID)
        made = observed(truth, ["ws10"], columns=300)
        arm = VariationalAssimilator(control(), 1.0, iterations=60, dtype="float64")
        analysis = arm(first, made)
        before, after = ((s - truth.values)[:2] for s in (first.values, analysis.state.values))
        errors_before.append(float(before.square().mean().sqrt()))
        errors_after.append(float(after.square().mean().sqrt()))
        assert (analysis.state.values[2:] == first.values[2:]).all()  # B does not tie them to the wind
        assert analysis.diagnostics["j_b"] + analysis.diagnostics["j_o"] < analysis.diagnostics["j_o_initial"]
    # A speed tells one of the two components: what lies along the wind.
    assert np.mean(errors_after) < 0.85 * np.mean(errors_before)
    assert all(after < before for before, after in zip(errors_before, errors_after, strict=True))


class SquaredTemperature(ObservationOperator):
    """An upper-air quantity: t², for networks that name its levels."""

    observes: ClassVar = {"tt": Quantity("K**2", ("t",), upper=True)}
    linear = False

    def __init__(self, spec: StateSpec, grid: Grid, points: Points) -> None:
        super().__init__(spec, grid, points)
        self.t = PointInterpolation(spec, grid, replace(points, variable=np.array("t")))

    def forward(self, state: Tensor) -> Tensor:
        return self.t(state).square()


def test_a_quantity_with_levels_is_observed_on_all_of_them_or_on_one() -> None:
    every = ColumnNetwork(2, 1, quantities=["tt"]).points(SPEC, NOON)
    assert every.pressure.tolist() == [500, 850] * 2
    one = ColumnNetwork(2, 1, quantities=["tt850", "ws10"]).points(SPEC, NOON)
    assert one.variable.tolist() == ["tt", "ws10"] * 2
    x = background().values
    t850 = ColumnNetwork(2, 1, quantities=["t850"]).points(SPEC, NOON).operator(SPEC, GRID)(x)
    torch.testing.assert_close(one.operator(SPEC, GRID)(x)[::2], t850.square())
    with pytest.raises(UserError, match="unknown variable 'rain500'"):
        ColumnNetwork(2, quantities=["rain500"]).points(SPEC, NOON)


def test_mistakes_are_named() -> None:
    points = ColumnNetwork(2, quantities=["ws10"]).points(SPEC, NOON)
    with pytest.raises(UserError, match=r"no error is known for ws10.*others"):
        ObservationErrors().error_std(points)
    with pytest.raises(UserError, match=r"others has .* for ws10, must be positive"):
        ObservationErrors(others={"ws10": 0.0})
    with pytest.raises(UserError, match=r"unknown variable 'rain'.*ws10"):
        ColumnNetwork(2, quantities=["rain"]).points(SPEC, NOON)
    with pytest.raises(UserError, match="quantities is empty"):
        ColumnNetwork(2, quantities=[])
    with pytest.raises(UserError, match=r"cannot be compared.*ws10"):
        points.operator(StateSpec(surface=["u10"], upper=[], levels=[]), GRID)
    with pytest.raises(ValueError, match="no pressure coordinate"):
        Points(
            variable=np.array("ws10"), latitude=np.zeros(1), longitude=np.zeros(1), pressure=np.array(500.0)
        )
    with pytest.raises(UserError, match="no channel of the state"):
        LinearInterpolation()(background(), observed(background(), ["ws10"]), STANDALONE)
    observes = {"ws10": Quantity("m s**-1", ("u10",))}
    with pytest.raises(TypeError, match="ws10 is observed by WindSpeed already"):
        type("Other", (ObservationOperator,), {"observes": observes, "linear": False})
    with pytest.raises(TypeError, match="say whether it is linear"):
        type("Other", (ObservationOperator,), {"observes": observes})
    with pytest.raises(TypeError, match="expected a tuple"):
        Quantity("m s**-1", "u10")  # type: ignore[arg-type]
