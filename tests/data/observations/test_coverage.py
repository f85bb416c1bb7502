from __future__ import annotations

import numpy as np
import pytest
import torch

from vaevar.data.observations.coverage import LENGTHS_KM, MAPS, MEMORIES, no_coverage, update_coverage
from vaevar.data.observations.networks import ChangingColumns, ColumnNetwork
from vaevar.data.observations.points import Points
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.sphere.interpolation import great_circle_km
from vaevar.state import StateSpec

GRID, SPEC = Grid.gaussian(12), StateSpec(["t2m"], [], [])
TIME = np.datetime64("2020-01-01T00", "h")


def points(latitude: list[float], longitude: list[float]) -> Points:
    count = len(latitude)
    return Points(
        variable=np.array(["t2m"] * count), latitude=np.array(latitude), longitude=np.array(longitude),
        pressure=np.full(count, np.nan),
    )  # fmt: skip


def test_maps_are_bumps_about_the_nearest_place() -> None:
    maps = update_coverage(no_coverage(GRID), points([50.0, -80.0], [359.0, 10.0]), GRID)
    assert maps.shape == (MAPS, *GRID.shape)
    latitude, longitude = np.meshgrid(GRID.latitude, GRID.longitude, indexing="ij")
    nearest = np.minimum(
        great_circle_km(latitude, longitude, np.array(50.0), np.array(359.0)),
        great_circle_km(latitude, longitude, np.array(-80.0), np.array(10.0)),
    )
    for number, length in enumerate(LENGTHS_KM):
        bump = np.exp(-0.5 * (nearest / length) ** 2)
        for place, memory in enumerate(MEMORIES):
            made = maps[number * len(MEMORIES) + place].numpy()
            np.testing.assert_allclose(made, (1 - memory) * bump, atol=1e-5)


def test_what_is_no_longer_observed_fades() -> None:
    maps = update_coverage(no_coverage(GRID), points([0.0], [0.0]), GRID)
    nothing = points([], [])
    later = update_coverage(update_coverage(maps, nothing, GRID), nothing, GRID)
    factors = torch.tensor(MEMORIES).repeat(len(LENGTHS_KM))[:, None, None] ** 2
    torch.testing.assert_close(later, maps * factors)


def test_a_changing_network_takes_turns() -> None:
    network = ChangingColumns([3, 5], 24, seed=2)
    first = np.datetime64("1959-01-01T00", "h")
    sizes = [network.at(first + np.timedelta64(24 * day, "h")) for day in range(4)]
    assert [(n.count, n.moving) for n in sizes] == [(3, False), (5, False), (3, True), (5, True)]
    assert len({n.seed for n in sizes}) == 4
    late = network.points(SPEC, first + np.timedelta64(23, "h"))
    np.testing.assert_array_equal(late.latitude, network.points(SPEC, first).latitude)
    assert len(network.points(SPEC, TIME)) in (3, 5)
    assert ColumnNetwork(3).seed not in {n.seed for n in sizes}


@pytest.mark.parametrize("wrong", [{"counts": []}, {"hours": 0}, {"seed": -1}, {"counts": [0]}])
def test_mistakes(wrong: dict) -> None:
    with pytest.raises(UserError):
        ChangingColumns(**({"counts": [3], "hours": 6} | wrong))
