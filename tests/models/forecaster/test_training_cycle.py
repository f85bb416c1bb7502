"""The training cycle of a forecaster: the correction by hand, and lanes that continue."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vaevar.models.forecaster.training_cycle import SuccessiveCorrections, TrainingCycle, _between
from vaevar.sphere.grid import Grid
from vaevar.sphere.interpolation import great_circle_km, unit_vectors

GRID = Grid.gaussian(8)


def corrections(**arguments) -> SuccessiveCorrections:
    exact = {"columns": (1, 1), "reach_degrees": (20.0, 20.0), "trust": (0.5, 0.5), "noise": 0.0}
    return SuccessiveCorrections(GRID, 1, **(exact | arguments))


def test_one_observation_by_hand():
    torch.manual_seed(0)
    correct = corrections()
    background, truth = torch.randn(2, 1, 3, *GRID.shape)
    analysis = correct(background, truth)
    (place,) = correct.chosen[0].tolist()
    row, column = divmod(place, GRID.shape[1])
    latitude, longitude = np.meshgrid(GRID.latitude, GRID.longitude, indexing="ij")
    here = unit_vectors(latitude, longitude)
    chord = np.linalg.norm(here - here[row, column], axis=-1)
    weight = torch.from_numpy(np.exp(-0.5 * (chord / np.radians(20)) ** 2)).float()
    innovation = (truth - background)[..., row, column][..., None, None]
    torch.testing.assert_close(analysis, background + innovation * weight / (0.5 + weight))
    # Far away nothing is changed.
    far = great_circle_km(GRID.latitude[row], GRID.longitude[column], latitude, longitude) > 12_000
    assert far.any()
    np.testing.assert_allclose((analysis - background)[0][:, far], 0, atol=1e-4)


def test_many_observations_bring_the_truth_nearer():
    torch.manual_seed(1)
    background, truth = torch.randn(2, 1, 3, *GRID.shape)
    smooth = truth.mean((-2, -1), keepdim=True) + 0 * truth
    analysis = corrections(columns=(100, 100), noise=0.1)(background * 0, smooth)
    assert (analysis - smooth).square().mean() < 0.2 * smooth.square().mean()


@pytest.mark.parametrize("moving", [False, True])
def test_a_network_stays_or_moves(moving):
    torch.manual_seed(2)
    correct = corrections(columns=(10, 10))
    correct.moving = [moving]
    fields = torch.randn(2, 1, 3, *GRID.shape)
    correct(*fields)
    before = correct.chosen[0]
    correct(*fields)
    assert torch.equal(before, correct.chosen[0]) != moving


def windows(start: int, lanes: int) -> torch.Tensor:
    """Truth of a batch of lanes, each a number that counts time, [B, 3, C, H, W]."""
    times = start + torch.arange(3.0)[None] + 1000 * torch.arange(lanes)[:, None]
    return times[:, :, None, None, None].expand(lanes, 3, 2, *GRID.shape).clone()


def test_lanes_go_on_from_their_own_analyses():
    torch.manual_seed(3)
    cycle = TrainingCycle(GRID, groups=1, clean=0.0)
    batch = windows(0, 2)
    torch.testing.assert_close(cycle.start(batch), batch)  # nothing came before
    forecast = batch[:, 2] + 5.0
    cycle.proceed(batch, batch[:, 1], forecast)
    following = windows(1, 2)
    states = cycle.start(following)
    torch.testing.assert_close(states[:, 0], batch[:, 1])
    analysis = states[:, 1] - following[:, 1]
    assert (analysis.abs() < 5.5).all()
    assert analysis.mean() < 5.0
    torch.testing.assert_close(states[:, 2], following[:, 2])


def after_one_step(clean: float = 0.0) -> TrainingCycle:
    """The cycle of two lanes whose first forecasts were 5 too large."""
    cycle = TrainingCycle(GRID, groups=1, clean=clean)
    batch = windows(0, 2)
    cycle.start(batch)
    cycle.proceed(batch, batch[:, 1], batch[:, 2] + 5)
    return cycle


def test_another_epoch_starts_from_the_truth():
    cycle = after_one_step()
    elsewhere = windows(7, 2)
    torch.testing.assert_close(cycle.start(elsewhere), elsewhere)


def test_only_the_lane_at_the_periods_end_restarts():
    cycle = after_one_step()
    following = windows(1, 2)
    following[1] = windows(500, 1)[0]
    states = cycle.start(following)
    torch.testing.assert_close(states[1], following[1])
    assert (states[0, 1] - following[0, 1]).abs().sum() > 0


def test_clean_lanes_always_do():
    cycle = after_one_step(clean=1.0)
    torch.testing.assert_close(cycle.start(windows(1, 2)), windows(1, 2))


def test_so_many_lanes_are_clean():
    torch.manual_seed(4)
    cycle = TrainingCycle(GRID, groups=1, clean=0.25)
    batch = windows(0, 400)
    cycle.start(batch)
    cycle.proceed(batch, batch[:, 1], batch[:, 2] + 5)
    states = cycle.start(windows(1, 400))
    # A lane that is not clean has the analysis of a forecast that was 5 too large.
    clean = (states[:, 1] == windows(1, 400)[:, 1]).flatten(1).all(1)
    assert 70 <= int(clean.sum()) <= 130


def test_settings_are_drawn_between_their_bounds():
    """Uniform in the logarithm: half of the draws lie below the geometric mean."""
    torch.manual_seed(5)
    drawn = np.array([_between(100.0, 10_000.0) for _ in range(2000)])
    assert 100.0 <= drawn.min() < 105.0
    assert 9_500.0 < drawn.max() <= 10_000.0
    assert (drawn < 1000.0).mean() == pytest.approx(0.5, abs=0.04)


def test_groups_take_turns():
    cycle = TrainingCycle(GRID, groups=2, clean=0.0)
    for start in (0, 100):
        cycle.start(windows(start, 2))
        cycle.proceed(windows(start, 2), windows(start, 2)[:, 1], windows(start, 2)[:, 2] + 5)
    for start in (0, 100):
        states = cycle.start(windows(start + 1, 2))
        assert (states[:, 1] - windows(start + 1, 2)[:, 1]).abs().sum() > 0
        cycle.proceed(windows(start + 1, 2), states[:, 1], windows(start + 1, 2)[:, 2])
