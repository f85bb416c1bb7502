"""Kriging from the nearest places: its weights, what it keeps, and its limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vaevar.assim.interpolation import kriging
from vaevar.assim.interpolation.kriging import Kriging, kriging_weights
from vaevar.constants import EARTH_RADIUS_KM
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.sphere.interpolation import grid_vectors, unit_vectors
from vaevar.state import State, StateSpec

SPEC, GRID = StateSpec(["t2m", "msl"], [], []), Grid.equiangular(19)  # 10 degrees
RANDOM = np.random.default_rng(0)
PLACES = np.degrees(np.arcsin(RANDOM.uniform(-1, 1, 40))), RANDOM.uniform(0, 360, 40)


def background() -> State:
    """t2m that varies with latitude, so that values and innovations differ."""
    t2m = 280.0 + 20.0 * torch.from_numpy(np.cos(np.radians(GRID.latitude)))[:, None]
    values = torch.stack([t2m.expand(*GRID.shape), torch.full(GRID.shape, 101_000.0, dtype=torch.float64)])
    return State(values, SPEC, GRID)


def t2m(latitude: Any, longitude: Any, value: Any, std: float = 1.0) -> Observations:
    value = np.asarray(value, dtype=float)
    return Observations(
        variable=np.array(["t2m"] * len(value)), latitude=np.asarray(latitude, dtype=float),
        longitude=np.asarray(longitude, dtype=float), pressure=np.full(len(value), np.nan), value=value,
        error_std=np.full(len(value), std),
    )  # fmt: skip


def test_weights_sum_to_one_and_solve_the_kriging_equations() -> None:
    points, targets = unit_vectors(*PLACES), grid_vectors(GRID)
    nearest, weight = kriging_weights(points, targets, 9, 600.0)
    assert nearest.shape == weight.shape == (len(targets), 9)
    np.testing.assert_allclose(weight.sum(1), 1.0)
    # The nine are the nearest, and Σ_j C_ij w_j − c_i is the same for all i: the Lagrange multiplier.
    for target in (0, 200, 500):
        distance = np.linalg.norm(points - targets[target], axis=1)
        assert set(nearest[target]) == set(np.argsort(distance)[:9])
        chosen = points[nearest[target]]
        between = np.linalg.norm(chosen[:, None] - chosen, axis=-1)
        to_target = np.linalg.norm(chosen - targets[target], axis=-1)
        c = [np.exp(-r * EARTH_RADIUS_KM / 600.0) for r in (between, to_target)]
        np.testing.assert_allclose(np.ptp(c[0] @ weight[target] - c[1]), 0.0, atol=1e-8)


def test_exact_at_observations_whatever_their_errors() -> None:
    latitude, longitude = [40.0, -20.0, 0.0, 90.0], [50.0, 180.0, 300.0, 0.0]
    value = [283.0, 295.0, 301.0, 275.0]
    for std in (0.1, 5.0):
        for settings in ({}, {"of": "values"}, {"neighbours": 2}, {"neighbours": 1}):
            analysis = Kriging(**settings)(background(), t2m(latitude, longitude, value, std))
            for phi, lam, expected in zip(latitude, longitude, value, strict=True):
                row, column = int(np.argmin(abs(GRID.latitude - phi))), int(lam // 10)
                assert float(analysis.state.values[0, row, column]) == pytest.approx(expected, abs=1e-6)
            assert analysis.diagnostics["seconds"] < 60
            assert torch.equal(analysis.state.values[1], background().values[1])  # not observed


def test_a_constant_field_stays_constant() -> None:
    """Of values, the whole field; of innovations, the distance from the background."""
    constant = t2m(*PLACES, np.full(40, 285.0))
    of_values = Kriging(of="values")(background(), constant).state.values[0]
    torch.testing.assert_close(of_values, torch.full_like(of_values, 285.0))
    operator = constant.operator(SPEC, GRID)
    warmer = t2m(*PLACES, operator(background().values).numpy() + 1.5)
    analysed = Kriging()(background(), warmer).state.values[0]
    torch.testing.assert_close(analysed, background().values[0] + 1.5)


def test_places_that_nearly_coincide_and_none() -> None:
    observed = t2m([10.0, 10.0 + 1e-9, 50.0], [20.0, 20.0, 80.0], [300.0, 300.0, 290.0])
    values = Kriging()(background(), observed).state.values
    assert bool(values.isfinite().all())
    nothing = t2m([], [], [])
    assert torch.equal(Kriging(of="values")(background(), nothing).state.values, background().values)


def test_in_pieces_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    observed = t2m(*PLACES, RANDOM.normal(290.0, 5.0, 40))
    whole = Kriging()(background(), observed).state.values
    monkeypatch.setattr(kriging, "_TOGETHER", 100)
    torch.testing.assert_close(Kriging()(background(), observed).state.values, whole)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"neighbours": 0}, "neighbours 0"),
        ({"length_km": -1.0}, "length_km -1"),
        ({"of": "errors"}, "'errors'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Kriging(**settings)
