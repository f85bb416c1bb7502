"""Analyses that fail and forecasts that run away: where the bounds lie, and what is said."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from vaevar.assim.assimilator import Analysis, Assimilator
from vaevar.assim.context import STANDALONE, AnalysisContext
from vaevar.assim.cycle import faults
from vaevar.assim.cycle.faults import FAILED, ArmResult, IncrementLimit, analyse
from vaevar.assim.cycle.stopped import runaway
from vaevar.data.observations.points import Observations
from vaevar.errors import ForecasterFault, UserError
from vaevar.forecast import Forecaster
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

SPEC, GRID = StateSpec(["t2m", "msl"], ["z"], [500, 850]), Grid.gaussian(4)
LEVEL = torch.tensor([280.0, 101_000.0, 55_000.0, 15_000.0])[:, None, None]
LIMIT = IncrementLimit(5.0, np.array([2.0, 300.0, 400.0, 200.0]))


def state(**added: float) -> State:
    """The level everywhere, and one value of a channel moved by so much."""
    values = LEVEL + torch.zeros(4, *GRID.shape)
    for name, amount in added.items():
        values[SPEC.index(name), 1, 3] += amount
    return State(values, SPEC, GRID)


def analysed(result: Any, limit: IncrementLimit | None = LIMIT) -> tuple[Analysis, str]:
    class Given(Assimilator):
        def forward(
            self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
        ) -> Any:
            if isinstance(result, Exception):
                raise result
            return result

    nothing, forecaster = (
        Observations.concatenate([]),
        Forecaster.from_function(lambda x: x[:, -1], SPEC, GRID),
    )
    where, start = "arm arm at 2021-01-01T06", state().values[None]
    (found,) = analyse(where, Given(), start, [nothing], forecaster, STANDALONE, limit)
    return found.analysis, found.failure


@pytest.mark.parametrize("at_once", [1, 32, 100, 2**20])
def test_an_increment_beyond_the_limit_keeps_the_background(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many channels are looked at together."""
    monkeypatch.setattr(faults, "_VALUES_AT_ONCE", at_once)
    kept, cause = analysed(Analysis(state(msl=-1600.0, t2m=9.0), {"j_b": 1.0}))
    assert torch.equal(kept.state.values, state().values)
    assert kept.diagnostics == {FAILED: 1.0}
    assert "msl reaches 1600, 5.33 climatological stds; at most 5 are credible" in cause
    for fine in (state(t2m=10.0), state(t2m=-10.0, z850=999.0), state()):
        taken, cause = analysed(Analysis(fine, {"j_b": 1.0}))
        assert (taken.state is fine, cause) == (True, "")
        assert taken.diagnostics == {"j_b": 1.0, FAILED: 0.0}
    assert analysed(Analysis(state(msl=-1600.0), {}), limit=None)[1] == ""


@pytest.mark.parametrize(
    "error", [ValueError("no weather"), FloatingPointError("J is nan"), torch.linalg.LinAlgError("singular"),
              np.linalg.LinAlgError("singular"), ZeroDivisionError("nothing")],
)  # fmt: skip
def test_arithmetic_that_fails_keeps_the_background(error: Exception, capsys: Any) -> None:
    kept, cause = analysed(error)
    assert torch.equal(kept.state.values, state().values)
    assert kept.diagnostics == {FAILED: 1.0}
    assert cause == str(error)
    assert (
        f"arm arm at 2021-01-01T06: the analysis failed, the background is kept: {error}"
        in capsys.readouterr().out
    )


def test_other_errors_stop_the_run_and_say_where() -> None:
    with pytest.raises(UserError, match="arm arm at 2021-01-01T06: no weights"):
        analysed(UserError("no weights"))
    with pytest.raises(
        UserError, match=r"failed with KeyError: 'colour' \(test_faults\.py, line \d+\)"
    ) as caught:
        analysed(KeyError("colour"))
    raised = caught.value.__cause__
    assert raised is not None
    innermost = raised.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    assert innermost is not None
    assert f"line {innermost.tb_lineno})" in str(caught.value)


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (None, "returned NoneType"),
        (state(), "returned State"),
        (Analysis(None, {}), "returned NoneType"),  # type: ignore[arg-type]
        (
            Analysis(State(torch.full((1, 4, 8), 280.0), StateSpec(["t2m"], [], []), GRID), {}),
            "the background's",
        ),
        (Analysis(State(LEVEL + torch.zeros(4, 6, 12), SPEC, Grid.gaussian(6)), {}), "the background's"),
        (Analysis(State(state().values[None], SPEC, GRID), {}), r"returned \(1, 4, 4, 8\)"),
        (Analysis(state(), {"j_b": "small"}), "expected numbers by name"),  # type: ignore[dict-item]
        (Analysis(state(), 3.0), "expected numbers by name"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_analysis_is_refused(result: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        analysed(result)


def windowed(result: Any, step: Any = lambda x: x[:, -1]) -> tuple[ArmResult, ...]:
    """A window of two times, of a method that returns or raises something."""

    class Given(Assimilator):
        window = 2

        def forward(self, *_: Any) -> Any:
            raise NotImplementedError

        def analyse_window(self, *_: Any) -> Any:
            if isinstance(result, Exception):
                raise result
            return result

    forecaster = Forecaster.from_function(step, SPEC, GRID)
    where, observations = "arm arm at 2021-01-01T06", [Observations.concatenate([])] * 2
    return analyse(where, Given(), state().values[None], observations, forecaster, STANDALONE, LIMIT)


def pair(**added: float) -> list[Analysis]:
    return [Analysis(state(), {}, state()), Analysis(state(**added), {}, state())]


def test_a_window_fails_or_succeeds_as_a_whole() -> None:
    fine = windowed(pair(msl=900.0))
    told = [(one.position, one.window, one.failure, one.ends) for one in fine]
    assert told == [(0, 2, "", False), (1, 2, "", False)]
    assert [one.analysis.diagnostics for one in fine] == [{FAILED: 0.0}] * 2

    def warming(states: torch.Tensor) -> torch.Tensor:
        return states[:, -1] + torch.tensor([1.0, 0.0, 0.0, 0.0])[:, None, None]

    for failure in (pair(msl=1600.0), FloatingPointError("J is nan"), ValueError("no weather")):
        kept = windowed(failure, warming)
        assert [(one.position, one.window, one.ends) for one in kept] == [(0, 2, False), (1, 2, False)]
        assert kept[0].failure == kept[1].failure != ""
        assert torch.equal(kept[0].analysis.state.values, state().values)
        assert torch.equal(kept[1].analysis.state.values, warming(state().values[None, None])[0])
        assert all(one.background is one.analysis.state for one in kept)
        assert all(one.analysis.diagnostics == {FAILED: 1.0} for one in kept)


@pytest.mark.parametrize(
    ("result", "step", "says"),
    [
        (ForecasterFault("the gradient is lost"), lambda x: x[:, -1], "the gradient is lost"),
        (
            ValueError("no weather"),
            lambda x: x[:, -1] * torch.nan,
            "through the window, of .*not finite",
        ),
        (ValueError("no weather"), lambda x: x[:, -1] * 9, "through the window, of .*runs away"),
        (ValueError("no weather"), lambda x: x[:, -1, :2], r"step returned a Tensor \(1, 2, 4, 8\)"),
    ],
)
def test_a_forecaster_that_fails_within_a_window_ends_the_arm(
    result: Exception, step: Any, says: str, capsys: Any
) -> None:
    (ended,) = windowed(result, step)
    assert re.search(says, ended.failure)
    assert (ended.ends, ended.position, ended.window) == (True, 0, 2)
    assert torch.equal(ended.analysis.state.values, state().values)
    assert "kept" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (None, "returned NoneType analyses, expected one for each of 2 times"),
        (pair()[:1], "returned 1 analyses, expected one for each of 2 times"),
        ([*pair(), *pair()], "returned 4 analyses"),
        ([Analysis(state(), {}), *pair()[:1]], "returned an analysis of a window without its background"),
        ([state(), state()], "returned State, expected an Analysis"),
    ],
)
def test_what_is_no_analysis_of_a_window_is_refused(result: Any, says: str) -> None:
    with pytest.raises(UserError, match=f"arm arm at 2021-01-01T06: Given {says}"):
        windowed(result)


def test_a_forecast_runs_away_beyond_its_range_by_the_width_of_it() -> None:
    """At a point within the plausible range and its width to either side; in the mean within the range."""

    def said(**added: float) -> str:
        values = LEVEL + torch.zeros(4, *GRID.shape)
        for name, amount in added.items():
            values[SPEC.index(name), 2, 5] += amount
        return runaway(values, SPEC, GRID)

    text = said(t2m=5000.0)
    assert text.startswith("t2m runs away: from 280 to 5280")
    low, high = (float(word) for word in text.rpartition("plausible are ")[2].split(" to "))
    assert 100 < low < 280 < high < 400
    width = high - low
    for fine in (high + width - 281.0, low - width - 279.0):
        assert said(t2m=fine, msl=-20_000.0) == ""
    for wrong in (high + width - 279.0, low - width - 281.0):
        assert said(t2m=wrong).startswith("t2m runs away: from")
    assert said(t2m=float("nan")).startswith("t2m is NaN at 1 of ")
    assert said(msl=float("inf")).startswith("msl is inf at 1 of ")
    everywhere = LEVEL + torch.zeros(4, *GRID.shape)
    for mean in (high + 1, low - 1):
        everywhere[0] = mean
        assert runaway(everywhere, SPEC, GRID).startswith("t2m runs away")
    upside_down = LEVEL[[0, 1, 3, 2]] + torch.zeros(4, *GRID.shape)
    assert runaway(upside_down, SPEC, GRID) != ""
