"""The learning-rate schedule, by hand."""

from __future__ import annotations

import math

import pytest

from vaevar.models.training.optimisation import WarmupCosine


def test_warm_up_and_cosine_from_the_first_step() -> None:
    factor = WarmupCosine(total=10, warmup=4)
    assert [factor(step) for step in (0, 1)] == pytest.approx(
        [0.25, 0.5 * 0.5 * (1 + math.cos(0.1 * math.pi))]
    )
    assert factor(5) == pytest.approx(0.5)
    assert factor(10) == factor(12) == 0.0


def test_cosine_that_begins_after_the_warm_up() -> None:
    factor = WarmupCosine(total=10, warmup=4, origin=4)
    assert [factor(step) for step in (0, 1, 3, 4)] == [0.25, 0.5, 1.0, 1.0]
    assert factor(7) == pytest.approx(0.5)


def test_cosine_that_is_held_back_until_after_the_warm_up() -> None:
    factor = WarmupCosine(total=10, warmup=4, hold=4)
    assert [factor(step) for step in (0, 3)] == [0.25, 1.0]
    assert factor(4) == pytest.approx(0.5 * (1 + math.cos(0.4 * math.pi)))


def test_no_cosine() -> None:
    factor = WarmupCosine(total=10, warmup=0, hold=math.inf)
    assert [factor(step) for step in (0, 5, 20)] == [1.0, 1.0, 1.0]
