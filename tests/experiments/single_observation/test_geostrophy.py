"""Geostrophic wind against closed forms, and the correlation of wind fields."""

from __future__ import annotations

import numpy as np
import pytest

from vaevar.constants import EARTH_RADIUS, EARTH_ROTATION
from vaevar.experiments.single_observation.geostrophy import (
    geostrophic_wind,
    neighbourhood,
    wind_correlation,
)
from vaevar.sphere.grid import Grid

GRID = Grid.equiangular(181)


def fields(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    return np.meshgrid(np.radians(grid.latitude), np.radians(grid.longitude), indexing="ij")


def test_geostrophic_wind_of_a_known_field() -> None:
    """Φ = A cos²φ cos 3λ: ∂Φ/∂φ and ∂Φ/∂λ by hand; the error falls with the square of the spacing."""
    amplitude, errors = 3000.0, []
    for rows in (91, 181):
        grid = Grid.equiangular(rows)
        phi, lam = fields(grid)
        u, v = geostrophic_wind(amplitude * np.cos(phi) ** 2 * np.cos(3 * lam), grid)
        with np.errstate(divide="ignore", invalid="ignore"):
            f = 2 * EARTH_ROTATION * np.sin(phi)
            wanted_u = amplitude * np.sin(2 * phi) * np.cos(3 * lam) / (f * EARTH_RADIUS)
            wanted_v = -3 * amplitude * np.cos(phi) * np.sin(3 * lam) / (f * EARTH_RADIUS)
        middle = (np.abs(grid.latitude) > 11.5) & (np.abs(grid.latitude) < 80.5)
        errors.append(max(np.abs(u - wanted_u)[middle].max(), np.abs(v - wanted_v)[middle].max()))
    assert np.abs(wanted_v[middle]).max() > 40
    assert errors[1] < 0.03
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_a_high_turns_with_the_hemisphere_and_the_poles_and_equator_are_undefined() -> None:
    phi, lam = fields(GRID)
    for sign, row in ((1, 45), (-1, 135)):
        bump = np.exp(-((phi - np.radians(GRID.latitude[row])) ** 2 + (lam - np.pi) ** 2) / 0.02)
        u, v = geostrophic_wind(500 * bump, GRID)
        east = np.searchsorted(GRID.longitude, 185)
        assert sign * v[row, east] < 0  # clockwise round a high in the north: southward on its east
        assert sign * u[row - 5, 180] > 0 > sign * u[row + 5, 180]
        for undefined in (0, 90, 180):
            assert np.isnan([u[undefined], v[undefined]]).all()


def test_correlation_of_winds() -> None:
    random = np.random.default_rng(0)
    wind = random.normal(size=(2, *GRID.shape))
    pair, opposite, turned = (wind[0], wind[1]), (-3 * wind[0], -3 * wind[1]), (-wind[1], wind[0])
    assert wind_correlation(pair, pair, GRID) == pytest.approx(1)
    assert wind_correlation(pair, opposite, GRID) == pytest.approx(-1)
    assert wind_correlation(pair, turned, GRID) == pytest.approx(0, abs=1e-12)
    assert np.isnan(wind_correlation(pair, (np.zeros(GRID.shape), np.zeros(GRID.shape)), GRID))
    # Rows where the other wind is undefined, or that are left out, do not count.
    broken = wind.copy()
    broken[:, 90] = np.nan
    where = np.ones(GRID.shape, dtype=bool)
    where[0] = False
    broken[:, 0] = -wind[:, 0]
    assert wind_correlation(pair, (broken[0], broken[1]), GRID, where) == pytest.approx(1)


def test_neighbourhood_leaves_out_the_tropics() -> None:
    near = neighbourhood(GRID, 15.0, 0.0, 2000.0)
    rows = GRID.latitude[near.any(1)]
    assert (rows.min(), rows.max()) == pytest.approx((6, 32))
    assert near[75, [359, 1]].all()
    assert not near[75, 180]
