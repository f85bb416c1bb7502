"""RePaint's walk, its sampling with a network that knows the answer, and the soft mask."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from vaevar.assim.diffda.repaint import repaint, soft_mask, walk
from vaevar.models.diffusion.schedule import NoiseSchedule
from vaevar.sphere.grid import Grid

SHAPE = (3, 2, 4, 8)


def noise(seed: int = 0):  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(SHAPE, generator=generator)


@pytest.mark.parametrize(("steps", "jump", "resamples"), [(300, 10, 10), (25, 5, 2), (7, 3, 4), (10, 1, 1)])
def test_walk_goes_down_to_zero_as_often_as_published(steps: int, jump: int, resamples: int) -> None:
    pairs = list(walk(steps, jump, resamples))
    down = [pair for pair in pairs if pair[1] < pair[0]]
    jumps = len(range(0, steps - jump, jump))
    assert len(down) == steps + jumps * jump * (resamples - 1)
    assert pairs[0][0] == steps
    assert pairs[-1] == (1, 0)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(pairs))
    if (steps, jump, resamples) == (300, 10, 10):
        assert len(down) == 2910


def test_the_schedule_is_the_published_one() -> None:
    schedule = NoiseSchedule()
    assert float(schedule.signal[1]) == pytest.approx(1 - 1e-4)
    expected = math.exp(sum(math.log1p(-(1e-4 + (0.02 - 1e-4) * t / 999)) for t in range(1000)))
    assert float(schedule.signal[1000]) == pytest.approx(expected)
    assert schedule.inference_steps(4) == [1000, 750, 500, 250, 0]
    clean, noise = torch.full((2, 1, 1, 1), -7.0), torch.full((2, 1, 1, 1), 3.0)
    noised = schedule.noised(clean, torch.tensor([0, 1000]), noise)
    assert noised[0].item() == -7.0
    assert noised[1].item() == pytest.approx(-7 * expected**0.5 + 3 * (1 - expected) ** 0.5)
    halfway = schedule.noised(clean[:1], torch.tensor([250]), noise[:1]).item()
    share = float(schedule.signal[250])
    assert 0.3 < share < 0.7
    assert halfway == pytest.approx(-7 * share**0.5 + 3 * (1 - share) ** 0.5, rel=1e-5)
    assert NoiseSchedule(10, 0.1, 0.1).inference_steps(10) == list(range(10, -1, -1))
    for bad in (
        lambda: schedule.inference_steps(0),
        lambda: schedule.inference_steps(1001),
        lambda: NoiseSchedule(10, 0.5, 0.1),
        lambda: NoiseSchedule(0),
        lambda: NoiseSchedule(10, 0.0, 0.1),
        lambda: NoiseSchedule(10, 0.1, 1.0),
    ):
        with pytest.raises(ValueError, match=r"steps"):
            bad()


def sample(clean, known: Tensor, mask: Tensor, seed: int = 0, count: int = 12) -> Tensor:  # type: ignore[no-untyped-def]
    schedule = NoiseSchedule()
    return repaint(clean, schedule.signal, known, mask, noise(seed), schedule.inference_steps(count), 3, 2)


@pytest.mark.parametrize("observed", [0.0, 0.4, 1.0])
def test_a_network_that_knows_the_answer_returns_it(observed: float) -> None:
    # Far outside [-1, 1]: nothing may be clipped.
    answer = 5 * torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(7))
    mask = torch.full(SHAPE[1:], observed)
    drawn = sample(lambda x, step: answer.expand_as(x), answer, mask)
    torch.testing.assert_close(drawn, answer.expand(SHAPE), atol=1e-4, rtol=1e-4)


def test_all_known_returns_the_known_whatever_the_network_says() -> None:
    known = torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(7))
    drawn = sample(lambda x, step: 100 * x, known, torch.ones(SHAPE[1:]))
    assert (drawn == known).all()


def test_nothing_known_samples_the_distribution_of_the_network() -> None:
    # For r ~ N(3, 0.5²) the best estimate is linear in x, and DDIM draws from that distribution.
    schedule, mean, variance = NoiseSchedule(), 3.0, 0.25

    def clean(x: Tensor, step: int) -> Tensor:
        signal = float(schedule.signal[step])
        gain = signal**0.5 * variance / (signal * variance + 1 - signal)
        return mean + gain * (x - signal**0.5 * mean)

    generator = torch.Generator().manual_seed(0)
    drawn = repaint(
        clean, schedule.signal, torch.zeros(1), torch.zeros(1),
        lambda: torch.randn(50, 1, 20, 20, generator=generator), schedule.inference_steps(100), 10, 2,
    )  # fmt: skip
    assert float(drawn.mean()) == pytest.approx(mean, abs=0.03)
    assert float(drawn.std()) == pytest.approx(0.5, rel=0.05)


def test_known_points_pull_their_correlated_neighbours() -> None:
    # Two points with one common value: observing the first tells the network the second.
    def clean(x: Tensor, step: int) -> Tensor:
        return x.mean(-1, keepdim=True).expand_as(x)

    schedule, generator = NoiseSchedule(), torch.Generator().manual_seed(0)
    mask = torch.tensor([1.0, 0.0])
    drawn = repaint(
        clean, schedule.signal, torch.tensor([2.0, 0.0]), mask,
        lambda: torch.randn(64, 1, 1, 2, generator=generator), schedule.inference_steps(50), 5, 5,
    )  # fmt: skip
    assert (drawn[..., 0] == 2).all()
    assert float((drawn[..., 1] - 2).abs().mean()) < 0.5


def test_soft_mask_has_the_hand_values_across_the_date_line_and_near_a_pole() -> None:
    grid = Grid.equiangular(19)  # cells of 10 degrees
    axes = torch.tensor(grid.latitude), torch.tensor(grid.longitude)

    def mask(latitude: list[float], longitude: list[float]) -> Tensor:
        places = torch.tensor(latitude, dtype=torch.float64), torch.tensor(longitude, dtype=torch.float64)
        return soft_mask(*places, *axes, 1.5)

    def bump(rows: float, columns: float) -> float:
        return math.exp(-(rows**2 + columns**2) / (2 * 1.5**2))

    equator = mask([0.0], [355.0])  # half a cell west of the date line
    assert equator[9, 0].item() == pytest.approx(bump(0, 0.5))
    assert equator[9, 35].item() == pytest.approx(bump(0, 0.5))
    assert equator[9, 1].item() == pytest.approx(bump(0, 1.5))
    shrunk = math.cos(math.radians(10)) * 1.5
    assert equator[8, 1].item() == pytest.approx(bump(1, shrunk))
    assert equator[9, 18].item() < 1e-20
    polar = mask([80.0], [0.0])
    assert polar[1, 0].item() == 1.0
    assert polar[1, 18].item() == pytest.approx(bump(0, 18 * math.cos(math.radians(80))))
    torch.testing.assert_close(polar[0], torch.full((36,), bump(1, 0), dtype=torch.float64))
    both = mask([0.0, 80.0], [355.0, 0.0])
    torch.testing.assert_close(both, torch.maximum(equator, polar))
    assert not mask([], []).any()
