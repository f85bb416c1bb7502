"""What is handed out belongs to whoever has it: nothing else changes with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import vaevar
from vaevar.sphere.grid import Grid


@pytest.fixture
def state(tiny: Any) -> Any:
    return tiny.store.state(tiny.first)


def changed(fields: Any) -> None:
    """As xarray's own operators do, in place."""
    fields -= 1000.0


@pytest.mark.parametrize(
    "hand_out",
    [
        lambda state: state["t2m"],
        lambda state: state["z500"],
        lambda state: state[["t2m", "msl"]],
        lambda state: state.to_xarray(),
        lambda state: (state - state)["t2m"],
    ],
)
def test_fields_of_xarray_are_copies(state: Any, hand_out: Any) -> None:
    before = state.values.clone()
    changed(hand_out(state))
    assert torch.equal(state.values, before)


def test_states_of_a_trajectory_are_copies(tiny: Any) -> None:
    forecast = tiny.forecaster.forecast(tiny.store, 12, str(tiny.first))
    before = forecast.values.clone()
    changed(forecast.to_xarray())
    changed(forecast[-1].to_xarray())
    forecast[-1].values.mul_(0.5)
    assert torch.equal(forecast.values, before)
    dataset = forecast.to_xarray()
    assert dataset["geopotential"].dims[0] == "time"
    for number, time in enumerate(forecast.times):
        there = vaevar.State.from_xarray(dataset.sel(time=time), forecast.spec)
        assert torch.equal(there.values, forecast[number].values)


def test_a_forecaster_may_use_one_buffer_for_all_forecasts(tiny: Any) -> None:
    buffer = torch.empty(1, len(tiny.store.spec), *tiny.store.grid.shape)

    def cooling(states: Tensor) -> Tensor:
        return torch.mul(states[:, -1], 0.999, out=buffer)

    own = vaevar.Forecaster.from_function(cooling, tiny.store.spec, tiny.store.grid)
    forecast = own.forecast(tiny.store.state(tiny.first), 18)
    means = [float(state["msl"].mean()) for state in forecast]
    assert means == sorted(means, reverse=True)
    assert len(set(means)) == 4


@pytest.mark.parametrize("method", [vaevar.FreeRun(), vaevar.OptimalInterpolation(length_km=1500.0)])
def test_a_cycle_goes_on_with_states_of_its_own(tiny: Any, method: Any) -> None:
    """Whoever changes those of a step changes no later number."""
    first = tiny.forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h")))

    def errors(change: bool) -> list[Tensor]:
        found = []
        for step in vaevar.cycle(tiny.forecaster, method, first, tiny.times[:3], tiny.observe):
            found.append(step.analysis.values.clone())
            if change:
                step.analysis.values.mul_(0.5)
                step.background.values.zero_()
                step.result.state.values.zero_()
        return found

    for one, other in zip(errors(False), errors(True), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["value", "error_std", "latitude", "longitude", "pressure"])
def test_observations_are_copies_that_nobody_changes(name: str) -> None:
    given: dict[str, np.ndarray] = {
        "latitude": np.array([10.0, 20.0]),
        "longitude": np.array([5.0, 6.0]),
        "pressure": np.array([500.0, 500.0]),
        "value": np.array([250.0, 260.0]),
        "error_std": np.array([1.0, 1.0]),
        "variable": np.array(["t", "t"]),
    }
    table = pd.DataFrame(given)
    several = [vaevar.Observations(**given), vaevar.Observations.from_dataframe(table)]
    several.append(several[0].select(np.array([True, True])))
    before = getattr(several[0], name).copy()
    given[name][:] = 77.0
    table[name] = 77.0
    table.loc[:, name] = 77.0
    for observations in several:
        np.testing.assert_array_equal(getattr(observations, name), before)
        with pytest.raises(ValueError, match="read-only"):
            getattr(observations, name)[0] = 7.0
    edited = several[0].to_dataframe()
    edited[name] += 1.0
    np.testing.assert_array_equal(getattr(several[0], name), before)


def test_a_buffer_of_reports_may_be_used_again() -> None:
    buffer, parts = np.zeros(1), []
    for value in (250.0, 255.0, 260.0):
        buffer[:] = value
        parts.append(
            vaevar.Observations(
                variable="t", latitude=[10.0], longitude=[5.0], pressure=500.0, value=buffer, error_std=1.0
            )
        )
    assert vaevar.Observations.concatenate(parts).value.tolist() == [250.0, 255.0, 260.0]


def test_a_grid_has_coordinates_of_its_own() -> None:
    latitude, longitude = np.linspace(90.0, -90.0, 5), np.arange(8) * 45.0
    grid = Grid(latitude, longitude)
    latitude[:] = 0.0
    assert grid == Grid.equiangular(5)
    with pytest.raises(ValueError, match="read-only"):
        grid.latitude[0] = 0.0


class Bump(vaevar.Assimilator):
    """Works on its background itself."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.by = by

    def forward(self, background: Any, observations: Any, context: Any = None) -> Any:
        if self.by == "torch":
            background.values[0] += 1.0
        elif self.by == "numpy":
            background.values.numpy()[0] += 1.0
        elif self.by == "xarray":
            background.to_xarray()["mean_sea_level_pressure"] += 1.0  # a copy
        return vaevar.Analysis(background, {})


class Window(Bump):
    """The same, of whole windows."""

    def analyse_window(self, start: Any, observations: Any, forecaster: Any, context: Any = None) -> Any:
        if self.by == "torch":
            start[-1] += 1.0
        elif self.by == "numpy":
            start.numpy()[-1] += 1.0
        return [vaevar.Analysis(vaevar.State(start[-1], forecaster.spec, forecaster.grid), {})]


@pytest.mark.parametrize("by", ["torch", "numpy", "xarray"])
@pytest.mark.parametrize("kind", [Bump, Window])
def test_a_method_leaves_its_background_alone(tiny: Any, state: Any, kind: Any, by: str) -> None:
    """Its increment would be 0, and every score of the background that of something else."""
    first = tiny.forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h")))

    def loop() -> Any:
        return list(vaevar.cycle(tiny.forecaster, kind(by), first, tiny.times[:2], tiny.observe))

    def run() -> Any:
        return vaevar.run(tiny.forecaster, {"mine": kind(by)}, tiny.data(2), "runs/mine", accelerator="cpu")

    calls = [loop, run]
    if kind is Bump:
        calls.append(lambda: Bump(by)(state, tiny.observe(tiny.first)))
    for call in calls:
        if by == "xarray":
            call()
            continue
        with pytest.raises(
            vaevar.UserError, match=f"{kind.__name__} changes the background that it is given"
        ):
            call()
