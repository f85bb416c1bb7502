"""The response to one observation, compared with an explicit B."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vaevar.assim.assimilator import FreeRun
from vaevar.assim.control.base import ControlTransform, LinearControl
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.observations.interpolation import interpolation_weights
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.experiments.single_observation.data import Place, SingleObservation, SingleObservations
from vaevar.experiments.single_observation.figures import along_latitude, centred
from vaevar.experiments.single_observation.module import SingleObservationModule, background_variance
from vaevar.experiments.single_observation.scores import (
    Case,
    date_table,
    departure_table,
    main_table,
    make_case,
    nonlinearity,
)
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

SPEC, GRID = StateSpec([], ["z", "u", "v"], [500, 850]), Grid.gaussian(6)
PLACE = Place(21.0, 129.0)


def matrix() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    scale = torch.tensor([300.0, 200.0, 3.0, 2.0, 3.0, 2.0], dtype=torch.float64)
    rows = scale.repeat_interleave(GRID.shape[0] * GRID.shape[1])
    return rows[:, None] * torch.randn(rows.numel(), 30, dtype=torch.float64, generator=generator) / 30**0.5


def batch(departure: float, error_std: float = 100.0, shift: float = 0.0, day: int = 1) -> SingleObservation:
    means = torch.tensor([55_000.0, 15_000.0, 7.0, 3.0, 0.0, 0.0], dtype=torch.float64)
    values = (means + shift)[:, None, None] + torch.zeros(len(SPEC), *GRID.shape, dtype=torch.float64)
    place = {"variable": np.array(["z"]), "latitude": np.array([PLACE.latitude])}
    place |= {"longitude": np.array([PLACE.longitude]), "pressure": np.array([500.0])}
    value = values[0, 0, :1].numpy() + departure
    observations = Observations(**place, value=value, error_std=np.array([error_std]))
    time = np.datetime64(f"2022-01-{day:02}T00", "h")
    return SingleObservation(0, time, PLACE, departure, State(values, SPEC, GRID), observations)


def test_a_linear_arm_answers_with_a_column_of_the_covariance() -> None:
    """x_a − x_b = BHᵀ d/(HBHᵀ/λ + R)/λ, and the module reports the variance."""
    root, lambda_, case = matrix(), 2.0, batch(-700.0)
    arm = VariationalAssimilator(
        LinearControl(root, SPEC, GRID), lambda_, iterations=50, tolerance=1e-12, dtype="float64"
    )
    module = SingleObservationModule({"linear": arm, "free": FreeRun()})
    responses = module.predict_step(case, 0)

    index, weight = interpolation_weights(SPEC, GRID, case.observations)
    operator = torch.zeros(root.shape[0], dtype=torch.float64).index_put((index[0],), weight[0])
    column = root @ (root.T @ operator) / lambda_
    variance = float(operator @ column)
    wanted = column / (variance + 100.0**2) * -700.0
    response = responses["linear"]
    torch.testing.assert_close(response.increment.flatten(), wanted, rtol=1e-7, atol=1e-7)
    assert response.background_variance == pytest.approx(variance, rel=1e-10)
    assert response.at_point == pytest.approx(-700 * variance / (variance + 1e4), rel=1e-8)
    assert responses["free"].background_variance is None
    assert float(responses["free"].increment.abs().max()) == 0

    row = make_case("linear", case, response, 500, 2000.0).row
    assert row["increment"] == pytest.approx(row["optimal"], rel=1e-7)
    speed = wanted.reshape(len(SPEC), *GRID.shape)[[2, 4]].norm(dim=0).max()
    assert row["wind_max"] == pytest.approx(float(speed), rel=1e-6)
    assert np.isnan(make_case("free", case, responses["free"], 500, 2000.0).row["correlation"])


class Bent(ControlTransform):
    """z500 of one control variable: w + w²/8 at every point, in units of 100 m² s⁻²."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.grid = SPEC, GRID

    @property
    def shape(self) -> tuple[int, ...]:
        return (1,)

    def forward(self, w: Tensor) -> Tensor:
        units = torch.tensor([100.0, 0, 0, 0, 0, 0], dtype=w.dtype)[:, None, None]
        return (w + w**2 / 8) * units * torch.ones(*GRID.shape, dtype=w.dtype)


def cases(control: ControlTransform, departures: list[float], shifts: list[float]) -> list[Case]:
    arm = VariationalAssimilator(control, 1.0, iterations=50, tolerance=1e-9, dtype="float64")
    module = SingleObservationModule({"arm": arm})
    batches = [
        batch(departure, shift=shift, day=1 + day)
        for day, shift in enumerate(shifts)
        for departure in departures
    ]
    return [make_case("arm", one, module.predict_step(one, 0)["arm"], 500, 2000.0) for one in batches]


def test_nonlinearity_and_dates() -> None:
    linear = cases(LinearControl(matrix(), SPEC, GRID), [500.0, -500.0, 1000.0], [0.0, 3.0])
    table = departure_table(linear, GRID)
    assert table["departure"].tolist() == [500.0, -500.0, 1000.0]
    assert table[["nonlinearity of z", "nonlinearity of wind"]].to_numpy().max() < 1e-6
    assert table["increment / departure"].std() < 1e-7
    dates = date_table(linear)
    assert dates["depends on the background"].tolist() == ["no"]
    assert len(main_table(linear)) == 1

    bent = cases(Bent(), [50.0, -50.0], [0.0])
    ratio = bent[1].row["increment"] / -50 / (bent[0].row["increment"] / 50)
    table = departure_table(bent, GRID)
    assert table["nonlinearity of z"].tolist() == pytest.approx([0, abs(ratio - 1)])
    assert abs(ratio - 1) > 0.02
    assert date_table(bent)["depends on the background"][0] == "–"  # with one date nobody knows
    # Small departures see the slope at zero.
    case = batch(1.0)
    bent_arm = VariationalAssimilator(Bent())
    assert background_variance(bent_arm, case.background, case.observations) == pytest.approx(1e4)


def test_nonlinearity_by_hand() -> None:
    ones = np.ones(GRID.shape)
    assert nonlinearity([(3 * ones, ones)], 2.0, 1.0, GRID) == pytest.approx(0.5)
    assert np.isnan(nonlinearity([(ones, 0 * ones)], 1.0, 1.0, GRID))


def test_slices_through_the_observation() -> None:
    field = np.broadcast_to(GRID.latitude[:, None], GRID.shape)
    for latitude in (21.0, -45.0, float(GRID.latitude[2])):
        np.testing.assert_allclose(along_latitude(field, GRID, latitude), latitude)
    np.testing.assert_allclose(along_latitude(field, GRID, 90.0), GRID.latitude[0])
    order, longitude = centred(GRID.longitude, 350.0)
    assert np.all(np.diff(longitude) > 0)
    assert 170 <= longitude.min() <= longitude.max() < 530
    np.testing.assert_allclose(GRID.longitude[order], longitude % 360)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dates": []}, "dates"),
        ({"dates": ["yesterday"]}, "yesterday"),
        ({"departures": [500.0, 0.0]}, "departures"),
        ({"departures": [500.0, 500.0]}, "repeats"),
        ({"error_std": 0.0}, "error_std"),
        ({"variable": "w"}, "unknown variable .w."),
        ({"variable": "q"}, "no q500"),
        ({"pressure": 100.0}, "no z100"),
        ({"pressure": None}, "pressure"),
        ({"places": [Place(91.0, 0.0)]}, "latitudes"),
    ],
)
def test_mistakes_in_the_data_section(change: dict, said: str) -> None:
    given = {"source": None, "dates": ["2022-01-05T00"], "places": [PLACE], "departures": [500.0]}
    given |= {"error_std": 100.0, "spec": SPEC} | change
    with pytest.raises(UserError, match=said):
        SingleObservations(**given)


def test_labels_of_places() -> None:
    labels = [Place(21, 129).label, Place(-45, 270).label, Place(0, 0).label]
    assert labels == ["21N129E", "45S90W", "0N0E"]
