"""What every method checks before it analyses, and what an analysis says of itself."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vaevar
from tests.library.conftest import weather
from vaevar.assim.control.base import ControlTransform
from vaevar.mistakes import notices


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_told", [])


@pytest.fixture
def background(tiny: Any) -> Any:
    return tiny.store.state(tiny.first)


class Dropping(ControlTransform):
    """A D with a dropout, as a network in training has."""

    def __init__(self, spec: Any, grid: Any) -> None:
        super().__init__()
        self.spec, self.grid = spec, grid
        self.drop = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(()))

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.spec), *self.grid.shape)

    def forward(self, w: Tensor) -> Tensor:
        assert not self.scale.requires_grad
        return self.drop(w) * self.scale


def test_one_background_at_a_time(tiny: Any, oi: Any, background: Any) -> None:
    """Two would get one increment together."""
    two = vaevar.State(background.values.expand(2, -1, -1, -1), background.spec, background.grid)
    with pytest.raises(ValueError, match=r"background is \[2, 6, 16, 32\], expected one state \[C, H, W\]"):
        oi(two, tiny.observe(tiny.first))


def test_types(tiny: Any, oi: Any, background: Any) -> None:
    observed = tiny.observe(tiny.first)
    with pytest.raises(TypeError, match="background is Tensor, expected a State"):
        oi(background.values, observed)
    with pytest.raises(TypeError, match="observations are Points, expected Observations"):
        oi(background, vaevar.ColumnNetwork(count=3).points(background.spec, tiny.first))


def test_networks_are_as_they_were(tiny: Any, background: Any) -> None:
    """In training mode, with gradients; in between neither counts."""
    control = Dropping(background.spec, background.grid).train()
    method = vaevar.VariationalAssimilator(control, iterations=3)
    method.train()
    observed = tiny.observe(tiny.first)
    one, other = method(background, observed), method(background, observed)
    assert torch.equal(one.state.values, other.state.values)
    assert control.drop.training
    assert method.training
    assert control.scale.requires_grad


def test_an_analysis_that_did_not_converge_says_so(tiny: Any, background: Any) -> None:
    observed = tiny.observe(tiny.first)
    few = vaevar.VariationalAssimilator(Dropping(background.spec, background.grid), iterations=1)
    with pytest.warns(notices.Notice, match="did not converge: after 1 iterations the gradient is"):
        assert not few(background, observed).converged
    enough = vaevar.VariationalAssimilator(
        Dropping(background.spec, background.grid), iterations=60, tolerance=1e-2
    )
    assert enough(background, observed).converged


def test_times_of_observations_are_told(tiny: Any, oi: Any, background: Any) -> None:
    table = tiny.observe(tiny.first).to_dataframe()
    late = vaevar.Observations.from_dataframe(table.assign(time_offset=-2.0))
    with pytest.warns(notices.Notice, match="up to 2 h from the analysis time are taken as made"):
        oi(background, late)


def test_an_increment(tiny: Any, oi: Any, background: Any) -> None:
    analysis = oi(background, tiny.observe(tiny.first))
    assert torch.equal(analysis.increment.values, analysis.state.values - background.values)
    assert float(abs(analysis.increment["z500"]).max()) > 0
    with pytest.raises(ValueError, match="does not know its background"):
        vaevar.Analysis(background, {}).increment  # noqa: B018


def test_forecasts(tiny: Any) -> None:
    forecast = tiny.forecaster.forecast(tiny.store, 12, str(tiny.first))
    assert forecast.values.shape[0] == 2 + 2
    assert forecast.times.tolist() == (tiny.first + np.timedelta64(6, "h") * np.arange(-1, 3)).tolist()
    assert forecast.to_xarray()["geopotential"].sizes["time"] == 4
    again = tiny.forecaster.forecast([forecast[0], forecast[1]], 12)
    assert torch.equal(again.values, forecast.values)
    assert again.to_xarray().sizes["step"] == 4
    for wrong, says in (
        ((tiny.store, 12), "give the time of the last"),
        ((tiny.store, 13, str(tiny.first)), "hours is 13, must be a multiple of the step, 6 h"),
        ((forecast[0], 12), "1 start states, and .*fading starts from 2, 6 h apart, oldest first"),
    ):
        with pytest.raises(vaevar.UserError, match=says):
            tiny.forecaster.forecast(*wrong)


def test_a_forecaster_of_ones_own_says_what_it_lacks(tiny: Any) -> None:
    class Mine(vaevar.Forecaster):
        def __init__(self) -> None:
            self.history, self.spec = 1, tiny.store.spec

        def step(self, states: Tensor) -> Tensor:
            return states[:, -1]

    with pytest.raises(vaevar.UserError, match="Mine: its constructor must set step_hours, grid"):
        Mine().forecast(tiny.store, 12, str(tiny.first))


@pytest.mark.parametrize("kind", ["as it is", "upside down"])
def test_a_state_that_is_upside_down_is_told(kind: str) -> None:
    """North and south exchanged, the winds blow against their geopotential."""
    background = weather()
    if kind == "upside down":
        background = vaevar.State(background.values.flip(-2), background.spec, background.grid)
    nothing = vaevar.Observations.concatenate([])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        vaevar.FreeRun()(background, nothing)
    texts = [str(warning.message) for warning in told if "background" in str(warning.message)]
    assert len(texts) == (kind == "upside down")
    assert all("against its geopotential" in text or "upside down" in text for text in texts), texts


@pytest.mark.parametrize("wrong", ["latitude", "longitude"])
def test_labels_that_lie_are_told(wrong: str) -> None:
    """The labels are the other way round, the fields are not."""
    dataset = weather().to_xarray()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vaevar.State.from_xarray(dataset)
    lying = dataset.assign_coords({wrong: dataset[wrong].values[::-1]})
    with pytest.warns(notices.Notice, match=r"the dataset: .* blows against its geopotential"):
        vaevar.State.from_xarray(lying)


def test_a_forecast_from_a_state_that_is_upside_down_is_told() -> None:
    start = weather()
    start = vaevar.State(start.values.flip(-2), start.spec, start.grid)
    persisting = vaevar.Forecaster.from_function(lambda states: states[:, -1], start.spec, start.grid)
    with pytest.warns(notices.Notice, match=r"the state that a forecast starts from: .* against its"):
        persisting.forecast(start, 6)


def test_a_value_that_is_not_finite_is_said_with_its_place(background: Any) -> None:
    values = background.values.clone()
    values[3, 2, 5:7] = torch.nan
    with pytest.raises(ValueError, match=r"channel z850 is NaN at 2 of 512 points, the first at .*° N, "):
        vaevar.State(values, background.spec, background.grid)
    values[1, 0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"channel msl is inf at 1 of 512.*, and 1 more channels are not"):
        vaevar.State(values, background.spec, background.grid)


def test_what_is_shown_is_short(tiny: Any, oi: Any, background: Any) -> None:
    observed = tiny.observe(tiny.first)
    assert repr(observed).startswith("Observations(120: 20 msl, 20 t2m, 40 u, 40 z)")
    late = vaevar.Observations.from_dataframe(observed.to_dataframe().assign(time_offset=-2.0))
    assert repr(late).endswith("; -2 to -2 h)")
    assert repr(vaevar.Observations.concatenate([])) == "Observations(0)"
    assert repr(background) == "State(6 channels on Grid(16 × 32, Gaussian))"
    assert repr(background - background) == "Fields(6 channels on Grid(16 × 32, Gaussian))"
    two = vaevar.Fields(background.values.expand(2, -1, -1, -1), background.spec, background.grid)
    assert repr(two) == "Fields(2 × 6 channels on Grid(16 × 32, Gaussian))"
    assert len(repr(oi(background, observed))) < 400


@pytest.mark.parametrize(("name", "number"), [("step_hours", 1.5), ("step_hours", 0), ("history", 1.5)])
def test_steps_are_of_whole_hours(tiny: Any, name: str, number: float) -> None:
    def make(**counts: Any) -> Any:
        return vaevar.Forecaster.from_function(
            lambda states: states[:, -1], tiny.store.spec, tiny.store.grid, **counts
        )

    with pytest.raises(vaevar.UserError, match=f"^{name} is {number}, must be a whole number of at least 1"):
        make(**{name: number})
    mine = make()
    setattr(mine, name, number)
    with pytest.raises(vaevar.UserError, match=f"^{name} is {number}, must be a whole number of at least 1"):
        mine.forecast(tiny.store, 6, str(tiny.first))


def test_a_speed_is_not_negative() -> None:
    """But for the noise of a simulated one."""

    def speed(value: float) -> Any:
        return vaevar.Observations(
            variable="ws10", latitude=[10.0], longitude=[3.0], pressure=np.nan, value=value, error_std=1.0
        )

    assert speed(-2.0).value == -2.0
    with pytest.raises(ValueError, match="ws10 is from 0 to inf m s"):
        speed(-25.0)


def test_a_lead_is_refused_for_what_is_wrong_with_it(tiny: Any) -> None:
    with pytest.raises(
        vaevar.UserError, match=r"^data: lead_hours is 25, must be a positive multiple of the step, 6 h$"
    ):
        tiny.data(lead_hours=25)
