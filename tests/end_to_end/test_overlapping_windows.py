"""Windows that overlap: several chains of windows in one arm, each with every observation once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vaevar
from tests.end_to_end.test_windows import ANALYSES, Run, geopotential, killed, same, states, table
from tests.end_to_end.test_windows import forecaster as forecaster  # the fixtures
from tests.end_to_end.test_windows import method as method
from tests.end_to_end.test_windows import run as run
from tests.library.conftest import tiny as tiny
from tests.library.conftest import world as world
from vaevar.assim.context import STANDALONE
from vaevar.assim.cycle.restart import LATEST, analyses_made
from vaevar.assim.window.fourdvar import FourDVar
from vaevar.content.tensors import read_tensors
from vaevar.data.analysis_times import AnalysisTimes

Make = Callable[..., FourDVar]
ARMS = ("sliding", "every_2")


def overlapping(method: Make) -> dict[str, vaevar.Assimilator]:
    return {"sliding": method(4, every=1), "every_2": method(4, every=2, model_error_scale=0.3)}


def test_the_chains_of_an_arm_are_those_of_arms_of_their_own(run: Run, method: Make) -> None:
    """The chain that ends at the fourth time is the arm without overlap, the first analysis 3DVar's."""
    arms = overlapping(method) | {
        "four": method(4), "pair": method(2, model_error_scale=0.3), "single": method(1),
        "four_eta": method(4, model_error_scale=0.3),
    }  # fmt: skip
    run("whole", arms)
    found = {arm: geopotential("whole", arm, "analysis") for arm in arms}
    for last in (3, 7):
        assert np.array_equal(found["sliding"][last], found["four"][last])
        assert np.array_equal(found["every_2"][last - 1 : last + 1], found["four_eta"][last - 1 : last + 1])
    assert np.array_equal(found["sliding"][0], found["single"][0])
    assert np.array_equal(found["every_2"][:2], found["pair"][:2])
    # Every time is a last time of the sliding windows: their analyses have seen no later observation.
    scores = table("whole")
    sliding, every_2 = (scores[scores["arm"] == arm] for arm in ARMS)
    assert set(sliding["position"]) == {0}
    assert set(sliding["window"]) == {1}
    assert set(every_2["position"]) == {0, 1}
    assert set(every_2["window"]) == {2}
    starts = table("whole/sliding", "forecasts.csv")["time"].unique()
    assert len(starts) == ANALYSES / 2  # as of every arm


class Recorded(FourDVar):
    """Which times each window begins and ends with, and what its first background was."""

    def analyse_window(
        self,
        start: Tensor,
        observations: Sequence[vaevar.Observations],
        forecaster: vaevar.Forecaster,
        context: vaevar.AnalysisContext = STANDALONE,
    ) -> list[vaevar.Analysis]:
        analyses = super().analyse_window(start, observations, forecaster, context)
        made = getattr(self, "made", {})
        made[context.index] = [*made.get(context.index, []), (len(observations), start, analyses)]
        self.made = made
        return analyses


@pytest.mark.parametrize(("window", "every"), [(4, 1), (4, 2), (2, 1), (3, 3)])
def test_no_window_sees_an_observation_that_its_background_has_seen(
    method: Make, tiny: Any, forecaster: vaevar.Forecaster, window: int, every: int
) -> None:
    plain = method(window)
    own = Recorded(plain.control, window, 2.0, iterations=2, every=every)
    first = forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h")))
    count = 3 * window
    times = tiny.first + np.timedelta64(6, "h") * np.arange(count)
    steps = list(vaevar.cycle(forecaster, own, first, times, tiny.observe))
    windows = [(begin, *made) for begin, those in own.made.items() for made in those]
    assert len(windows) == count // every
    followed = set()
    for begin, length, start, _ in windows:
        if begin == 0:
            assert torch.equal(start, windows[0][2])
            continue
        assert length == window
        # It goes on from the last states of the one window that ended just before it.
        (before,) = ((made, number) for number, (b, n, _, made) in enumerate(windows) if b + n == begin)
        analyses, number = before
        followed.add(number)
        assert torch.equal(start[-2], analyses[-1].state.values)
        last = [analysis.state.values for analysis in analyses[-2:]]
        if len(last) == 2:
            assert torch.equal(start[-1], forecaster.step(torch.stack(last)[None])[0])
    assert len(followed) == len(windows) - window // every
    # A background is the forecast from the last analyses, not that of the window, which is older.
    for step in steps[every::every]:
        assert np.abs(step.increment["z500"]).max() > 0
        ended = next(made for b, n, _, made in windows if b + n == step.index)
        if len(ended) > 1:
            states = torch.stack([analysis.state.values for analysis in ended[-2:]])
            assert torch.equal(step.background.values, forecaster.step(states[None])[0])


@pytest.mark.slow
@pytest.mark.parametrize("analysis", [4, 7])
def test_killed_and_grown_cycles_have_the_same_numbers(
    run: Run, method: Make, analysis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("whole", overlapping(method))
    killed(lambda: run("again", overlapping(method)), monkeypatch, analysis)
    assert analyses_made(Path("runs/again/sliding")) in (analysis - 1, analysis)
    run("again", overlapping(method))
    same("again", "whole", ARMS)
    run("grown", overlapping(method), analyses=analysis - analysis % 2)
    run("grown", overlapping(method))
    same("grown", "whole", ARMS)


def test_the_loop_has_the_numbers_of_predict(
    run: Run, tiny: Any, forecaster: vaevar.Forecaster, method: Make
) -> None:
    run("whole", overlapping(method), accelerator="cpu")  # where the loop is
    first = forecaster.forecast(tiny.store, 12, str(tiny.first - np.timedelta64(12, "h")))
    times = tiny.first + np.timedelta64(6, "h") * np.arange(ANALYSES)
    asked: list[np.datetime64] = []

    def observe(time: np.datetime64) -> vaevar.Observations:
        asked.append(time)
        return tiny.observe(time)

    for arm, own in overlapping(method).items():
        asked.clear()
        steps = list(vaevar.cycle(forecaster, own, first, times, observe))
        for kind in ("analysis", "background"):
            found = np.stack([getattr(step, kind)["z500"].to_numpy() for step in steps])
            assert np.array_equal(found, geopotential("whole", arm, kind))
        assert asked == list(times)  # once each


def test_a_restart_keeps_the_beginnings_of_the_windows_to_come(run: Run, method: Make) -> None:
    run("whole", overlapping(method))
    content = read_tensors(Path("runs/whole/sliding") / LATEST)
    assert [past["next_index"] for past in content["pasts"]] == [5, 6, 7]
    content["pasts"][1]["trajectory"][0, 0] = torch.nan
    content.pop("content_digest", None)
    torch.save(content, Path("runs/whole/sliding") / LATEST)
    with pytest.raises(vaevar.UserError, match=r"restart\.pt: damaged, its trajectory is not finite"):
        run("whole", overlapping(method), analyses=ANALYSES + 2)


def test_a_window_that_fails_keeps_the_background_of_its_last_times(
    run: Run, method: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FourDVar.analyse_window

    def fails(self: FourDVar, start: Tensor, observations: Any, model: Any, context: Any) -> Any:
        if context.index == 2:
            raise FloatingPointError("too far off")
        return real(self, start, observations, model, context)

    monkeypatch.setattr(FourDVar, "analyse_window", fails)
    run("failing", {"sliding": method(4, every=1)})
    failed = table("failing/sliding", "diagnostics.csv")["failed"]
    assert failed.tolist() == [0, 0, 0, 0, 0, 1, 0, 0]
    found, kept = (geopotential("failing", "sliding", kind) for kind in ("analysis", "background"))
    assert np.array_equal(found[5], kept[5])
    assert not np.array_equal(found[6], kept[6])
    assert states("failing", "sliding", "analysis")["time"].size == ANALYSES


@pytest.mark.parametrize("every", [0, 3, 5, 8])
def test_windows_that_do_not_divide_are_refused(method: Make, every: int) -> None:
    with pytest.raises(vaevar.UserError, match=f"every is {every}, must be null or divide the window of 4"):
        method(4, every=every)


def test_a_time_is_read_once_whatever_windows_it_lies_in(
    run: Run, method: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = AnalysisTimes.time_or_gap
    monkeypatch.setattr(
        AnalysisTimes, "time_or_gap", lambda self, index: read.append(index) or real(self, index)
    )
    run("whole", overlapping(method) | {"four": method(4)})
    assert all(read.count(index) <= 2 for index in range(ANALYSES))  # in its turn, and for windows before
