"""Forecasts from analyses: the numbers of each lead, and rows without numbers where there are none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from vaevar.data.analysis_times import HOUR
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec
from vaevar.verification.forecasts import Forecasts
from vaevar.verification.tables import time_text

SPEC, GRID = StateSpec(["t2m", "msl"], [], []), Grid.gaussian(4)
START = np.datetime64("2021-01-01T00", "h")
LEVEL = torch.tensor([280.0, 101_000.0])[:, None, None]


class Warming:
    """One kelvin, and one pascal, more than the last state with each step; it may end early."""

    history, step_hours, spec, grid = 2, 12, SPEC, GRID

    def __init__(self, ends_after: int = 99) -> None:
        self.ends_after = ends_after

    def step(self, states: Tensor) -> Tensor:
        self.ends_after -= 1
        if self.ends_after < 0:
            raise UserError("it runs away")
        return states[:, -1] + 1


class World:
    """Truth that warms by 1/4 K in 12 h, and is not there at some times."""

    step_hours, spec = 12, SPEC

    def __init__(self, missing: tuple[str, ...] = (), skip_missing: bool = True) -> None:
        self.times = START + self.step_hours * HOUR * np.arange(7)
        self.missing, self.skip_missing, self.start = missing, skip_missing, START
        self.periods: list[tuple[Any, Any]] = []
        self.source = SimpleNamespace(
            prepare=lambda *period: self.periods.append(period), open=lambda spec: self
        )

    def state(self, time: np.datetime64) -> State:
        if str(time) in self.missing:
            raise UserError(f"{time} is torn")
        steps = float((time - START) / (self.step_hours * HOUR))
        return State(LEVEL + steps / 4 + torch.zeros(2, *GRID.shape), SPEC, GRID)


def arms(window: int, **parts: Any) -> Any:
    return SimpleNamespace(arms={"arm": SimpleNamespace(window=window, stride=window)}, **parts)


def made(callback: Forecasts, world: World, forecaster: Warming) -> pd.DataFrame:
    """The scores of a forecast from an analysis at the start that is 2 too warm."""
    callback._truth = world  # type: ignore[assignment]
    module: Any = SimpleNamespace(forecaster=forecaster)
    states = torch.stack([world.state(START).values, world.state(START).values + 2])[None]
    return pd.concat(callback._scored(module, world, "arm", START, states), ignore_index=True)  # type: ignore[arg-type]


def test_each_lead_is_compared_with_its_own_truth() -> None:
    table = made(Forecasts(lead_hours=[36, 12]), World(), Warming())
    assert table["lead_hours"].tolist() == [12, 12, 36, 36]
    assert table["channel"].tolist() == ["t2m", "msl"] * 2
    # 2 at the start; a step adds 1 to the forecast and 1/4 to the truth.
    np.testing.assert_allclose(table["bias"], [2.75, 2.75, 4.25, 4.25], atol=0.01)
    np.testing.assert_allclose(table["rmse"], table["bias"])
    assert set(table["arm"]) == {"arm"}
    assert set(table["time"]) == {"2021-01-01T00:00:00"}


@pytest.mark.parametrize("ends_after", [0, 1, 2])
def test_a_forecast_that_ends_early_keeps_the_leads_before(
    ends_after: int, capsys: pytest.CaptureFixture[str]
) -> None:
    table = made(Forecasts(lead_hours=[12, 24, 36]), World(), Warming(ends_after))
    known = table["rmse"].notna().to_numpy().reshape(3, 2)
    assert known.tolist() == [[lead < ends_after] * 2 for lead in range(3)]
    said = capsys.readouterr().out
    assert said.count("it runs away") == 1
    assert f"before {12 * (ends_after + 1)} h" in said


def test_truth_that_is_missing_leaves_its_lead_without_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    callback, torn = Forecasts(lead_hours=[12, 24, 36]), ("2021-01-02T00",)
    table = made(callback, World(torn), Warming())
    assert table["rmse"].notna().tolist() == [True, True, False, False, True, True]
    assert "not scored at 24 h: 2021-01-02T00 is torn" in capsys.readouterr().out
    with pytest.raises(UserError, match="torn"):
        made(callback, World(torn, skip_missing=False), Warming())


def test_the_truth_is_prepared_to_the_end_of_the_longest_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[np.ndarray] = []
    monkeypatch.setattr("vaevar.verification.forecasts.holes", lambda store, times: asked.append(times) or {})
    for every, last in ((3, 6), (4, 4), (1, 6), (7, 0)):
        world = World(skip_missing=False)
        Forecasts(every, [48, 24]).before_cycle(arms(1), world)  # type: ignore[arg-type]
        assert world.periods == [(START, START + (12 * last + 48) * HOUR)]
        starts = range(0, 7, every)
        expected = sorted({12 * start + lead for start in starts for lead in (24, 48)})
        assert asked[-1].tolist() == [(START + hours * HOUR).tolist() for hours in expected]


@pytest.mark.parametrize(
    ("window", "every", "beside", "starts"),
    [
        (1, 8, [4, 8], [0, 3, 7, 8, 11, 15, 16, 19, 23]),
        (2, 8, [4, 3], [1, 3, 9, 11, 17, 19]),
        (4, 8, [8], [3, 7, 11, 15, 19, 23]),
        (1, 8, [], [0, 8, 16]),
        (1, 1, [], list(range(24))),
        (2, 1, [], list(range(1, 24, 2))),
        (2, 3, [], [1, 3, 7, 9, 13, 15, 19, 21]),  # due at 0, 3, 6, ...
        (4, 8, [], [3, 11, 19]),
        (8, 8, [], [7, 15, 23]),
        (8, 3, [], [7, 15, 23]),
        (8, 12, [], [7, 15]),
        (8, 40, [], [7]),
        (3, 5, [], [2, 5, 11, 17, 20]),
    ],
)
def test_forecasts_start_from_the_last_time_of_the_window_in_which_they_are_due(
    window: int, every: int, beside: list[int], starts: list[int], tmp_path: Path
) -> None:
    """And what is there, and what is cut off, goes by that."""
    world, callback = World(), Forecasts(every, [12, 24], beside)
    world.times = START + 12 * HOUR * np.arange(24)
    module = arms(window, directory=tmp_path)
    assert callback._starts(module, world, "arm").tolist() == world.times[starts].tolist()  # type: ignore[arg-type]
    (tmp_path / "arm").mkdir()
    rows = [
        {
            "time": time_text(world.times[start]),
            "arm": "arm",
            "lead_hours": lead,
            "channel": name,
            "rmse": 1,
            "bias": 0,
        }
        for start in starts
        for lead in (12, 24)
        for name in SPEC.names
    ]
    path = tmp_path / "arm" / "forecasts.csv"
    for done in range(len(starts) + 1):
        pd.DataFrame(rows[: 4 * done], columns=list(rows[0])).to_csv(path, index=False)
        whole = starts[done] if done < len(starts) else 24
        assert callback.kept(module, world, "arm") == whole  # type: ignore[arg-type]
    for index in range(25):
        pd.DataFrame(rows).to_csv(path, index=False)
        callback.go_on(module, world, "arm", index)  # type: ignore[arg-type]
        assert len(pd.read_csv(path)) == 4 * sum(start < index for start in starts)


@pytest.mark.parametrize(
    "wrong",
    [{"every": 0}, {"lead_hours": []}, {"lead_hours": [0]}, {"lead_hours": [24, -12]}, {"beside": [4, 0]}],
)
def test_settings_that_make_no_forecast_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="must be positive"):
        Forecasts(**wrong)
    with pytest.raises(UserError, match=r"\[18\] are not multiples of the cycle's step, 12 h"):
        Forecasts(lead_hours=[24, 18]).before_cycle(arms(1), World())  # type: ignore[arg-type]


@pytest.mark.parametrize(("done", "every", "kept"), [(1, 3, 3), (2, 3, 6), (3, 3, 7), (0, 3, 0)])
def test_what_is_there_and_what_is_cut_off(tmp_path: Path, done: int, every: int, kept: int) -> None:
    callback, world = Forecasts(every, [12, 24]), World()
    module = arms(1, directory=tmp_path, forecaster=Warming())
    with pytest.raises(UserError, match="ran earlier without Forecasts"):
        callback.kept(module, world, "arm")  # type: ignore[arg-type]
    for number in range(3):
        time = world.times[number * every]
        scored = made(callback, world, Warming()).assign(time=time_text(time))
        callback._append(module, "arm", time, [scored])
    path = tmp_path / "arm" / "forecasts.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[: 1 + 4 * done]) + "\n")
    assert callback.kept(module, world, "arm") == kept  # type: ignore[arg-type]
    # Going on from the analysis before the last forecast takes that forecast away.
    path.write_text("\n".join(rows) + "\n")
    callback.go_on(module, world, "arm", every * 2)  # type: ignore[arg-type]
    assert len(pd.read_csv(path)) == 8
    callback.go_on(module, world, "arm", every + 1)  # type: ignore[arg-type]
    assert len(pd.read_csv(path)) == 8
    callback.go_on(module, world, "arm", every)  # type: ignore[arg-type]
    assert len(pd.read_csv(path)) == 4
