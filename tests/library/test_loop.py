"""A cycle as a plain loop: the numbers of the callback's, and what it refuses."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import vaevar
from tests.library.conftest import weather
from vaevar.assim.cycle.faults import IncrementLimit
from vaevar.mistakes.notices import Notice


def test_the_loop_has_the_numbers_of_predict(tiny: Any, oi: Any) -> None:
    """To the last bit, over two past states and all analyses."""
    results = vaevar.run(tiny.forecaster, {"oi": oi}, tiny.data(), "runs/predict", accelerator="cpu")
    first = tiny.forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h")))
    limit = IncrementLimit(25.0, tiny.climatology)
    steps = list(vaevar.cycle(tiny.forecaster, oi, first, tiny.times, tiny.observe, limit))
    analyses, backgrounds = results["oi"].analysis, results["oi"].background
    assert analyses.sizes["time"] == len(steps) == 5
    for step in steps:
        for written, state in ((analyses, step.analysis), (backgrounds, step.background)):
            there = vaevar.State.from_xarray(written.sel(time=step.time), tiny.store.spec)
            assert torch.equal(there.values, state.values)
        assert torch.equal(step.increment.values, step.analysis.values - step.background.values)
        assert step.diagnostics["failed"] == 0.0
    assert not torch.equal(steps[0].analysis.values, steps[0].background.values)


def test_a_method_serves_several_cycles(tiny: Any) -> None:
    """Nothing of one cycle is left in it for the next."""
    first = tiny.forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h")))
    method = vaevar.OptimalInterpolation(length_km=1500.0)

    def run() -> list[torch.Tensor]:
        steps = vaevar.cycle(tiny.forecaster, method, first, tiny.times[:3], tiny.observe)
        return [step.analysis.values for step in steps]

    assert all(torch.equal(one, other) for one, other in zip(run(), run(), strict=True))


def test_times_may_be_several_steps_apart(tiny: Any) -> None:
    first = tiny.forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h")))
    free = vaevar.FreeRun()
    every = list(vaevar.cycle(tiny.forecaster, free, first, tiny.times, tiny.observe))
    some = list(vaevar.cycle(tiny.forecaster, free, first, tiny.times[::2], tiny.observe))
    for one, other in zip(every[::2], some, strict=True):
        assert torch.equal(one.background.values, other.background.values)


def test_times_of_pandas(tiny: Any) -> None:
    first = tiny.forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h")))
    times = pd.date_range(str(tiny.first), periods=2, freq="6h")
    steps = list(vaevar.cycle(tiny.forecaster, vaevar.FreeRun(), first, times, tiny.observe))
    assert [step.time for step in steps] == list(tiny.times[:2])


def test_what_does_not_fit_is_refused(tiny: Any) -> None:
    first = tiny.forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h")))
    free, observe = vaevar.FreeRun(), tiny.observe

    def begin(start: Any = first, times: Any = tiny.times, forecaster: Any = tiny.forecaster) -> None:
        next(vaevar.cycle(forecaster, free, start, times, observe))

    with pytest.raises(vaevar.UserError, match=r"the start states end at .*, and the first analysis is at"):
        begin(times=tiny.times + np.timedelta64(6, "h"))
    with pytest.raises(vaevar.UserError, match=r"1 start states, and .*fading starts from 2, 6 h apart"):
        begin(start=first[-1])
    with pytest.raises(vaevar.UserError, match="must ascend in steps of 6 h"):
        begin(times=[tiny.times[0], tiny.times[0] + np.timedelta64(3, "h")])
    with pytest.raises(vaevar.UserError, match="is not on the hour"):
        begin(times=["2021-01-03T06:30"])
    other = vaevar.Forecaster.from_function(lambda x: x[:, -1], tiny.store.spec, vaevar.Grid.gaussian(8))
    with pytest.raises(vaevar.UserError, match="the start states are others than the forecaster's, on"):
        begin(forecaster=other)


def test_a_forecast_that_is_not_weather_ends_the_loop(tiny: Any) -> None:
    hot = vaevar.Forecaster.from_function(lambda x: x[:, -1] * 3, tiny.store.spec, tiny.store.grid)
    steps = vaevar.cycle(hot, vaevar.FreeRun(), tiny.store.state(tiny.first), tiny.times, tiny.observe)
    next(steps)
    with pytest.raises(vaevar.UserError, match=r"analysis 0 at 2021-01-03T06.* runs away"):
        next(steps)


def turning_at(step: int) -> Any:
    """A forecaster that turns its states upside down at one of its steps."""
    start, done = weather(), []

    def turning(states: torch.Tensor) -> torch.Tensor:
        done.append(states)
        return states[:, -1].flip(-2) if len(done) == step else states[:, -1].clone()

    return vaevar.Forecaster.from_function(turning, start.spec, start.grid)


def test_every_background_is_looked_at() -> None:
    """Not only the first; it is said once, and counted in the diagnostics."""
    times = np.datetime64("2021-01-01T00") + np.timedelta64(6, "h") * np.arange(5)
    nothing = vaevar.Observations.concatenate([])
    said = r"the background: at 300 hPa v blows against .* \(analysis 2 at 2021-01-01T12"
    with pytest.warns(Notice, match=said) as told:
        steps = list(vaevar.cycle(turning_at(2), vaevar.FreeRun(), weather(), times, lambda time: nothing))
    assert sum(warning.category is Notice for warning in told) == 1
    assert [step.diagnostics.get("implausible_background", 0.0) for step in steps] == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda now: None, "step returned None, expected a tensor"),
        (lambda now: now.numpy(), "step returned a ndarray"),
        (lambda now: now[:, :2], "step returned a Tensor"),
        (lambda now: now * torch.nan, "t2m is NaN at 512 of 512 points"),
        (lambda now: now.nothing, "failed with AttributeError.*once that is mended, begin the loop anew"),
    ],
)
def test_a_forecaster_that_fails_is_named(tiny: Any, returned: Any, said: str) -> None:
    def failing(states: torch.Tensor) -> Any:
        return returned(states[:, -1])

    own = vaevar.Forecaster.from_function(failing, tiny.store.spec, tiny.store.grid)
    steps = vaevar.cycle(own, vaevar.FreeRun(), tiny.store.state(tiny.first), tiny.times, tiny.observe)
    next(steps)
    with pytest.raises(vaevar.UserError, match=rf"analysis 0 at 2021.*failing.*{said}"):
        next(steps)


def test_start_states_of_other_steps_are_refused(tiny: Any) -> None:
    """A forecast of steps of 12 h for a forecaster of 6 h; more states than it starts from."""
    times = tiny.first - np.timedelta64(12, "h") * np.array([1, 0])
    states = torch.from_numpy(tiny.store.read(times))
    far_apart = vaevar.Trajectory(states, tiny.store.spec, tiny.store.grid, times)
    for start, says in (
        (far_apart, "the start states are of .* starts from states 6 h apart"),
        ([far_apart[0]] * 3, "3 start states, and .*fading starts from 2, 6 h apart"),
        (tiny.store, "starts from States, oldest first, not from a WeatherStore"),
    ):
        with pytest.raises(vaevar.UserError, match=says):
            next(vaevar.cycle(tiny.forecaster, vaevar.FreeRun(), start, tiny.times, tiny.observe))


def test_gross_observations_of_a_cycle_are_told(tiny: Any, oi: Any) -> None:
    """A column in other units: heights for geopotential, where both are possible."""

    def observe(time: Any) -> Any:
        table = tiny.observe(time).to_dataframe()
        low = (table.variable == "z") & (table.pressure == 850)
        return vaevar.Observations.from_dataframe(
            table.assign(value=table.value.where(~low, table.value / 9.80665))
        )

    start = tiny.forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h")))
    said = (
        r"some of z are farther than 6 .* \(20 of 40, such as 1[0-9.]+ where the background is 1[0-9.e+]+ m"
    )
    with pytest.warns(Notice, match=said):
        next(vaevar.cycle(tiny.forecaster, oi, start, tiny.times, observe))


def test_times_within_a_window_follow_each_other(tiny: Any) -> None:
    """Windows may lie apart, their times not; only whole windows are analysed."""

    class Three(vaevar.FreeRun):
        window = 3

        def analyse_window(self, start: Any, observations: Any, forecaster: Any, context: Any) -> Any:
            states = forecaster.forecast(
                [vaevar.State(v, forecaster.spec, forecaster.grid) for v in start], 12
            )
            return [vaevar.Analysis(states[number], {}, states[number]) for number in (-3, -2, -1)]

    first = tiny.forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h")))
    step, free = np.timedelta64(6, "h"), vaevar.FreeRun()

    def run(method: Any, numbers: list[int]) -> list[Any]:
        times = [tiny.first + number * step for number in numbers]
        return list(vaevar.cycle(tiny.forecaster, method, first, times, tiny.observe))

    every = run(free, list(range(8)))
    for found in run(Three(), [0, 1, 2, 5, 6, 7]):
        (same,) = [one for one in every if one.time == found.time]
        assert torch.equal(found.background.values, same.background.values)
    with pytest.raises(
        vaevar.UserError, match="more than 6 h apart within a window of Three: give all of them"
    ):
        run(Three(), [0, 1, 3, 4, 5, 6])
    with pytest.raises(
        vaevar.UserError, match="4 times, and Three has a new window every 3 times: give whole ones"
    ):
        run(Three(), [0, 1, 2, 3])


def test_each_cycle_and_each_analysis_tells_again() -> None:
    """In one process, and pointing at the line that asked."""
    times = np.datetime64("2021-01-01T00") + np.timedelta64(6, "h") * np.arange(3)
    nothing, free = vaevar.Observations.concatenate([]), vaevar.FreeRun()
    start = weather()
    wrong = vaevar.State(start.values.flip(-2), start.spec, start.grid)
    same = vaevar.Forecaster.from_function(lambda x: x[:, -1], start.spec, start.grid)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for number in (1, 2):
            for _ in vaevar.cycle(same, free, wrong, times, lambda time: nothing):
                pass
            assert len(told) == number
        for number in (3, 4):
            free(wrong, nothing)
            assert len(told) == number
    assert all("blows against" in str(warning.message) for warning in told)
    assert {Path(warning.filename).name for warning in told} == {Path(__file__).name}
