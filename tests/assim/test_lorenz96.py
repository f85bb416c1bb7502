"""A twin experiment with Lorenz-96 through the very assimilation code that the atmosphere uses.

The 40 variables are a zonal wind around a latitude circle: one channel, u10, at 40 longitudes. A
grid needs two rows, so both rows of it carry the circle; the control transform makes increments
that are equal on both, and the observations lie on the northern row. Setting of Lorenz and Emanuel
(1998): F = 8, a step of 0.05 ("six hours"), Runge-Kutta of fourth order, observation error 1.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lorenz96 import GRID, SIZE, SPEC, forecast
from torch import Tensor

from vaevar.assim.assimilator import Assimilator, FreeRun
from vaevar.assim.control.base import LinearControl
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.networks import Network
from vaevar.data.observations.points import Points
from vaevar.data.observations.simulate import simulate
from vaevar.state import State, StateSpec


def circle(x: Tensor) -> State:
    return State(x.expand(1, 2, SIZE).clone(), SPEC, GRID)


class EveryOther(Network):
    """The even variables, or all of them."""

    def __init__(self, stride: int) -> None:
        self.longitude = GRID.longitude[::stride]

    def points(self, spec: StateSpec, time: np.datetime64) -> Points:
        return Points(
            variable=np.array("u10"),
            latitude=np.array(45.0),
            longitude=self.longitude,
            pressure=np.array(np.nan),
        )


def nmc_control(nature: Tensor) -> LinearControl:
    """U from differences of 48 h and 24 h forecasts that are valid at the same time.

    Each forecast starts from the truth plus an error of observation size, as an analysis would.
    The statistics of a ring have no preferred place, so all rotations are samples alike.
    """
    noise = torch.randn(nature.shape, generator=torch.Generator().manual_seed(5), dtype=nature.dtype)
    starts = nature + 0.5 * noise
    errors = forecast(starts[:-4], 8) - forecast(starts[4:], 4)
    rotated = torch.cat([errors.roll(shift, -1) for shift in range(SIZE)])
    values, vectors = torch.linalg.eigh(rotated.T @ rotated / len(rotated))
    return LinearControl((vectors * values.clamp(min=0).sqrt()).repeat(2, 1), SPEC, GRID)


def cycle(assimilator: Assimilator, truth: Tensor, first: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """RMSE of background and analysis at each time; ``truth`` [T, 40], ``first`` background [40]."""
    network, errors = EveryOther(stride), ObservationErrors()
    start, six_hours = np.datetime64("2000-01-01", "ns"), np.timedelta64(6, "h")
    background, scores = first, []
    for number, here in enumerate(truth):
        observations = simulate(circle(here), network, errors, start + number * six_hours, seed=3)
        analysis = assimilator(circle(background), observations).state.values[0]
        assert torch.allclose(analysis[0], analysis[1])
        scores.append([(background - here).square().mean(), (analysis[0] - here).square().mean()])
        background = forecast(analysis[0], 1)
    rmse = torch.tensor(scores).sqrt()
    return rmse[:, 0], rmse[:, 1]


@pytest.fixture(scope="module")
def nature() -> Tensor:
    states = [forecast(8.0 + 0.01 * torch.arange(SIZE, dtype=torch.float64).sin(), 400)]
    for _ in range(800):
        states.append(forecast(states[-1], 1))
    return torch.stack(states)


def test_nature_run_has_the_known_climate(nature: Tensor) -> None:
    # Lorenz and Emanuel (1998): mean 2.3, standard deviation 3.6 for F = 8.
    assert nature.mean().item() == pytest.approx(2.34, abs=0.1)
    assert nature.std().item() == pytest.approx(3.63, abs=0.1)


def test_3dvar_cycle_tracks_the_truth(nature: Tensor) -> None:
    # 3DVar with every variable observed is known to settle near 0.4 (0.41 in the DAPPER
    # benchmark of Raanes et al.). Differences of 48 h and 24 h forecasts overstate the errors of
    # a six-hour background, hence λ > 1.
    truth, first = nature[600:], nature[50]
    control = nmc_control(nature[:500])
    variational = VariationalAssimilator(control, lambda_=8.0, dtype="float64")
    background, analysis = cycle(variational, truth, first, stride=1)
    _, free = cycle(FreeRun(), truth, first, stride=1)
    settled = slice(40, None)
    assert 0.3 < analysis[settled].mean() < 0.5
    assert analysis[settled].mean() < background[settled].mean()
    assert (analysis[settled] < 1.0).all()
    assert free[settled].mean() > 6 * analysis[settled].mean()
    # No drift: the second half is no worse than the first.
    assert analysis[-80:].mean() < 1.2 * analysis[40:120].mean()


def test_half_the_variables_observed_still_beat_the_free_run(nature: Tensor) -> None:
    truth, first = nature[600:720], nature[50]
    control = nmc_control(nature[:500])
    _, analysis = cycle(VariationalAssimilator(control, lambda_=4.0), truth.float(), first.float(), stride=2)
    _, free = cycle(FreeRun(), truth.float(), first.float(), stride=2)
    assert analysis[40:].mean() < 0.5 * free[40:].mean()
