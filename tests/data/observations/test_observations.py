from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.interpolation import interpolation_weights
from vaevar.data.observations.networks import NOISE, ColumnNetwork, SinglePoint, random_stream
from vaevar.data.observations.operator import representable
from vaevar.data.observations.points import Observations, Points
from vaevar.data.observations.simulate import simulate
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

SPEC = StateSpec()
SMALL = StateSpec(surface=["t2m", "u10"], upper=["t", "q"], levels=[500, 850])
NEW_YEAR = np.datetime64("2022-01-01T00", "ns")
FIXED, MOVING = (
    [[-76.37607376, -46.61742516], [164.1436592, 328.3247595]],
    [[-23.82899548, 27.32922332], [225.8051843, 50.63732954]],
)
NOISE_AT_6, NOISE_IN_1959 = (
    [1.113649629, -0.1315324599, 1.50548807],
    [0.2832404684, 0.2379927784, 0.1091856695],
)


def observations(**changes: object) -> Observations:
    given = {
        "value": np.array([280.0, 5.0]),
        "variable": np.array(["t", "u10"]),
        "latitude": np.array([10.0, -90.0]),
        "longitude": np.array([-5.0, 365.0]),
        "pressure": np.array([500.0, np.nan]),
        "error_std": np.array([1.0, 2.0]),
    }
    return Observations(**(given | changes))  # type: ignore[arg-type]


def small_state(grid: Grid) -> State:
    random = torch.Generator().manual_seed(0)
    mean = torch.tensor([280.0, 0.0, 250.0, 280.0, 1e-3, 5e-3], dtype=torch.float64)[:, None, None]
    noise = torch.randn((len(SMALL), *grid.shape), generator=random, dtype=torch.float64)
    return State(mean * (1 + 0.01 * noise) + 0.001 * noise, SMALL, grid)


def test_fields_are_broadcast_and_longitudes_wrapped() -> None:
    made = observations(time_offset=np.array(-1.5))
    assert len(made) == 2
    np.testing.assert_allclose(made.longitude, [355.0, 5.0])
    np.testing.assert_allclose(made.time_offset, [-1.5, -1.5])
    assert made.platform.tolist() == ["", ""]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variable": np.array(["t", "snow"])}, "snow"),
        ({"latitude": np.array([90.5, 0.0])}, "latitudes"),
        ({"latitude": np.array([np.nan, 0.0])}, "latitudes"),
        ({"longitude": np.array([np.inf, 0.0])}, "longitudes"),
        ({"pressure": np.array([np.nan, np.nan])}, "positive pressure"),
        ({"pressure": np.array([-500.0, np.nan])}, "positive pressure"),
        ({"pressure": np.array([500.0, 1000.0])}, "no pressure coordinate"),
        ({"value": np.array([np.nan, 1.0])}, "finite"),
        ({"error_std": np.array([0.0, 1.0])}, "positive"),
        ({"error_std": np.array([1.0, -1.0])}, "positive"),
        ({"error_std": np.array([1.0, np.inf])}, "positive"),
        ({"error_std": np.array([np.nan, 1.0])}, "positive"),
        ({"value": np.array([np.inf, 1.0])}, "finite"),
        ({"pressure": np.array([0.0, np.nan])}, "positive pressure"),
        ({"pressure": np.array([np.inf, np.nan])}, "positive pressure"),
        ({"latitude": np.array([0.0, -90.5])}, "latitudes"),
        ({"error_std": np.array([1.0, 1.0, 1.0])}, "shape"),
        ({"time_offset": np.array(np.nan)}, "time_offset"),
    ],
)
def test_wrong_observations_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        observations(**changes)


def test_points_are_given_by_name_and_are_themselves_alone() -> None:
    made, same = observations(), observations()
    assert made == made
    assert made != same
    assert len({made, same, made}) == 2
    with pytest.raises(TypeError):
        Observations(*(getattr(made, name) for name in ("variable", "latitude", "longitude", "pressure")))


def test_select_and_concatenate() -> None:
    first, second = observations(), observations(value=np.array([281.0, 6.0]))
    both = Observations.concatenate([first, second])
    assert both.value.tolist() == [280.0, 5.0, 281.0, 6.0]
    winds = both.select(both.variable == "u10")
    assert winds.value.tolist() == [5.0, 6.0]
    assert winds.variable.tolist() == ["u10", "u10"]
    assert np.isnan(winds.pressure).all()
    assert len(Observations.concatenate([])) == 0
    assert len(both.select(np.zeros(4, dtype=bool))) == 0


def test_lightning_moves_a_batch_that_holds_them() -> None:
    from lightning.fabric.utilities.apply_func import move_data_to_device

    made = observations()
    assert move_data_to_device({"observations": made}, torch.device("cpu"))["observations"] is made


def test_a_column_is_every_channel_in_order() -> None:
    points = ColumnNetwork(3, seed=1).points(SPEC, NEW_YEAR)
    assert len(points) == 3 * 69
    second = points.select(np.arange(69, 138))
    assert np.unique(second.latitude).size == np.unique(second.longitude).size == 1
    names = [
        variable if np.isnan(pressure) else f"{variable}{pressure:.0f}"
        for variable, pressure in zip(second.variable, second.pressure, strict=True)
    ]
    assert tuple(names) == SPEC.names


def test_fixed_columns_stay_and_moving_ones_are_redrawn() -> None:
    later = NEW_YEAR + np.timedelta64(6, "h")
    fixed, moving = ColumnNetwork(50, seed=7), ColumnNetwork(50, seed=7, moving=True)
    np.testing.assert_array_equal(fixed.positions(NEW_YEAR), fixed.positions(later))
    assert not np.intersect1d(moving.positions(NEW_YEAR)[0], moving.positions(later)[0]).size
    # Whatever was asked before, and by whichever object.
    expected = moving.positions(NEW_YEAR)
    np.testing.assert_array_equal(ColumnNetwork(50, 7, True).positions(NEW_YEAR), expected)
    assert not np.array_equal(ColumnNetwork(50, 8).positions(NEW_YEAR), fixed.positions(NEW_YEAR))
    assert np.isfinite(moving.positions(np.datetime64("1959-01-01T06"))).all()


def test_networks_and_noise_are_those_of_recorded_experiments() -> None:
    """Any other key of the random numbers would be another experiment of the same name."""
    later = np.datetime64("2022-01-01T06", "h")
    fixed = ColumnNetwork(2, seed=3).positions(NEW_YEAR)
    moving = ColumnNetwork(2, seed=3, moving=True).positions(later)
    np.testing.assert_allclose(fixed, FIXED, rtol=1e-9)
    np.testing.assert_allclose(moving, MOVING, rtol=1e-9)
    np.testing.assert_allclose(random_stream(NOISE, 3, later).standard_normal(3), NOISE_AT_6, rtol=1e-9)
    # Whatever the precision of the time; before 1970 too.
    same = random_stream(NOISE, 3, later.astype("datetime64[ns]")).standard_normal(3)
    np.testing.assert_allclose(same, NOISE_AT_6, rtol=1e-9)
    early = random_stream(NOISE, 3, np.datetime64("1959-01-01T00", "h")).standard_normal(3)
    np.testing.assert_allclose(early, NOISE_IN_1959, rtol=1e-9)


def test_columns_are_uniform_on_the_sphere() -> None:
    latitude, longitude = np.asarray(ColumnNetwork(20_000, seed=3).positions(NEW_YEAR))
    phi, lam = np.radians(latitude), np.radians(longitude)
    unit = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])
    # Uniform: mean 0, covariance 1/3 of the identity; four standard errors.
    assert np.abs(unit.mean(1)).max() < 4 / np.sqrt(3 * 20_000)
    np.testing.assert_allclose(np.cov(unit), np.eye(3) / 3, atol=4 * 0.3 / np.sqrt(20_000))


def test_networks_refuse_nonsense() -> None:
    for make in (
        lambda: ColumnNetwork(0),
        lambda: ColumnNetwork(5, seed=-1),
        lambda: SinglePoint("t", 0.0, 0.0),
        lambda: SinglePoint("msl", 0.0, 0.0, pressure=500),
        lambda: SinglePoint("snow", 0.0, 0.0),
        lambda: SinglePoint("t", 91.0, 0.0, pressure=500),
        lambda: ObservationErrors(wind=0.0),
        lambda: ObservationErrors(humidity_std={500: 0.0}),
    ):
        with pytest.raises(UserError):
            make()


def test_representable_and_refusal() -> None:
    points = Points(
        variable=np.array(["t", "t", "t", "z", "t2m", "msl"]),
        latitude=np.zeros(6),
        longitude=np.zeros(6),
        pressure=np.array([500.0, 499.0, 851.0, 500.0, np.nan, np.nan]),
    )
    grid = Grid.gaussian(4)
    assert representable(SMALL, points).tolist() == [True, False, False, False, True, False]
    with pytest.raises(UserError, match=r"4 of 6 observations.*t at 499 hPa.*500 to 850"):
        interpolation_weights(SMALL, grid, points)
    with pytest.raises(UserError, match="msl:"):
        interpolation_weights(SMALL, grid, points.select(np.array([5])))
    interpolation_weights(SMALL, grid, points.select(representable(SMALL, points)))


def test_errors_by_hand() -> None:
    climatology = np.ones(69)
    climatology[[SPEC.index("q500"), SPEC.index("q600")]] = 1e-3, 2e-3
    errors = ObservationErrors().with_climatology(SPEC, climatology)
    points = Points(
        variable=np.array(["u", "v10", "t", "t2m", "msl", "q", "q", "z", "z", "z"]),
        latitude=np.array(0.0),
        longitude=np.array(0.0),
        pressure=np.array(
            [500, np.nan, 850, np.nan, np.nan, 500, np.sqrt(500 * 600), 1000, 500, 100], dtype=float
        ),
    )
    std = errors.error_std(points)
    np.testing.assert_allclose(std[:7], [1, 1, 1, 1, 100, 1.5e-4, 2.25e-4])
    # Ground: 287.05 · 288.15 / 1013.25 = 81.633 m² s⁻² for 1 hPa. Thickness of a layer 0.25 deep
    # in ln p: 287.05 · 0.25 = 71.763 for 1 K; ln(1013.25/p)/0.25 = 0.05265, 2.82517 and 9.26292
    # independent layers.
    layers = np.array([0.05265, 2.82517, 9.26292])
    np.testing.assert_allclose(std[7:], np.sqrt(81.633**2 + 71.763**2 * layers), rtol=1e-4)
    # In geopotential metres: of the size that operational centres assume for radiosondes.
    np.testing.assert_allclose(std[7:] / 9.80665, [8.5, 14.8, 23.8], atol=0.1)


def test_errors_scale_with_each_of_their_settings() -> None:
    """With settings of 1 a factor or a square that is left out changes nothing."""
    errors = ObservationErrors(wind=2.0, temperature=1.5, pressure=0.7, humidity=0.3, layer_depth=0.4)
    errors = errors.with_climatology(SPEC, np.linspace(1e-4, 69e-4, 69))
    points = Points(
        variable=np.array(["u", "t2m", "msl", "q", "z", "z"]),
        latitude=np.array(0.0),
        longitude=np.array(0.0),
        pressure=np.array([500, np.nan, np.nan, 700, 1013.25, 1013.25 / np.e]),
    )
    ground = 287.05 * 288.15 * 0.7 / 1013.25
    humidity = 0.3 * 1e-4 * (SPEC.index("q700") + 1)
    # One unit of ln p holds 1 / 0.4 layers, each of 287.05 · 1.5 K · 0.4.
    aloft = np.sqrt(ground**2 + 2.5 * (287.05 * 1.5 * 0.4) ** 2)
    np.testing.assert_allclose(errors.error_std(points), [2.0, 1.5, 70.0, humidity, ground, aloft], rtol=1e-6)


def test_below_mean_sea_level_pressure_the_error_is_that_of_the_ground() -> None:
    below, ground, above = ObservationErrors().geopotential(np.array([1050.0, 1013.25, 1000.0]))
    assert below == ground < above


def test_humidity_errors_beyond_the_levels_are_those_of_the_nearest() -> None:
    errors = ObservationErrors(humidity=1.0, humidity_std={850: 2e-3, 500: 1e-3})
    points = Points(
        variable=np.array("q"), latitude=np.array(0.0), longitude=np.array(0.0),
        pressure=np.array([400.0, 500.0, 850.0, 900.0]),
    )  # fmt: skip
    np.testing.assert_allclose(errors.error_std(points), [1e-3, 1e-3, 2e-3, 2e-3])


def test_other_quantities_have_the_error_they_are_given() -> None:
    points = SinglePoint("ws10", 0.0, 0.0).points(SPEC, NEW_YEAR)
    assert ObservationErrors(others={"ws10": 1.5}).error_std(points).tolist() == [1.5]
    with pytest.raises(UserError, match=r"ws10.*others"):
        ObservationErrors().error_std(points)
    with pytest.raises(UserError, match=r"others has .* for ws10, must be positive"):
        ObservationErrors(others={"ws10": 0.0})


@pytest.mark.parametrize("name", ["wind", "temperature", "pressure", "humidity", "layer_depth"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_errors_that_are_not_positive_are_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=name):
        ObservationErrors(**{name: value})


def test_humidity_without_climatology_is_refused() -> None:
    points = SinglePoint("q", 0.0, 0.0, 500.0).points(SPEC, NEW_YEAR)
    with pytest.raises(ValueError, match="with_climatology"):
        ObservationErrors().error_std(points)
    with pytest.raises(ValueError, match="69 channels"):
        ObservationErrors().with_climatology(SPEC, np.ones(3))


def test_simulated_noise_has_the_size_that_r_says() -> None:
    grid = Grid.gaussian(16)
    truth = small_state(grid)
    errors = ObservationErrors(wind=3.0).with_climatology(SMALL, np.array([1, 1, 1, 1, 1e-3, 2e-3]))
    network = ColumnNetwork(4000, seed=1)
    made = simulate(truth, network, errors, NEW_YEAR, seed=2)
    index, weight = interpolation_weights(SMALL, grid, made)
    exact = (truth.values.flatten()[index] * weight).sum(-1).numpy()
    noise = ((made.value - exact) / made.error_std).reshape(4000, len(SMALL))
    # Standard normal, channel by channel and uncorrelated; four standard errors.
    assert np.abs(noise.mean(0)).max() < 4 / np.sqrt(4000)
    assert np.abs(noise.std(0) - 1).max() < 4 / np.sqrt(2 * 4000)
    assert np.abs(np.corrcoef(noise.T) - np.eye(len(SMALL))).max() < 4 / np.sqrt(4000)
    np.testing.assert_allclose(made.error_std[:6], [1, 3, 1, 1, 1.5e-4, 3e-4])


def test_simulation_depends_on_seed_and_time_alone() -> None:
    truth = small_state(Grid.gaussian(8))
    errors = ObservationErrors().with_climatology(SMALL, np.full(6, 1e-3))
    network, later = ColumnNetwork(5, seed=1), NEW_YEAR + np.timedelta64(6, "h")
    first = simulate(truth, network, errors, NEW_YEAR, seed=2)
    np.random.default_rng(0).standard_normal()
    simulate(truth, network, errors, later, seed=2)
    again = simulate(truth, network, errors, np.datetime64("2022-01-01"), seed=2)
    np.testing.assert_array_equal(first.value, again.value)
    for other in (
        simulate(truth, network, errors, later, seed=2),
        simulate(truth, network, errors, NEW_YEAR, seed=3),
    ):
        assert not np.isclose(first.value, other.value, rtol=0, atol=1e-9).any()
    with pytest.raises(UserError, match="seed"):
        simulate(truth, network, errors, NEW_YEAR, seed=-1)
    with pytest.raises(ValueError, match="one state"):
        simulate(State(truth.values[None], SMALL, truth.grid), network, errors, NEW_YEAR, seed=1)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(2, 9),
    columns=st.integers(1, 8).map(lambda half: 2 * half),
    levels=st.sets(st.integers(10, 1000), min_size=1, max_size=5).map(sorted),
    poles=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_interpolation_of_any_shape(
    rows: int, columns: int, levels: list[int], poles: bool, seed: int
) -> None:
    spec = StateSpec(surface=["msl"], upper=["u", "t"], levels=levels)
    grid = Grid.equiangular(rows, columns) if poles else Grid.gaussian(rows, columns)
    random = np.random.default_rng(seed)
    count = int(random.integers(0, 20))
    variable = random.choice(["msl", "u", "t"], count)
    aloft = random.uniform(levels[0], levels[-1], count)
    points = Points(
        variable=variable,
        latitude=random.uniform(-90, 90, count),
        longitude=random.uniform(-400, 400, count),
        pressure=np.where(variable == "msl", np.nan, aloft),
    )
    index, weight = interpolation_weights(spec, grid, points)
    assert index.shape == weight.shape
    assert index.shape[0] == count
    assert (index >= 0).all()
    assert (index < len(spec) * rows * columns).all()
    # Each corner belongs to the point's own variable, and the weights are an average.
    channel = (index // (rows * columns)).numpy()
    owner = np.array([entry.variable for entry in spec.channels])[channel]
    assert (owner == variable[:, None]).all()
    np.testing.assert_allclose(weight.abs().sum(-1).numpy(), 1.0)
    assert (weight[torch.from_numpy(variable != "u")] >= 0).all()
