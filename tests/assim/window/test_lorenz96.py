"""Lorenz-96 through the very code that the atmosphere uses, where others have published what to expect."""

from __future__ import annotations

import lorenz96
import pytest
import torch


@pytest.fixture(scope="module")
def world() -> lorenz96.Twin:
    return lorenz96.twin(84, seed=3)


def test_the_nature_run_has_the_known_climate() -> None:
    # Lorenz and Emanuel (1998): mean 2.3, standard deviation 3.6 for F = 8.
    truth = lorenz96.twin(400, seed=4).truth
    assert truth.mean().item() == pytest.approx(2.34, abs=0.15)
    assert truth.std().item() == pytest.approx(3.63, abs=0.15)


@pytest.mark.parametrize(("lag", "length"), [(1, 84), (2, 64)])
def test_the_cycle_of_dapper_has_the_published_rmse(world: lorenz96.Twin, lag: int, length: int) -> None:
    """0.46 and 0.39, with the factors of B that go with them."""
    short = lorenz96.Twin(world.truth[:length], world.observed[:length])
    factor, published = lorenz96.PUBLISHED[lag]
    background, analysis = lorenz96.rmse(lorenz96.sliding(short, factor, lag), 12).tolist()
    assert analysis == pytest.approx(published, abs=0.06)
    assert background > 1.3 * analysis


def test_windows_beat_single_times(world: lorenz96.Twin) -> None:
    """At their last times, which have seen no later observation, and more so before."""
    single = lorenz96.rmse(lorenz96.cycled(world, 1.0, 1), 12)[0, 1]
    pair = lorenz96.rmse(lorenz96.cycled(world, 0.5, 2), 6)[:, 1]
    four = lorenz96.rmse(lorenz96.cycled(world, 0.5, 4), 3)[:, 1]
    assert 0.6 < single < 0.9
    assert pair[-1] < 0.9 * single
    assert four[-1] < 0.9 * pair[-1]
    assert four.mean() < four[-1]


def test_no_control_moves_one_row_without_the_other() -> None:
    made = lorenz96.method(0.5, 2)
    w = torch.randn(lorenz96.SIZE, dtype=torch.float64)
    north, south = made.control(w)[0]
    assert torch.equal(north, south)
