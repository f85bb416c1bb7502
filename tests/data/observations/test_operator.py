from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vaevar.data.observations.interpolation import PointInterpolation
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.points import Points
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec, regrid

SURFACE = StateSpec(surface=["u10", "v10", "t2m"], upper=[], levels=[])
POLES, NO_POLES = Grid.equiangular(5, 8), Grid(np.array([60.0, 20.0, -20.0, -60.0]), np.arange(8) * 45.0)


def observe(spec: StateSpec, grid: Grid, x: Tensor, *points: tuple[str, float, float, float]) -> list[float]:
    names, latitude, longitude, pressure = zip(*points, strict=True)
    where = Points(
        variable=np.array(names),
        latitude=np.array(latitude),
        longitude=np.array(longitude),
        pressure=np.array(pressure),
    )
    result: list[float] = PointInterpolation(spec, grid, where)(x).tolist()
    return result


def surface_field(grid: Grid) -> Tensor:
    """Every grid value is different: 100 · row + column, and 1000 · channel."""
    rows, columns = grid.shape
    field = 100.0 * torch.arange(rows)[:, None] + torch.arange(columns)
    return (1000.0 * torch.arange(3)[:, None, None] + field).double()


def test_grid_points_and_interior_by_hand() -> None:
    x, nan = surface_field(POLES), np.nan
    assert observe(SURFACE, POLES, x, ("t2m", 45.0, 90.0, nan)) == [2102.0]
    # A quarter of the way from 45° to 0°, and a third of the way from column 2 to column 3.
    assert observe(SURFACE, POLES, x, ("t2m", 33.75, 105.0, nan)) == pytest.approx([2125 + 2 + 1 / 3])
    assert observe(SURFACE, POLES, x, ("u10", 33.75, 105.0, nan)) == pytest.approx([125 + 2 + 1 / 3])


def test_across_the_date_line_and_greenwich() -> None:
    x, nan = surface_field(POLES), np.nan
    # Column 4 lies on the date line; −168.75° = 191.25° is a quarter of the way to column 5.
    assert observe(SURFACE, POLES, x, ("t2m", 0.0, -168.75, nan), ("t2m", 0.0, 168.75, nan)) == (
        pytest.approx([2204.25, 2203.75])
    )
    # Between column 7 (315°) and column 0, two thirds of the way.
    assert observe(SURFACE, POLES, x, ("v10", 0.0, -15.0, nan)) == pytest.approx([1200 + 7 / 3])


def test_at_the_poles_of_a_grid_that_has_them() -> None:
    x, nan = surface_field(POLES), np.nan
    # The pole row holds the pole's wind in the frame of each meridian: no sign changes.
    assert observe(
        SURFACE, POLES, x, ("t2m", 90.0, 45.0, nan), ("u10", 90.0, 45.0, nan), ("v10", -90.0, 337.5, nan)
    ) == pytest.approx([2001, 1, 1400 + 3.5])
    assert observe(SURFACE, POLES, x, ("u10", 67.5, 45.0, nan)) == pytest.approx([51])


def test_poleward_of_the_last_row_of_a_grid_without_poles() -> None:
    x, nan = surface_field(NO_POLES), np.nan
    # At 75° N, on the meridian of column 1: three quarters of row 0 here, one quarter of row 0 half
    # a circle away (column 5). A wind beyond the pole blows the other way in the frame of here.
    north = [("t2m", 75.0, 45.0, nan), ("u10", 75.0, 45.0, nan), ("v10", 75.0, 45.0, nan)]
    assert observe(SURFACE, NO_POLES, x, *north) == pytest.approx(
        [2000 + 0.75 * 1 + 0.25 * 5, 0.75 * 1 - 0.25 * 5, 0.75 * 1001 - 0.25 * 1005]
    )
    south = [("t2m", -90.0, 0.0, nan), ("u10", -90.0, 0.0, nan)]
    assert observe(SURFACE, NO_POLES, x, *south) == pytest.approx([2300 + 2, 0.5 * 300 - 0.5 * 304])


@pytest.mark.parametrize("grid", [Grid.equiangular(19, 36), Grid.gaussian(18)])
def test_a_uniform_flow_over_the_pole_stays_uniform(grid: Grid) -> None:
    # A wind vector that is constant in space near the pole: u and v vary with longitude and flip
    # across the pole, and only the right signs reproduce it.
    lam = torch.from_numpy(np.radians(grid.longitude))
    u = (-torch.sin(lam)).expand(grid.shape)
    v = (-torch.cos(lam)).expand(grid.shape) * torch.from_numpy(np.sign(grid.latitude))[:, None]
    x = torch.stack([u, v, torch.zeros(grid.shape, dtype=torch.float64)])
    for latitude in (90.0, 89.0, 87.0):
        for longitude in (0.0, 35.0, 200.0):
            found = observe(
                SURFACE, grid, x, ("u10", latitude, longitude, np.nan), ("v10", latitude, longitude, np.nan)
            )
            angle = np.radians(longitude)
            expected = [-np.sin(angle), -np.cos(angle)]
            # Up to the chord of a longitude step of 10°: 1 − cos 5° = 0.004.
            np.testing.assert_allclose(found, expected, atol=0.005)


def test_between_levels_linear_in_log_pressure() -> None:
    spec = StateSpec(surface=["msl"], upper=["z", "t"], levels=[100, 400, 1000])
    x = torch.zeros(len(spec), *POLES.shape, dtype=torch.float64)
    x += torch.tensor([1e5, 10.0, 20.0, 60.0, 200.0, 240.0, 300.0]).double()[:, None, None]
    # 200 hPa is half way from 100 to 400 in ln p.
    assert observe(
        spec,
        POLES,
        x,
        ("z", 10.0, 10.0, 100.0),
        ("z", 10.0, 10.0, 200.0),
        ("t", 10.0, 10.0, 200.0),
        ("t", -80.0, 10.0, 1000.0),
        ("t", 0.0, 0.0, 500.0),
        ("msl", 1.0, 2.0, np.nan),
    ) == pytest.approx([10, 15, 220, 300, 240 + 60 * np.log(500 / 400) / np.log(1000 / 400), 1e5])


def test_a_log_pressure_profile_is_exact() -> None:
    spec = StateSpec(surface=[], upper=["t"])
    x = torch.log(torch.tensor(spec.levels).double())[:, None, None].expand(-1, *POLES.shape)
    pressure = np.geomspace(50.0, 1000.0, 40)
    points = Points(
        variable=np.full(40, "t"),
        latitude=np.linspace(-90, 90, 40),
        longitude=np.linspace(0, 700, 40),
        pressure=pressure,
    )
    found = PointInterpolation(spec, POLES, points)(x)
    np.testing.assert_allclose(found.numpy(), np.log(pressure), rtol=1e-13)


@pytest.mark.parametrize("point", [("t", 49.9), ("t", 1013.0), ("q", 500.0)])
def test_what_the_state_lacks_is_refused(point: tuple[str, float]) -> None:
    spec = StateSpec(surface=["t2m"], upper=["t"])
    with pytest.raises(UserError, match=f"{point[0]} at {point[1]:g} hPa"):
        observe(spec, POLES, torch.zeros(14, *POLES.shape), (point[0], 0.0, 0.0, point[1]))


def test_a_state_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="the operator expects"):
        observe(SURFACE, POLES, torch.zeros(3, 8, 5), ("t2m", 0.0, 0.0, np.nan))


def test_precision_batches_and_empty() -> None:
    points = ColumnNetwork(6, seed=2).points(SURFACE, np.datetime64("2022-01-01"))
    double = PointInterpolation(SURFACE, POLES, points)
    single = PointInterpolation(SURFACE, POLES, points).to(torch.float32)
    x = torch.randn(2, 4, 3, *POLES.shape, dtype=torch.float64)
    assert double(x).shape == (2, 4, 18)
    torch.testing.assert_close(double(x)[1, 2], double(x[1, 2]), rtol=0, atol=0)
    assert double(x.float()).dtype == torch.float64
    assert single(x.float()).dtype == single(x.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(single(x.float()).double(), double(x), rtol=1e-5, atol=1e-5)
    nothing = PointInterpolation(SURFACE, POLES, points.select(np.zeros(18, dtype=bool)))
    assert nothing(x).shape == (2, 4, 0)
    assert not double.state_dict()


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(2, 9),
    half=st.integers(1, 8),
    count=st.integers(1, 20),
    poles=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_adjoint(rows: int, half: int, count: int, poles: bool, seed: int) -> None:
    """⟨H x, y⟩ = ⟨x, Hᵀ y⟩ with Hᵀ built value by value from H's weights."""
    grid = Grid.equiangular(rows, 2 * half) if poles else Grid.gaussian(rows, 2 * half)
    spec = StateSpec(surface=["u10", "msl"], upper=["v", "q"], levels=[300, 850])
    points = ColumnNetwork(count, seed).points(spec, np.datetime64("2022-01-01"))
    operator = PointInterpolation(spec, grid, points)
    random = torch.Generator().manual_seed(seed)
    x = torch.randn((len(spec), *grid.shape), generator=random, dtype=torch.float64, requires_grad=True)
    y = torch.randn(len(points), generator=random, dtype=torch.float64)
    (adjoint,) = torch.autograd.grad(operator(x), x, y)
    transpose = np.zeros(x.numel())
    np.add.at(transpose, operator.index.numpy(), operator.weight.numpy() * y.numpy()[:, None])
    np.testing.assert_allclose(adjoint.flatten().numpy(), transpose, atol=1e-12)
    torch.testing.assert_close((operator(x) * y).sum(), (x * adjoint).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("source", [POLES, NO_POLES, Grid.gaussian(6)])
def test_regrid_is_the_operator_at_every_grid_point(source: Grid) -> None:
    target = Grid.equiangular(7, 10)
    x = torch.randn(3, *source.shape, dtype=torch.float64)
    latitude, longitude = (a.ravel() for a in np.meshgrid(target.latitude, target.longitude, indexing="ij"))
    expected = torch.stack(
        [
            PointInterpolation(
                SURFACE,
                source,
                Points(
                    variable=np.array(name), latitude=latitude, longitude=longitude, pressure=np.array(np.nan)
                ),
            )(x).unflatten(0, target.shape)
            for name in SURFACE.names
        ]
    )
    torch.testing.assert_close(regrid(x, SURFACE, source, target), expected, rtol=1e-12, atol=1e-12)
    assert regrid(x, SURFACE, source, source) is x
    assert regrid(x.float(), SURFACE, source, target).dtype == torch.float32
    batch = regrid(x.expand(2, -1, -1, -1), SURFACE, source, target)
    torch.testing.assert_close(batch[1], expected, rtol=1e-12, atol=1e-12)
