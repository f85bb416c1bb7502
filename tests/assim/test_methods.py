"""ThreeDVar and VAEVar are the variational analysis with one control transform, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaevar.assim.control.covariance import CovarianceControl
from vaevar.assim.control.latent import LatentControl
from vaevar.assim.methods import ThreeDVar, VAEVar
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.simulate import simulate
from vaevar.errors import UserError
from vaevar.models.covariance.estimation import CovarianceEstimator, EstimationSettings
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

SPEC = StateSpec(["u10", "v10", "t2m"], ["z", "u", "v"], [500])
GRID = Grid.gaussian(6)
MEANS = torch.tensor([1.0, 1.0, 280.0, 54_000.0, 7.0, 0.0], dtype=torch.float64)[:, None, None]
SIZES = torch.tensor([1.0, 1.0, 2.0, 200.0, 3.0, 3.0], dtype=torch.float64)[:, None, None]


class Decoder(nn.Module):
    """A nonlinear decoder of few latent variables."""

    error_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.grid, self.latent_shape = SPEC, GRID, (3, 2, 2)
        self.linear = nn.Linear(12, len(SPEC) * 6 * 12)
        nn.init.normal_(self.linear.weight, generator=torch.Generator().manual_seed(0))
        self.register_buffer("error_std", SIZES.float())

    def generate(self, v: Tensor) -> Tensor:
        return torch.tanh(self.linear(v.flatten(1))).unflatten(1, (len(SPEC), 6, 12))


@pytest.fixture(scope="module")
def statistics() -> CovarianceStatistics:
    random = torch.Generator().manual_seed(0)
    errors = torch.randn(80, len(SPEC), *GRID.shape, generator=random, dtype=torch.float64)
    estimator = CovarianceEstimator(SPEC, GRID, EstimationSettings(lmax=4), torch.float64)
    for _ in range(2):
        estimator.update((errors + errors.roll(1, 1)) * SIZES)
        estimator.end_pass()
    return estimator.statistics()


def analysed_alike(short: VariationalAssimilator, long: VariationalAssimilator, grid: Grid = GRID) -> bool:
    """Whether two assimilators give the same bits, and change the background at all."""
    random = torch.Generator().manual_seed(1)
    background = State(MEANS.expand(-1, *grid.shape).clone(), SPEC, grid)
    noise = torch.randn(len(SPEC), *grid.shape, generator=random, dtype=torch.float64)
    truth = State(background.values + SIZES * noise, SPEC, grid)
    observed = simulate(
        truth, ColumnNetwork(8, 3), ObservationErrors(), np.datetime64("2022-01-01T12", "ns"), 3
    )
    one, other = (assimilator(background, observed) for assimilator in (short, long))
    diagnostics = [
        {name: value for name, value in analysis.diagnostics.items() if name != "seconds"}
        for analysis in (one, other)
    ]
    assert not torch.equal(one.state.values, background.values)
    return torch.equal(one.state.values, other.state.values) and diagnostics[0] == diagnostics[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threedvar(statistics: CovarianceStatistics, dtype: str, tmp_path: Path) -> None:
    statistics.save(tmp_path / "b.nc")
    settings = {"lambda_": 4.0, "iterations": 7, "history": 5, "tolerance": 1e-6, "dtype": dtype}
    long = VariationalAssimilator(CovarianceControl(tmp_path / "b.nc", dtype=dtype), **settings)
    assert analysed_alike(ThreeDVar(tmp_path / "b.nc", **settings), long)


def test_threedvar_on_a_grid_of_its_own_with_an_estimated_lambda(statistics: CovarianceStatistics) -> None:
    long = VariationalAssimilator(CovarianceControl(statistics, nlat=8, nlon=16, gaussian=True), lambda_=None)
    short = ThreeDVar(statistics, lambda_=None, nlat=8, nlon=16, gaussian=True)
    assert analysed_alike(short, long, Grid.gaussian(8))


def test_vaevar() -> None:
    decoder = Decoder()
    settings = {"lambda_": 2.0, "iterations": 6, "history": 4, "tolerance": 1e-5, "dtype": "float64"}
    assert analysed_alike(
        VAEVar(decoder, **settings), VariationalAssimilator(LatentControl(decoder), **settings)
    )


def test_defaults_are_those_of_the_long_way(statistics: CovarianceStatistics) -> None:
    decoder = Decoder()
    assert analysed_alike(ThreeDVar(statistics), VariationalAssimilator(CovarianceControl(statistics)))
    assert analysed_alike(VAEVar(decoder), VariationalAssimilator(LatentControl(decoder)))


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.nc"):
        ThreeDVar(tmp_path / "nowhere.nc")
    with pytest.raises(UserError, match=r"nowhere\.ckpt"):
        VAEVar(tmp_path / "nowhere.ckpt")
    with pytest.raises(UserError, match="lambda_"):
        VAEVar(Decoder(), lambda_=0.0)
