from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vaevar.constants import EARTH_RADIUS_KM
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics, normalized_legendre, quadrature_weights
from vaevar.sphere.interpolation import bilinear_weights, great_circle_km, nearest_km, unit_vectors

GRIDS = {"gaussian": Grid.gaussian(16), "equiangular": Grid.equiangular(19), "cells": Grid.cells(20)}
TRUNCATION = {"gaussian": 15, "equiangular": 9, "cells": 9}
both_grids = pytest.mark.parametrize("family", GRIDS)


# --- grids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("nlat", [2, 3, 48])
def test_gaussian_latitudes_are_the_roots_of_the_legendre_polynomial(nlat):
    grid = Grid.gaussian(nlat)
    roots, weights = scipy.special.roots_legendre(nlat)
    np.testing.assert_allclose(np.sin(np.radians(grid.latitude)), roots[::-1], atol=1e-14)
    np.testing.assert_allclose(quadrature_weights(grid), weights[::-1], rtol=1e-12)
    assert grid.shape == (nlat, 2 * nlat)
    assert grid.is_gaussian
    assert not grid.is_equiangular


def test_the_grids_of_era5_and_of_the_embedded_world():
    era5 = Grid.equiangular(721)
    assert era5.shape == (721, 1440)
    assert (era5.latitude[0], era5.latitude[360], era5.latitude[-1]) == (90.0, 0.0, -90.0)
    assert (era5.longitude[1], era5.longitude[-1]) == (0.25, 359.75)
    assert era5.is_equiangular
    assert not era5.is_gaussian
    speedy = Grid.gaussian(48)
    np.testing.assert_allclose(speedy.latitude[[0, 23, 24]], [87.159, 1.855, -1.855], atol=1e-3)


@pytest.mark.parametrize(
    ("latitude", "longitude", "says"),
    [
        ([-45.0, 45.0], [0.0, 180.0], "must descend"),  # ascending
        ([45.0, 45.0], [0.0, 180.0], "must descend"),
        ([45.0, np.nan], [0.0, 180.0], "must descend"),
        ([45.0], [0.0, 180.0], "must descend"),
        ([[45.0, -45.0]], [0.0, 180.0], "must descend"),
        ([91.0, -45.0], [0.0, 180.0], "beyond the poles"),
        ([45.0, -91.0], [0.0, 180.0], "beyond the poles"),
        ([45.0, -45.0], [0.0, 90.0, 270.0], "even steps"),
        ([45.0, -45.0], [180.0, 0.0], "even steps"),
        ([45.0, -45.0], [0.0, np.nan], "even steps"),
        ([45.0, -45.0], [0.0, 10.0, 20.0], "even steps"),  # a region, not the globe
        ([45.0, -45.0], [-180.0, 0.0], "starts at -180"),
        ([70.0, 60.0, 50.0], [0.0, 180.0], "a region, where the whole sphere is expected"),
        ([90.0, 60.0, 30.0, 0.0], [0.0, 180.0], "ends at 0 in steps of 30, short of the pole"),
        ([0.0, -30.0, -60.0], [0.0, 180.0], "ends at 0 in steps of 30, short of the pole"),
    ],
)
def test_a_grid_that_is_none_is_refused(latitude, longitude, says):
    with pytest.raises(ValueError, match=says):
        Grid(np.array(latitude), np.array(longitude))


@pytest.mark.parametrize(
    ("family", "shape", "grid"),
    [
        (True, (8, None), Grid.gaussian(8)),
        (False, (9, None), Grid.equiangular(9)),
        ("gaussian", (8, 16), Grid.gaussian(8)),
        ("equiangular", (9, 16), Grid.equiangular(9)),
        ("cells", (8, None), Grid.cells(8)),
        ("regular", (8, None), Grid(90.0 - 22.5 * np.arange(8), 22.5 * np.arange(16))),
        ("regular", (9, 16), Grid.equiangular(9)),
    ],
)
def test_a_family_of_grids_by_its_name(family, shape, grid):
    assert Grid.of_family(family, *shape) == grid


def test_a_grid_without_the_south_pole():
    grid = Grid.regular(720, 1440)
    assert (grid.latitude[0], grid.latitude[-1]) == (90.0, -89.75)
    assert repr(grid) == "Grid(720 × 1440, no south pole)"
    with pytest.raises(ValueError, match="'icosahedral' is none of gaussian, equiangular, cells, regular"):
        Grid.of_family("icosahedral", 8)
    with pytest.raises(ValueError, match="short of the pole"):
        Grid.of_family("regular", 8, 32)


def test_two_grids_say_where_they_differ():
    grid, east = Grid.cells(4), Grid(Grid.cells(4).latitude, np.arange(8) * 45.0 + 22.5)
    assert grid.difference(Grid.cells(4)) == "they are the same"
    assert grid.difference(Grid.cells(6)) == "they have 4 and 6 latitudes"
    assert grid.difference(Grid.cells(4, 6)) == "they have 8 and 6 longitudes"
    assert grid.difference(Grid.regular(4, 8)) == "latitude number 0 is 67.5 and 90"
    assert grid.difference(east) == "longitude number 0 is 0 and 22.5"


def test_grids_are_equal_to_single_precision():
    grid = Grid.gaussian(48)
    stored = Grid(grid.latitude.astype(np.float32), grid.longitude.astype(np.float32))
    assert stored == grid
    assert hash(stored) == hash(grid)
    assert stored.is_gaussian
    assert grid != Grid.equiangular(48, 96)
    assert grid != Grid.gaussian(24)
    assert grid != "grid"
    assert "Gaussian" in repr(grid)
    assert "equiangular" in repr(Grid.equiangular(5))


# --- area weights ---------------------------------------------------------------------------------


def test_area_weights_by_hand():
    # Rows at 90, 30, -30, -90; edges at 90, 60, 0, -60, -90.
    sines = np.sin(np.radians([90.0, 60.0, 0.0, -60.0, -90.0]))
    expected = np.array([sines[i] - sines[i + 1] for i in range(4)])
    weights = Grid.equiangular(4, 6).area_weights
    torch.testing.assert_close(weights, torch.from_numpy(expected / expected.mean()))
    # The polar caps are small, but cos φ would make them nothing.
    assert weights[0] == pytest.approx((1 - np.sqrt(3) / 2) * 2, rel=1e-12)


@pytest.mark.parametrize("grid", [Grid.equiangular(721, 4), Grid.gaussian(48), Grid.gaussian(3)], ids=str)
def test_area_weights_cover_the_sphere(grid):
    assert grid.area_weights.mean().item() == pytest.approx(1.0, rel=1e-14)
    assert (grid.area_weights > 0).all()
    torch.testing.assert_close(grid.area_weights, grid.area_weights.flip(0))


def test_area_mean_of_known_functions():
    grid = Grid.equiangular(181)
    sine = torch.from_numpy(np.sin(np.radians(grid.latitude)))[:, None].expand(grid.shape)
    assert grid.area_mean(torch.full(grid.shape, 3.0)).item() == pytest.approx(3.0)
    assert grid.area_mean(sine).item() == pytest.approx(0.0, abs=1e-14)
    assert grid.area_mean(sine.square()).item() == pytest.approx(1 / 3, rel=1e-3)  # ∫ s² ds / 2
    batch = grid.area_mean(torch.stack([sine, sine.square(), 2 * sine.square()]).float()[None])
    assert batch.shape == (1, 3)
    assert batch.dtype == torch.float32


# --- interpolation --------------------------------------------------------------------------------

latitudes = st.floats(-90.0, 90.0, allow_subnormal=False)
longitudes = st.floats(-720.0, 720.0, allow_subnormal=False)
grids = st.sampled_from(
    [
        Grid.gaussian(6),
        Grid.equiangular(7),
        Grid.equiangular(5, 6),
        Grid(np.array([60.0, 10.0, -75.0]), [45.0, 225.0]),
    ]
)


def interpolate(grid: Grid, field: np.ndarray, latitude: float, longitude: float) -> float:
    weights = bilinear_weights(grid, np.array([latitude]), np.array([longitude]))
    return float((field.reshape(-1)[weights.index] * weights.weight.numpy()).sum())


@given(grids, latitudes, longitudes)
@example(Grid.gaussian(6), 90.0, 359.99999999999994)
@example(Grid.equiangular(7), -90.0, -1e-300)
@settings(deadline=None, max_examples=200)
def test_weights_are_a_partition_of_one(grid, latitude, longitude):
    weights = bilinear_weights(grid, np.array([latitude]), np.array([longitude]))
    assert weights.weight.sum().item() == pytest.approx(1.0, abs=1e-13)
    assert (weights.weight >= 0).all()
    assert ((weights.index >= 0) & (weights.index < grid.shape[0] * grid.shape[1])).all()
    # Only a point poleward of the last row looks across the pole.
    outside = latitude > grid.latitude[0] or latitude < grid.latitude[-1]
    if not outside:
        assert weights.weight[weights.across_pole].sum().item() == 0


@given(grids, latitudes, longitudes, st.floats(-5, 5), st.floats(-100, 100))
@settings(deadline=None, max_examples=200)
def test_a_field_linear_in_latitude_is_reproduced_between_rows(grid, latitude, longitude, slope, offset):
    latitude = float(np.clip(latitude, grid.latitude[-1], grid.latitude[0]))
    field = np.repeat((offset + slope * grid.latitude)[:, None], grid.shape[1], axis=1)
    made = interpolate(grid, field, latitude, longitude)
    assert made == pytest.approx(offset + slope * latitude, abs=1e-9)


@given(grids, latitudes, st.floats(0, 360), st.sampled_from([-720, -360, 360, 720]))
@settings(deadline=None, max_examples=200)
def test_longitude_wraps_at_the_date_line_and_at_greenwich(grid, latitude, longitude, turn):
    field = np.random.default_rng(0).normal(size=grid.shape)
    made = interpolate(grid, field, latitude, longitude + turn)
    assert made == pytest.approx(interpolate(grid, field, latitude, longitude), abs=1e-9)


@given(grids, latitudes, st.floats(0, 1))
@settings(deadline=None, max_examples=200)
def test_between_two_columns_it_is_linear_in_longitude(grid, latitude, share):
    field = np.random.default_rng(1).normal(size=grid.shape)
    start = grid.longitude[-1]  # between the last column and the first
    spacing = 360.0 / grid.shape[1]
    ends = [interpolate(grid, field, latitude, start + step * spacing) for step in (0, 1)]
    made = interpolate(grid, field, latitude, start + share * spacing)
    assert made == pytest.approx((1 - share) * ends[0] + share * ends[1], abs=1e-9)


def test_a_point_between_four_by_hand():
    grid = Grid.equiangular(5, 8)  # rows 90, 45, 0, -45, -90; columns every 45
    field = np.arange(40.0).reshape(5, 8)
    # A quarter of the way from 45 N to the equator, a fifth from 315 E to 0 E.
    north = 0.8 * field[1, 7] + 0.2 * field[1, 0]
    south = 0.8 * field[2, 7] + 0.2 * field[2, 0]
    assert interpolate(grid, field, 33.75, 324.0) == pytest.approx(0.75 * north + 0.25 * south)
    assert interpolate(grid, field, 33.75, -36.0) == pytest.approx(0.75 * north + 0.25 * south)


def test_grid_points_are_read_as_they_are():
    for grid in (*GRIDS.values(), Grid.equiangular(721, 4)):
        rows, columns = grid.shape
        field = np.random.default_rng(2).normal(size=grid.shape)
        latitude, longitude = np.meshgrid(grid.latitude, grid.longitude, indexing="ij")
        weights = bilinear_weights(grid, latitude, longitude)
        made = (field.reshape(-1)[weights.index] * weights.weight.numpy()).sum(1).reshape(rows, columns)
        np.testing.assert_allclose(made, field, atol=1e-9)


def test_the_poles_of_a_grid_that_has_them():
    grid = Grid.equiangular(5, 8)
    field = np.arange(40.0).reshape(5, 8)
    assert interpolate(grid, field, 90.0, 90.0) == field[0, 2]
    assert interpolate(grid, field, -90.0, 112.5) == (field[4, 2] + field[4, 3]) / 2
    # Halfway to the pole's row, along a column.
    assert interpolate(grid, field, 67.5, 45.0) == (field[0, 1] + field[1, 1]) / 2


def test_over_the_pole_of_a_grid_without_it():
    grid = Grid(np.array([80.0, 0.0, -70.0]), np.arange(4) * 90.0)
    field = np.array([[1.0, 2.0, 4.0, 8.0], [0.0] * 4, [16.0, 32.0, 64.0, 128.0]])
    # At the pole: half this column, half the opposite one, half a circle away.
    assert interpolate(grid, field, 90.0, 0.0) == pytest.approx((1 + 4) / 2)
    assert interpolate(grid, field, 90.0, 90.0) == pytest.approx((2 + 8) / 2)
    # 5° short of it, of the 20° between the two rows: three quarters here.
    assert interpolate(grid, field, 85.0, 270.0) == pytest.approx(0.75 * 8 + 0.25 * 2)
    # South: rows at -70, 40° apart across the pole; 10° beyond the row.
    assert interpolate(grid, field, -80.0, 180.0) == pytest.approx(0.75 * 64 + 0.25 * 16)
    weights = bilinear_weights(grid, np.array([85.0, 0.0, -80.0]), np.zeros(3))
    assert weights.across_pole.tolist() == [
        [True, True, False, False],
        [False] * 4,
        [False, False, True, True],
    ]


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(90.1, 0.0), (-91.0, 0.0), (np.nan, 0.0), (0.0, np.nan), (0.0, np.inf)]
)
def test_positions_off_the_sphere_are_refused(latitude, longitude):
    with pytest.raises(ValueError, match=r"latitudes must lie|finite"):
        bilinear_weights(Grid.gaussian(4), np.array([latitude]), np.array([longitude]))


# --- distances ------------------------------------------------------------------------------------


def test_the_nearest_of_points_is_found_also_half_a_circle_away():
    """Rounding may leave a chord longer than 2."""
    random = np.random.default_rng(0)
    latitude, longitude = np.degrees(np.arcsin(random.uniform(-1, 1, 500))), random.uniform(0, 360, 500)
    points = unit_vectors(latitude, longitude)
    far = [nearest_km(point[None], -point[None] * (1 + 1e-15)).item() for point in points]
    np.testing.assert_allclose(far, np.pi * EARTH_RADIUS_KM, rtol=1e-6)
    near = nearest_km(points[:3], unit_vectors(latitude[:3] + 0.5, longitude[:3]))
    np.testing.assert_allclose(near, np.radians(0.5) * EARTH_RADIUS_KM, rtol=1e-6)


def test_great_circle_distances():
    quarter = np.pi / 2 * EARTH_RADIUS_KM
    assert great_circle_km(0, 0, 0, 0) == 0
    assert great_circle_km(0, 0, 0, 90) == pytest.approx(quarter)
    assert great_circle_km(0, 350, 0, 10) == pytest.approx(quarter * 20 / 90)
    assert great_circle_km(90, 17, -90, 201) == pytest.approx(2 * quarter)
    assert great_circle_km(60, 0, 60, 180) == pytest.approx(quarter * 60 / 90)
    assert great_circle_km(10, 30, -10, 210) == pytest.approx(2 * quarter)  # antipodes
    # London (51.5074 N, 0.1278 W) to Paris (48.8566 N, 2.3522 E): 343.6 km on this radius.
    assert great_circle_km(51.5074, -0.1278, 48.8566, 2.3522) == pytest.approx(343.6, abs=0.2)


@given(latitudes, longitudes, latitudes, longitudes)
@settings(deadline=None)
def test_distance_is_the_angle_between_unit_vectors(lat1, lon1, lat2, lon2):
    def vector(lat: float, lon: float) -> np.ndarray:
        phi, lam = np.radians(lat), np.radians(lon)
        return np.array([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])

    a, b = vector(lat1, lon1), vector(lat2, lon2)
    angle = np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)
    distance = great_circle_km(lat1, lon1, lat2, lon2)
    assert distance == pytest.approx(EARTH_RADIUS_KM * angle, abs=1e-2, rel=1e-6)
    assert distance == pytest.approx(great_circle_km(lat2, lon2, lat1, lon1), abs=1e-9)


# --- quadrature and harmonics ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "exact_to"),
    [
        (Grid.gaussian(8), 15),
        (Grid.equiangular(9), 8),
        (Grid.equiangular(10), 9),
        (Grid.equiangular(2), 1),
        (Grid.cells(9), 8),
        (Grid.cells(8), 7),
        (Grid.regular(8, 16), 7),
        (Grid.regular(9, 18), 8),
        (Grid.regular(9, 16), 9),
    ],
    ids=lambda value: str(value),
)
def test_quadrature_is_exact_for_polynomials(grid, exact_to):
    x, weights = np.sin(np.radians(grid.latitude)), quadrature_weights(grid)
    for degree in range(exact_to + 1):
        expected = 0.0 if degree % 2 else 2 / (degree + 1)
        assert (weights * x**degree).sum() == pytest.approx(expected, abs=1e-13)


def test_quadrature_needs_a_grid_that_it_knows():
    with pytest.raises(ValueError, match="neither Gaussian nor equiangular"):
        quadrature_weights(Grid(np.array([60.0, 10.0, -75.0]), np.array([0.0, 180.0])))


def test_legendre_functions_against_scipy():
    lmax, x = 40, np.array([-1.0, -0.97, -0.3, 0.0, 1e-9, 0.5, 0.999, 1.0])
    made = normalized_legendre(lmax, x)
    theta = np.arccos(x)
    for m in (0, 1, 2, 7, 39, 40):
        for degree in range(m, lmax + 1):
            # scipy: ∫|Y|² dΩ = 1 with the Condon-Shortley phase; ours: mean of P̄² over [-1, 1] is 1.
            expected = scipy.special.sph_harm_y(degree, m, theta, 0.0).real * np.sqrt(4 * np.pi) * (-1) ** m
            np.testing.assert_allclose(made[m, degree], expected, atol=1e-10)
        assert np.all(made[m, :m] == 0)


@both_grids
@pytest.mark.parametrize(("degree", "m"), [(0, 0), (1, 0), (1, 1), (4, 3), (9, 0), (9, 9)])
def test_each_harmonic_has_one_coefficient(family, degree, m):
    grid, lmax = GRIDS[family], TRUNCATION[family]
    transform = SphericalHarmonics(grid, lmax, torch.float64)
    colatitude, longitude = np.radians(90 - grid.latitude)[:, None], np.radians(grid.longitude)
    harmonic = scipy.special.sph_harm_y(degree, m, colatitude, longitude) * np.sqrt(4 * np.pi) * (-1) ** m
    # f = c Y + its conjugate for m > 0; the coefficient kept is c.
    c = 1.0 if m == 0 else 0.6 - 0.8j
    field = (c * harmonic).real * (1 if m == 0 else 2)
    expected = torch.zeros(lmax + 1, lmax + 1, dtype=torch.complex128)
    expected[degree, m] = c
    torch.testing.assert_close(transform.analyse(torch.from_numpy(field)), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(transform.synthesise(expected), torch.from_numpy(field), atol=1e-12, rtol=0)
    power = torch.zeros(lmax + 1, dtype=torch.float64)
    power[degree] = 1.0 if m == 0 else 2.0
    torch.testing.assert_close(transform.power(torch.from_numpy(field)), power, atol=1e-12, rtol=0)


def random_coefficients(lmax: int, *batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    c = torch.randn(*batch, lmax + 1, lmax + 1, dtype=torch.complex128, generator=generator)
    c[..., 0] = c[..., 0].real.to(c.dtype)
    return c.tril()


@both_grids
def test_synthesis_and_analysis_undo_each_other(family):
    grid, lmax = GRIDS[family], TRUNCATION[family]
    transform = SphericalHarmonics(grid, lmax, torch.float64)
    coefficients = random_coefficients(lmax, 2, 3)
    field = transform.synthesise(coefficients)
    assert field.shape == (2, 3, *grid.shape)
    torch.testing.assert_close(transform.analyse(field), coefficients, atol=1e-12, rtol=0)


@both_grids
def test_power_sums_to_the_mean_square(family):
    grid, lmax = GRIDS[family], TRUNCATION[family]
    transform = SphericalHarmonics(grid, lmax, torch.float64)
    field = transform.synthesise(random_coefficients(lmax, 4))
    # The quadrature is exact for the square of a truncated field.
    weights = torch.from_numpy(quadrature_weights(grid))
    mean_square = (field.square().mean(-1) * weights).sum(-1) / 2
    torch.testing.assert_close(transform.power(field).sum(-1), mean_square, rtol=1e-12, atol=0)


def test_single_precision_and_gradients():
    transform = SphericalHarmonics(Grid.gaussian(48), 47)
    field = transform.synthesise(random_coefficients(47).to(torch.complex64)).requires_grad_()
    again = transform.synthesise(transform.analyse(field))
    assert again.dtype == torch.float32
    torch.testing.assert_close(again, field, atol=2e-3, rtol=1e-4)
    transform.power(field).sum().backward()
    assert torch.isfinite(field.grad).all()
    assert dict(transform.state_dict()) == {}


@pytest.mark.parametrize(
    ("grid", "lmax"),
    [(Grid.gaussian(8), 8), (Grid.equiangular(9), 5), (Grid.gaussian(8, 8), 4), (Grid.gaussian(8), -1)],
    ids=["gaussian", "equiangular", "few longitudes", "negative"],
)
def test_a_truncation_that_the_grid_cannot_carry_is_refused(grid, lmax):
    with pytest.raises(ValueError, match="outside"):
        SphericalHarmonics(grid, lmax)
