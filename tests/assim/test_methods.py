"""ThreeDVar and VAEVar are the variational analysis with one control transform, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vaevar.assim.control.covariance import CovarianceControl
from vaevar.assim.control.spectral import SpectralControl
from vaevar.assim.methods import ThreeDVar, VAEVar
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.simulate import simulate
from vaevar.errors import UserError
from vaevar.models.covariance.estimation import CovarianceEstimator, EstimationSettings
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.models.spectral.vae import SpectralVAE
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

SPEC = StateSpec(["u10", "v10", "t2m"], ["z", "u", "v"], [500])
GRID = Grid.gaussian(6)
MEANS = torch.tensor([1.0, 1.0, 280.0, 54_000.0, 7.0, 0.0], dtype=torch.float64)[:, None, None]
SIZES = torch.tensor([1.0, 1.0, 2.0, 200.0, 3.0, 3.0], dtype=torch.float64)[:, None, None]


@pytest.fixture(scope="module")
def statistics() -> CovarianceStatistics:
    random = torch.Generator().manual_seed(0)
    errors = torch.randn(80, len(SPEC), *GRID.shape, generator=random, dtype=torch.float64)
    estimator = CovarianceEstimator(SPEC, GRID, EstimationSettings(lmax=4), torch.float64)
    for _ in range(2):
        estimator.update((errors + errors.roll(1, 1)) * SIZES)
        estimator.end_pass()
    return estimator.statistics()


@pytest.fixture(scope="module")
def vae(statistics: CovarianceStatistics, tmp_path_factory: pytest.TempPathFactory) -> SpectralVAE:
    """One whose scales of the day do something."""
    path = tmp_path_factory.mktemp("statistics") / "b.nc"
    statistics.save(path)
    torch.manual_seed(0)
    vae = SpectralVAE(str(path), widths=(8,), variance_width=6, bands=(0, 2), context_widths=(8,), maps=2)
    assert vae.day is not None
    for head in vae.day.modulation.log_scales:
        torch.nn.init.normal_(head.weight, std=0.1)
        torch.nn.init.normal_(head.bias, std=0.1)
    return vae.eval()


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


def test_vaevar(vae: SpectralVAE) -> None:
    settings = {"lambda_": 2.0, "iterations": 6, "history": 4, "tolerance": 1e-5, "dtype": "float64"}
    short = VAEVar(vae, strength=0.5, **settings)
    assert analysed_alike(short, VariationalAssimilator(SpectralControl(vae, 0.5), **settings))
    assert not analysed_alike(short, VariationalAssimilator(SpectralControl(vae), **settings))


def test_defaults_are_those_of_the_long_way(statistics: CovarianceStatistics, vae: SpectralVAE) -> None:
    assert analysed_alike(ThreeDVar(statistics), VariationalAssimilator(CovarianceControl(statistics)))
    assert analysed_alike(VAEVar(vae), VariationalAssimilator(SpectralControl(vae)))


def test_mistakes(tmp_path: Path, vae: SpectralVAE) -> None:
    with pytest.raises(UserError, match=r"nowhere\.nc"):
        ThreeDVar(tmp_path / "nowhere.nc")
    with pytest.raises(UserError, match=r"nowhere\.ckpt"):
        VAEVar(tmp_path / "nowhere.ckpt")
    with pytest.raises(UserError, match="lambda_"):
        VAEVar(vae, lambda_=0.0)
    with pytest.raises(UserError, match="a Linear is no SpectralVAE; give one, or its checkpoint"):
        VAEVar(torch.nn.Linear(2, 2))
