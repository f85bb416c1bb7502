from __future__ import annotations

from pathlib import Path

import jsonargparse
import numpy as np
import pytest
import torch
from torch import Tensor

from vaevar.assim.assimilator import Assimilator
from vaevar.assim.control.base import ControlTransform
from vaevar.assim.control.covariance import CovarianceControl
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.interpolation import PointInterpolation
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.points import Observations
from vaevar.data.observations.simulate import simulate
from vaevar.errors import UserError
from vaevar.models.covariance.estimation import CovarianceEstimator, EstimationSettings
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

SPEC = StateSpec(["u10", "v10", "t2m"], ["z", "u", "v"], [500])
GRID = Grid.gaussian(6)


@pytest.fixture(scope="module")
def statistics() -> CovarianceStatistics:
    random = torch.Generator().manual_seed(0)
    sizes = torch.tensor([1.0, 1.0, 2.0, 200.0, 3.0, 3.0], dtype=torch.float64)
    errors = torch.randn(80, len(SPEC), *GRID.shape, generator=random, dtype=torch.float64)
    errors = (errors + errors.roll(1, 1)) * sizes[:, None, None]
    estimator = CovarianceEstimator(SPEC, GRID, EstimationSettings(lmax=4), torch.float64)
    for _ in range(2):
        estimator.update(errors)
        estimator.end_pass()
    return estimator.statistics()


def background(grid: Grid) -> State:
    mean = torch.tensor([1.0, 1.0, 280.0, 54_000.0, 7.0, 0.0], dtype=torch.float64)
    return State(mean[:, None, None].expand(-1, *grid.shape).clone(), SPEC, grid)


def observed(truth: State, columns: int = 8) -> Observations:
    noon = np.datetime64("2022-01-01T12", "ns")
    return simulate(truth, ColumnNetwork(columns, 3), ObservationErrors(), noon, 3)


@pytest.mark.parametrize("lambda_", [1.0, 4.0])
def test_analysis_is_the_best_linear_unbiased_estimate(
    statistics: CovarianceStatistics, lambda_: float
) -> None:
    control = CovarianceControl(statistics, dtype="float64")
    random = torch.Generator().manual_seed(1)
    truth_w = torch.randn(control.shape, generator=random, dtype=torch.float64)
    here = background(GRID)
    made = observed(State(here.values + control(truth_w), SPEC, GRID))
    variational = VariationalAssimilator(
        control, lambda_=lambda_, iterations=300, history=80, tolerance=1e-11, dtype="float64"
    )
    found = variational(here, made)

    size = int(np.prod(control.shape))
    u = control(torch.eye(size, dtype=torch.float64).unflatten(1, control.shape)).flatten(1).T
    b = u @ u.T / lambda_
    operator = PointInterpolation(SPEC, GRID, made)
    h = operator(torch.eye(len(b), dtype=torch.float64).unflatten(1, here.values.shape)).T
    r = torch.diag(torch.tensor(made.error_std) ** 2)
    d = torch.tensor(made.value) - operator(here.values)
    increment = (b @ h.T @ torch.linalg.solve(h @ b @ h.T + r, d)).reshape(here.values.shape)
    scale = increment.abs().amax((1, 2), keepdim=True)
    assert ((found.state.values - here.values - increment) / scale).abs().max() < 1e-6


def test_increments_on_a_grid_with_poles(statistics: CovarianceStatistics) -> None:
    control = CovarianceControl(statistics, nlat=19)
    assert isinstance(control, ControlTransform)
    assert control.grid == Grid.equiangular(19)
    assert control.shape == (6, 25)
    w = torch.randn(control.shape, generator=torch.Generator().manual_seed(0))
    assert control(w).shape == (6, 19, 36)
    assert control(w).dtype == torch.float32
    assert control.project(control(w)).shape == control.shape
    here = background(control.grid)
    found = VariationalAssimilator(control, iterations=5)(here, observed(here))
    assert found.state.grid == here.grid
    assert found.diagnostics["j_o"] < found.diagnostics["j_o_initial"]


def test_from_a_config_with_the_path_of_a_file(statistics: CovarianceStatistics, tmp_path: Path) -> None:
    path = tmp_path / "covariance.nc"
    statistics.save(path)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--arm", type=Assimilator)
    config = {
        "class_path": "vaevar.assim.variational.VariationalAssimilator",
        "init_args": {
            "control": {
                "class_path": "vaevar.assim.control.covariance.CovarianceControl",
                "init_args": {"statistics": str(path)},
            },
            "lambda_": 2.0,
        },
    }
    made = parser.instantiate_classes(parser.parse_object({"arm": config})).arm
    assert made.control.spec == SPEC
    w: Tensor = torch.ones(made.control.shape)
    torch.testing.assert_close(made.control(w), CovarianceControl(statistics)(w))


def test_what_cannot_be_used_is_refused(statistics: CovarianceStatistics, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such statistics of B"):
        CovarianceControl(tmp_path / "none.nc")
    with pytest.raises(UserError, match="truncation 4 cannot be used: lmax 4 is outside"):
        CovarianceControl(statistics, nlat=4, gaussian=True)
