"""Linear and optimal interpolation of innovations: at hand values, across the date line, near the poles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from vaevar.assim.interpolation.linear import LinearInterpolation, taper
from vaevar.assim.interpolation.optimal import (
    OptimalInterpolation,
    background_error_std,
    fit_lengths_km,
    solve,
)
from vaevar.assim.interpolation.places import Places, group_by_places
from vaevar.constants import EARTH_RADIUS_KM
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.points import Observations
from vaevar.data.observations.simulate import simulate
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.sphere.interpolation import great_circle_km, grid_vectors, unit_vectors
from vaevar.sphere.triangulation import barycentric
from vaevar.state import State, StateSpec

SPEC = StateSpec(["t2m", "msl"], ["z", "u"], [500, 850])
GRID = Grid.equiangular(19)  # 10 degrees
LEVEL = torch.tensor([280.0, 101_000.0, 55_000.0, 15_000.0, 7.0, 3.0])[:, None, None]
TIME = np.datetime64("2021-01-01T00", "h")


def state(added: torch.Tensor | float = 0.0) -> State:
    return State((LEVEL + torch.zeros(len(SPEC), *GRID.shape) + added).double(), SPEC, GRID)


def t2m(latitude: list[float], longitude: list[float], value: list[float], std: float = 1e-3) -> Observations:
    count = len(value)
    return Observations(
        variable=np.array(["t2m"] * count), latitude=np.array(latitude), longitude=np.array(longitude),
        pressure=np.full(count, np.nan), value=np.array(value), error_std=np.full(count, std),
    )  # fmt: skip


def at(field: State, latitude: float, longitude: float, channel: str = "t2m") -> float:
    row = int(np.argmin(np.abs(GRID.latitude - latitude)))
    column = int(np.argmin(np.abs(GRID.longitude - longitude % 360)))
    return float(field.channel(channel)[row, column])


def test_barycentric_coordinates_rebuild_every_target() -> None:
    random = np.random.default_rng(0)
    points = random.normal(size=(60, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    targets = grid_vectors(GRID)
    corner, weight = barycentric(points, targets)
    np.testing.assert_allclose(weight.sum(1), 1.0)
    assert (weight >= 0).all()
    rebuilt = np.einsum("mi,mix->mx", weight, points[corner])
    rebuilt /= np.linalg.norm(rebuilt, axis=1, keepdims=True)
    np.testing.assert_allclose(rebuilt, targets, atol=1e-9)


def test_half_a_sphere_is_left_uncovered() -> None:
    random = np.random.default_rng(0)
    points = random.normal(size=(60, 3))
    points[:, 2] = np.abs(points[:, 2])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    _, weight = barycentric(points, unit_vectors(np.array([-60.0, 60.0]), np.array([10.0, 10.0])))
    np.testing.assert_allclose(weight.sum(1), [0.0, 1.0])
    assert not barycentric(points[:3], points)[1].any()


@pytest.mark.parametrize("squeeze", [1.0, 1e-3], ids=["spread", "near a great circle"])
@pytest.mark.parametrize("count", [4, 5, 8, 40])
def test_the_face_is_that_of_all_faces(count: int, squeeze: float) -> None:
    random = np.random.default_rng(count)
    points, targets = random.normal(size=(count, 3)) * [1, 1, squeeze], random.normal(size=(500, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    corner, weight = barycentric(points, targets)
    field = random.normal(size=count)
    hull = ConvexHull(points)
    triangles = hull.simplices[hull.equations[:, 3] < -1e-12]
    coordinates = np.einsum("mi,fij->mfj", targets, np.linalg.inv(points[triangles]))
    face, rows = coordinates.min(-1).argmax(1), np.arange(500)
    expected = coordinates[rows, face] * (coordinates[rows, face].min(1) > 0)[:, None]
    expected /= np.maximum(expected.sum(1, keepdims=True), 1e-300)
    of_expected = (field[triangles[face]] * expected).sum(1)
    np.testing.assert_allclose((field[corner] * weight).sum(1), of_expected, atol=1e-9)


def test_linear_is_exact_at_observations_and_ends_at_the_range() -> None:
    observed = t2m([40.0, -20.0, 0.0], [50.0, 180.0, 300.0], [283.0, 278.0, 281.0])
    whole = LinearInterpolation(range_km=1500.0)(state(), observed)
    assert 0 < whole.diagnostics["seconds"] < 60
    analysis = whole.state
    for latitude, longitude, value in ((40, 50, 283.0), (-20, 180, 278.0), (0, 300, 281.0)):
        assert at(analysis, latitude, longitude) == pytest.approx(value)
    increment = (analysis.values - state().values)[0].numpy()
    latitude, longitude = np.meshgrid(GRID.latitude, GRID.longitude, indexing="ij")
    far = np.min([great_circle_km(a, b, latitude, longitude)
                  for a, b in zip(observed.latitude, observed.longitude, strict=True)], axis=0)  # fmt: skip
    assert (increment[far >= 1500.0] == 0).all()
    assert (increment[far < 1200.0] != 0).all()
    assert (analysis.values[1:] == state().values[1:]).all()


def test_linear_crosses_the_date_line_and_reaches_a_pole() -> None:
    # The edge between two triangles runs along the equator: its middle is the mean of its ends.
    observed = t2m([0.0, 0.0, 20.0, -20.0], [350.0, 10.0, 0.0, 0.0], [284.0, 280.0, 290.0, 290.0])
    analysis = LinearInterpolation(range_km=4000.0)(state(), observed).state
    assert at(analysis, 0, 0) == pytest.approx(282.0)
    ring = t2m([80.0] * 3, [0.0, 120.0, 240.0], [280.0, 283.0, 286.0])
    assert at(LinearInterpolation(range_km=4000.0)(state(), ring).state, 90, 0) == pytest.approx(283.0)


def test_equal_places_are_one_group_and_repeats_are_averaged_by_precision() -> None:
    truth = state()
    errors = ObservationErrors().with_climatology(SPEC, np.ones(len(SPEC)))
    observed = simulate(truth, ColumnNetwork(30), errors, TIME, 0)
    (group,) = group_by_places(truth, observed)
    assert group.innovation.shape == (len(SPEC), 30)
    first = observed.variable == "u"
    only = group.innovation[4][np.lexsort((observed.longitude[:: len(SPEC)],))]
    assert only.size == 30
    assert first.sum() == 60
    twice = t2m([0.0, 0.0], [0.0, 360.0], [281.0, 284.0])
    twice = Observations(**{**vars(twice), "error_std": np.array([1.0, 2.0])})
    (group,) = group_by_places(truth, twice)
    assert group.innovation.item() == pytest.approx((1 * 1.0 + 0.25 * 4.0) / 1.25)
    assert group.error_std.item() == pytest.approx((1 / 1.25) ** 0.5)
    assert group.value.item() == pytest.approx((1 * 281.0 + 0.25 * 284.0) / 1.25)


@pytest.mark.parametrize("kind", ["soar", "gaussian"])
def test_optimal_interpolation_is_the_closed_form(kind: str) -> None:
    latitude, longitude = np.array([10.0, 20.0, -40.0]), np.array([355.0, 5.0, 100.0])
    observed = t2m(list(latitude), list(longitude), [283.0, 278.0, 284.0], std=1.0)
    arm = OptimalInterpolation(length_km=900.0, correlation=kind)  # type: ignore[arg-type]
    analysis = arm(state(), observed)
    # The same by hand, as the sum of a covariance matrix and R.
    operator_free = state().values[0]
    columns = np.array([operator_free.mean()] * 3)
    d = observed.value - columns
    variance = (d**2 - 1.0).mean()

    def c(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        arc = great_circle_km(a[:, 0, None], a[:, 1, None], b[None, :, 0], b[None, :, 1])
        r = 2 * EARTH_RADIUS_KM * np.sin(arc / EARTH_RADIUS_KM / 2) / 900.0
        return (1 + r) * np.exp(-r) if kind == "soar" else np.exp(-(r**2) / 2)

    o = np.stack([latitude, longitude], 1)
    g = np.stack([a.ravel() for a in np.meshgrid(GRID.latitude, GRID.longitude, indexing="ij")], 1)
    expected = variance * c(g, o) @ np.linalg.solve(variance * c(o, o) + np.eye(3), d)
    increment = (analysis.state.values - state().values)[0].numpy().ravel()
    np.testing.assert_allclose(increment, expected, atol=1e-9)
    assert analysis.diagnostics["length_km"] == 900.0
    assert 0 < analysis.diagnostics["seconds"] < 60


def test_optimal_interpolation_without_error_meets_the_observations() -> None:
    observed = t2m([40.0, -20.0, 0.0], [50.0, 180.0, 300.0], [283.0, 278.0, 281.0], std=1e-4)
    analysis = OptimalInterpolation(length_km={"t2m": 500.0, "msl": 1.0, "z": 1.0, "u": 1.0})(
        state(), observed
    ).state
    assert at(analysis, 40, 50) == pytest.approx(283.0, abs=1e-4)
    assert at(analysis, -20, 180) == pytest.approx(278.0, abs=1e-4)


def test_both_improve_on_a_smooth_background_error_and_the_length_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    harmonics = SphericalHarmonics(GRID, 9, torch.float64)
    noise = torch.randn(len(SPEC), 10, 10, 2, dtype=torch.float64, generator=generator)
    wave = torch.tril(torch.view_as_complex(noise))
    size = torch.tensor([3.0, 300.0, 300.0, 300.0, 4.0, 4.0])[:, None, None] / 8
    truth = state(size * harmonics.synthesise(wave))
    errors = ObservationErrors().with_climatology(SPEC, np.ones(len(SPEC)))
    observed = simulate(truth, ColumnNetwork(300), errors, TIME, 0)
    before = (state().values - truth.values).square().mean((1, 2))
    arms = (LinearInterpolation(), OptimalInterpolation(1000.0), OptimalInterpolation(None))
    for arm in arms:
        after = (arm(state(), observed).state.values - truth.values).square().mean((1, 2))
        assert (after / before).max() < 0.5, arm
    lengths = fit_lengths_km(group_by_places(state(), observed), SPEC)
    assert all(200 < length < 2500 for length in lengths.values())


def drawn(length_km: float, kind: str, seed: int, size: float = 1.0, noise: float = 0.2) -> Places:
    """Innovations of one channel whose background errors have a known correlation."""
    random = np.random.default_rng(seed)
    latitude, longitude = np.degrees(np.arcsin(random.uniform(-1, 1, 300))), random.uniform(0, 360, 300)
    points = unit_vectors(latitude, longitude)
    r = EARTH_RADIUS_KM * np.linalg.norm(points[:, None] - points[None], axis=-1) / length_km
    correlations = (1 + r) * np.exp(-r) if kind == "soar" else np.exp(-(r**2) / 2)
    covariance = size**2 * (correlations + 1e-9 * np.eye(300))
    d = np.linalg.cholesky(covariance) @ random.normal(size=300) + noise * random.normal(size=300)
    return Places(latitude, longitude, np.array([0]), d[None], np.full((1, 300), noise), 280.0 + d[None])


@pytest.mark.parametrize(("length", "kind"), [(350.0, "soar"), (900.0, "soar"), (1500.0, "gaussian")])
def test_a_known_length_is_fitted(length: float, kind: str) -> None:
    """Far from the default length and from the bounds, so that neither passes for a fit."""
    analyses = [drawn(length, kind, seed, size=3.0) for seed in range(8)]
    found = fit_lengths_km(analyses, SPEC, kind)["t2m"]  # type: ignore[arg-type]
    assert found == pytest.approx(length, rel=0.15)
    assert abs(found / 600.0 - 1) > 0.3
    # Which C is fitted matters, and noise that is left in would shorten L.
    other = "gaussian" if kind == "soar" else "soar"
    assert fit_lengths_km(analyses, SPEC, other)["t2m"] != pytest.approx(found, rel=0.05)  # type: ignore[arg-type]


def test_the_fit_is_the_least_sum_of_squares() -> None:
    """Against every length from 100 to 2500 km, over the pairs themselves and not over bins."""
    places = drawn(800.0, "soar", 3, size=2.0)
    points = unit_vectors(places.latitude, places.longitude)
    i, j = np.triu_indices(300, 1)
    r = EARTH_RADIUS_KM * np.linalg.norm(points[i] - points[j], axis=1)
    near = r < 3000.0
    variance = (places.innovation**2).mean() - 0.2**2
    product = (places.innovation[0, i] * places.innovation[0, j] / variance)[near]
    lengths = np.arange(100.0, 2500.0, 10.0)
    misfits = [np.square(product - (1 + r[near] / c) * np.exp(-r[near] / c)).sum() for c in lengths]
    best = float(lengths[int(np.argmin(misfits))])
    assert fit_lengths_km([places], SPEC)["t2m"] == pytest.approx(best, rel=0.03)


def test_too_few_pairs_leave_the_default_and_bounds_hold() -> None:
    places = drawn(800.0, "soar", 3)

    def of(count: int, **settings: object) -> float:
        some = Places(
            places.latitude[:count], places.longitude[:count], np.array([0]),
            places.innovation[:, :count], places.error_std[:, :count], places.value[:, :count],
        )  # fmt: skip
        return fit_lengths_km([some], SPEC, **settings)["t2m"]  # type: ignore[arg-type]

    assert of(4, default=123.0) == 123.0  # six pairs at most
    assert of(300, default=123.0) != 123.0
    assert fit_lengths_km([], SPEC) == dict.fromkeys(("t2m", "msl", "z", "u"), 600.0)
    assert of(300, bounds=(50.0, 100.0)) == pytest.approx(100.0, rel=1e-3)
    assert of(300, bounds=(2000.0, 3000.0)) == pytest.approx(2000.0, rel=1e-3)
    # Nine pairs are too few, ten are enough: places within 3000 km of one another, and one far away.
    latitude, longitude = np.array([0.0, 1, 2, 3, 4, 60]), np.array([0.0, 5, 10, 15, 20, 180])
    for number, fitted in ((5, True), (4, False)):
        chosen = [*range(number), 5]
        group = Places(
            latitude[chosen], longitude[chosen], np.array([0]), np.ones((1, number + 1)),
            np.full((1, number + 1), 0.1), np.ones((1, number + 1)),
        )  # fmt: skip
        assert (fit_lengths_km([group], SPEC, default=123.0)["t2m"] != 123.0) == fitted


def test_innovations_smaller_than_their_noise_leave_the_floor_of_sigma_b() -> None:
    innovation, error_std = np.array([[0.1, -0.1], [3.0, 5.0]]), np.array([[1.0, 2.0], [1.0, 1.0]])
    found = background_error_std(innovation, error_std, 0.2)
    np.testing.assert_allclose(found, [0.2 * np.sqrt(2.5), np.sqrt(17.0 - 1.0)])
    # With σ_b = floor · σ_o one observation keeps floor²/(1 + floor²) of its innovation.
    weak = OptimalInterpolation(length_km=600.0, floor=0.5)(state(), t2m([0.0], [0.0], [280.1], std=1.0))
    assert at(weak.state, 0, 0) == pytest.approx(280.0 + 0.1 * 0.25 / 1.25)


def test_the_taper_by_hand() -> None:
    distance = np.array([0.0, 500.0, 750.0, 1000.0, 1200.0])
    np.testing.assert_allclose(taper(distance, 1000.0), [1, 1, 0.5, 0, 0], atol=1e-12)


def test_more_channels_than_are_factorised_together() -> None:
    """Each channel of its own R solves its own system."""
    random = np.random.default_rng(0)
    root = random.normal(size=(6, 6))
    correlations = torch.from_numpy(root @ root.T)
    ratio = torch.from_numpy(np.repeat(random.uniform(0.1, 2.0, (19, 1)), 6, 1))
    ratio[7] = ratio[3]
    innovation = torch.from_numpy(random.normal(size=(19, 6)))
    found = solve(correlations, ratio, innovation)
    for number in range(19):
        matrix = correlations + torch.diag(ratio[number])
        torch.testing.assert_close(matrix @ found[number], innovation[number])


@pytest.mark.parametrize("arm", [LinearInterpolation(), OptimalInterpolation(), OptimalInterpolation(None)])
def test_nothing_or_one_observation_and_a_pressure_between_levels(arm: LinearInterpolation) -> None:
    assert (arm(state(), t2m([], [], [])).state.values == state().values).all()
    one = arm(state(), t2m([90.0], [77.0], [284.0])).state
    assert at(one, 90, 0) == pytest.approx(284.0, abs=0.05)
    between = Observations(
        variable=np.array(["z"]), latitude=np.zeros(1), longitude=np.zeros(1), pressure=np.array([600.0]),
        value=np.array([45_000.0]), error_std=np.ones(1),
    )  # fmt: skip
    with pytest.raises(UserError, match="z at 600 hPa"):
        arm(state(), between)


def test_settings_out_of_range_are_refused() -> None:
    for make in (
        lambda: LinearInterpolation(0.0),
        lambda: OptimalInterpolation(-1.0),
        lambda: OptimalInterpolation({"t2m": 0.0}),
        lambda: OptimalInterpolation(floor=0.0),
    ):
        with pytest.raises(UserError):
            make()
    with pytest.raises(UserError, match="msl"):
        OptimalInterpolation({"t2m": 500.0})(state(), t2m([0.0], [0.0], [281.0]))


@pytest.mark.parametrize("arm", [OptimalInterpolation(length_km=None), LinearInterpolation()])
def test_what_is_done_in_pieces_is_the_same(arm: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = ObservationErrors().with_climatology(SPEC, np.ones(len(SPEC)))
    truth = state(torch.sin(torch.arange(GRID.shape[1]) / 6))
    observations = simulate(truth, ColumnNetwork(40, seed=2), errors, TIME, 1)
    whole = arm(state(), observations)
    # A few rows of the pairs, one factor, and a few points of the grid at a time.
    for module, name, size in (("optimal", "_AT_ONCE", 97), ("linear", "_TOGETHER", 97)):
        monkeypatch.setattr(f"vaevar.assim.interpolation.{module}.{name}", size)
    pieces = arm(state(), observations)
    assert float(abs(whole.increment.values).max()) > 0.1
    torch.testing.assert_close(pieces.increment.values, whole.increment.values, rtol=1e-9, atol=1e-9)
    if "length_km" in whole.diagnostics:
        assert pieces.diagnostics["length_km"] == pytest.approx(whole.diagnostics["length_km"], rel=1e-9)
