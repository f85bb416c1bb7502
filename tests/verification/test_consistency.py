"""Desroziers' ratios and innovation memory: by hand, and for known statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vaevar.data.observations.interpolation import PointInterpolation
from vaevar.data.observations.points import Observations
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec
from vaevar.verification.consistency import departures, desroziers, memory


def observations(variable: list[str], error_std: np.ndarray) -> Observations:
    value = np.array([{"t2m": 283.0, "msl": 100_500.0}[name] for name in variable])
    return Observations(
        variable=np.array(variable),
        latitude=np.zeros(len(variable)),
        longitude=np.linspace(0, 300, len(variable)),
        pressure=np.array(np.nan),
        value=value,
        error_std=error_std,
    )


def test_ratios_by_hand() -> None:
    seen = observations(["t2m", "t2m", "msl"], np.array([2.0, 1.0, 100.0]))
    found = desroziers(np.array([4.0, -2.0, 300.0]), np.array([1.0, -1.0, 200.0]), seen)
    assert set(found) == {"t2m", "msl"}
    # (1·4/4 + 1·2/1)/2 and (3·4/4 + 1·2/1)/2; 200·300/100² and 100·300/100².
    assert found["t2m"].observation == pytest.approx(1.5)
    assert found["t2m"].background == pytest.approx(2.5)
    assert found["msl"].observation == pytest.approx(6.0)
    assert found["msl"].background == pytest.approx(3.0)


def test_departures_are_observed_minus_state() -> None:
    spec, grid = StateSpec(["t2m", "msl"], [], []), Grid.equiangular(3, 4)
    seen = observations(["t2m", "msl"], np.ones(2))
    values = torch.tensor([280.0, 101_000.0])[:, None, None].expand(2, 3, 4)
    found = departures(PointInterpolation(spec, grid, seen), State(values, spec, grid), seen)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [3.0, -500.0], rtol=1e-12)


@pytest.mark.parametrize("inflation", [1.0, 4.0])
def test_expectations_of_a_linear_gaussian_analysis(inflation: float) -> None:
    """With the true B and R the ratio is 1; with too large a B it follows from the gain."""
    random = np.random.default_rng(0)
    states, observed, draws = 6, 8, 20_000
    root = random.normal(size=(states, states)) / states**0.5
    operator = random.normal(size=(observed, states)) / states**0.5
    error_std = random.uniform(0.5, 1.5, observed)
    r, hbh = np.diag(error_std**2), operator @ root @ root.T @ operator.T
    gain = inflation * hbh @ np.linalg.inv(inflation * hbh + r)
    errors = random.normal(size=(draws, states)) @ (operator @ root).T
    before = random.normal(size=(draws, observed)) * error_std - errors
    after = before - before @ gain.T
    seen = observations(["t2m"] * (observed * draws), np.tile(error_std, draws))
    found = desroziers(before.ravel(), after.ravel(), seen)["t2m"]
    expected = (np.diag((np.eye(observed) - gain) @ (hbh + r)) / error_std**2).mean()
    background = (np.diag(gain @ (hbh + r)) / error_std**2).mean()
    assert found.observation == pytest.approx(expected, abs=0.01)
    assert found.background == pytest.approx(background, abs=0.02)
    if inflation == 1.0:
        assert expected == pytest.approx(1.0, rel=1e-12)
        assert background == pytest.approx((np.diag(hbh) / error_std**2).mean(), rel=1e-12)
    else:
        assert found.observation < 0.9


def test_memory_by_hand() -> None:
    seen = observations(["t2m", "t2m", "msl"], np.array([2.0, 1.0, 100.0]))
    found = memory(np.array([1.0, -1.0, 200.0]), np.array([4.0, -2.0, 100.0]), seen)
    # (1·4/4 + 1·2/1) / (4·4/4 + 2·2/1); 200·100/100².
    assert found == {"t2m": pytest.approx(3 / 8), "msl": pytest.approx(2.0)}


@pytest.mark.parametrize(("factor", "sign"), [(1.0, 0), (0.3, 1), (2.0, -1)])
def test_innovations_of_a_kalman_filter_have_no_memory(factor: float, sign: int) -> None:
    """x' = 0.95 x + noise, observed with noise, with the steady-state gain or a multiple of it."""
    random = np.random.default_rng(1)
    growth, model, error, steps, places = 0.95, 0.2, 1.0, 300, 400
    variance = 1.0
    for _ in range(500):  # of the background, to the fixed point of the Riccati equation
        variance = growth**2 * variance * error**2 / (variance + error**2) + model**2
    gain = factor * variance / (variance + error**2)
    background_error, innovations = np.zeros(places), []
    for _ in range(steps):
        innovations.append(random.normal(0, error, places) - background_error)
        background_error = growth * (background_error + gain * innovations[-1])
        background_error += random.normal(0, model, places)
    d = np.stack(innovations[100:])
    seen = observations(["t2m"] * d[1:].size, np.full(d[1:].size, error))
    found = memory(d[:-1].ravel(), d[1:].ravel(), seen)["t2m"]
    assert abs(found) < 0.012 if sign == 0 else sign * found > 0.05
