"""λ from the innovations: a known one is found, with a matrix and with a decoder that saturates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vaevar.assim.adaptive_lambda import LIMITS, lambda_from_innovations
from vaevar.assim.control.base import LinearControl
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.interpolation import PointInterpolation
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.simulate import simulate
from vaevar.errors import UserError
from vaevar.experiments.single_observation.module import background_variance
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

SPEC = StateSpec(surface=["t2m", "msl"], upper=[], levels=[])
GRID = Grid.gaussian(16)
SIZE = len(SPEC) * 16 * 32
TIME = np.datetime64("2022-01-01T00", "ns")


def control() -> LinearControl:
    std = torch.tensor([2.0, 300.0], dtype=torch.float64).repeat_interleave(16 * 32)
    matrix = std[:, None] * torch.randn(
        SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    return LinearControl(matrix / math.sqrt(SIZE), SPEC, GRID)


def innovations(d: LinearControl, lambda_: float) -> tuple[PointInterpolation, Tensor, Tensor]:
    """H, innovations with background errors from B/λ and observation errors from R, and √R."""
    random = torch.Generator().manual_seed(2)
    operator = PointInterpolation(SPEC, GRID, ColumnNetwork(1000, 0).points(SPEC, TIME))
    error_std = torch.tensor([0.5, 80.0], dtype=torch.float64).repeat(1000)
    error = d(torch.randn(SIZE, generator=random, dtype=torch.float64)) / lambda_**0.5
    noise = error_std * torch.randn(2000, generator=random, dtype=torch.float64)
    return operator, operator(error) + noise, error_std


@pytest.mark.parametrize("lambda_", [0.25, 1.0, 4.0])
def test_it_finds_the_lambda_that_errors_were_drawn_with(lambda_: float) -> None:
    d = control()
    operator, innovation, error_std = innovations(d, lambda_)
    found = lambda_from_innovations(d, operator, innovation, error_std, d.shape)
    assert found == pytest.approx(lambda_, rel=0.15)
    assert lambda_from_innovations(d, operator, innovation, error_std, d.shape) == found


def test_a_saturating_decoder_is_asked_at_the_size_that_its_controls_have() -> None:
    """Of D(w) = U w/√(1 + ‖w‖²/n) unit draws say half of what D's slope at 0 does."""
    d = control()

    def saturating(w: Tensor) -> Tensor:
        return d(w) / (1 + w.square().mean()) ** 0.5

    operator, _, error_std = innovations(d, 1.0)
    drawn = torch.randn(SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 10
    noise = torch.randn(2000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    innovation = operator(saturating(drawn)) + 1e-3 * error_std * noise
    found = lambda_from_innovations(saturating, operator, innovation, 1e-3 * error_std, d.shape)
    assert found == pytest.approx(100.0, rel=0.15)


def test_the_first_round_asks_for_unit_draws_and_a_linear_transform_needs_one() -> None:
    d, sizes = control(), []

    def watched(w: Tensor) -> Tensor:
        sizes.append(float(w.std()))
        return d(w)

    operator, innovation, error_std = innovations(d, 4.0)
    found = lambda_from_innovations(watched, operator, innovation, error_std, d.shape)
    expected = [1.0] * 4 + [found**-0.5] * 4  # the second round finds the same
    assert sizes == pytest.approx(expected, rel=0.1)
    # Recorded runs depend on the draws.
    draws = torch.randn(4, SIZE, generator=torch.Generator().manual_seed(0)).double()
    trace = sum(float((operator(d(w)) / error_std).square().sum()) for w in draws) / 4
    excess = float((innovation / error_std).square().sum()) - 2000
    assert found == pytest.approx(trace / excess, rel=1e-9)


def test_the_least_lambda_holds() -> None:
    d = control()
    operator, innovation, error_std = innovations(d, 1.0)
    assert lambda_from_innovations(d, operator, innovation * 30, error_std, d.shape) == LIMITS[0]
    # At exactly as large as its noise an innovation says that the background has no error.
    assert lambda_from_innovations(d, operator, error_std, error_std, d.shape) == LIMITS[1]


def test_innovations_smaller_than_their_noise_give_the_largest_lambda() -> None:
    d = control()
    operator, innovation, error_std = innovations(d, 1.0)
    assert lambda_from_innovations(d, operator, innovation * 1e-3, error_std, d.shape) == LIMITS[1]


def test_an_analysis_without_a_lambda_is_that_with_the_one_found() -> None:
    d = control()
    values = torch.stack([torch.full(GRID.shape, 280.0), torch.full(GRID.shape, 1e5)]).double()
    background = State(values, SPEC, GRID)
    truth = State(values + 0.5 * d(torch.randn(SIZE, dtype=torch.float64)), SPEC, GRID)
    made = simulate(truth, ColumnNetwork(300, 1), ObservationErrors(), TIME, 5)
    found = VariationalAssimilator(d, None, dtype="float64")(background, made)
    operator = PointInterpolation(SPEC, GRID, made)
    departure, std = torch.tensor(made.value) - operator(values), torch.tensor(made.error_std)
    expected = lambda_from_innovations(d, operator, departure, std, d.shape)
    assert found.diagnostics["lambda"] == pytest.approx(expected, rel=1e-9)
    fixed = VariationalAssimilator(d, expected, dtype="float64")(background, made)
    torch.testing.assert_close(found.state.values, fixed.state.values)


def test_one_observation_cannot_tell_a_variance() -> None:
    arm = VariationalAssimilator(control(), None)
    values = torch.stack([torch.full(GRID.shape, 280.0), torch.full(GRID.shape, 1e5)])
    with pytest.raises(UserError, match="lambda_"):
        background_variance(arm, State(values, SPEC, GRID), ColumnNetwork(1, 0).points(SPEC, TIME))
