"""Scores and summary against hand-computed values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from vaevar.assim.assimilator import Analysis
from vaevar.assim.cycle.faults import ArmResult
from vaevar.assim.cycle.stopped import Stop
from vaevar.data.analysis_times import AnalysisTime
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec
from vaevar.verification import closing
from vaevar.verification.metrics import RootMeanSquare, bias, rmse
from vaevar.verification.scores import SCORE_COLUMNS, Scores, score_rows, summarise
from vaevar.verification.tables import append_rows, to_markdown

SPEC = StateSpec(surface=("t2m", "msl"), upper=(), levels=())
GRID = Grid.equiangular(3, 4)
MEANS = torch.tensor([280.0, 101_000.0])[:, None, None]


def truth() -> State:
    return State(MEANS.expand(2, 3, 4).clone(), SPEC, GRID)


def analysis_time(index: int) -> AnalysisTime:
    time = np.datetime64("2022-01-01T00") + np.timedelta64(6 * index, "h")
    return AnalysisTime(index, time, truth(), Observations.concatenate([]))


def shifted(offset: float) -> State:
    return replace(truth(), values=truth().values + offset)


def test_area_weights_by_hand() -> None:
    # Bands of a 3-row grid: sin 90 − sin 45, 2 sin 45, sin 45 … so the middle row weighs √2 / 2.
    error = torch.zeros(1, 3, 4)
    error[:, 1] = 2.0
    share = np.sqrt(0.5)
    np.testing.assert_allclose(rmse(error, GRID), [np.sqrt(4 * share)], rtol=1e-12)
    np.testing.assert_allclose(bias(error, GRID), [2 * share], rtol=1e-12)


def test_root_is_taken_after_the_mean_over_time() -> None:
    metric = RootMeanSquare(1, GRID)
    for error in (1.0, 3.0):
        metric.update(torch.full((1, 3, 4), error))
    np.testing.assert_allclose(metric.compute(), [np.sqrt(5.0)], rtol=1e-12)


def rows(index: int, background: float, analysis: float) -> pd.DataFrame:
    result = ArmResult(shifted(background), Analysis(shifted(analysis), {}))
    return score_rows(analysis_time(index), "arm", result)


def test_rows_have_the_promised_columns_and_values() -> None:
    table = rows(0, 2.0, -1.0)
    assert list(table.columns) == SCORE_COLUMNS
    got = table.set_index(["quantity", "channel"])
    assert got.loc[("background", "t2m"), "bias"] == pytest.approx(2.0, rel=1e-4)
    assert got.loc[("analysis", "t2m"), "rmse"] == pytest.approx(1.0, rel=1e-4)
    assert got.loc[("analysis", "msl"), "bias"] == pytest.approx(-1.0, abs=0.02)


def test_summary_by_hand() -> None:
    scores = pd.concat([rows(i, 4.0, 9.0 if i == 0 else 2.0 + (i == 3)) for i in range(4)])
    scores = scores[scores["channel"].isin(SPEC.names)]
    diagnostics = {"arm": pd.DataFrame({"chi2": [9.0, 1.0, 1.0, 1.0], "seconds": [9.0, 1.0, 2.0, 3.0]})}
    std = np.array([2.0, 4.0])
    table = summarise(scores, diagnostics, SPEC, std, skip=1)
    row = table.iloc[0]
    expected = np.sqrt((4 + 4 + 9) / 3) * (1 / 2 + 1 / 4) / 2
    assert row["analysis rmse / std"] == pytest.approx(expected, rel=1e-3)
    assert row["background rmse / std"] == pytest.approx(4 * (1 / 2 + 1 / 4) / 2, rel=1e-3)
    assert row["improved"] == 1.0
    # Analyses of 2, 2, 3 a quarter day apart rise by 0.5 a step: 2 a day on a mean of 7/3.
    assert row["drift %/day"] == pytest.approx(100 * 2 / (7 / 3), rel=1e-2)
    assert (row["2J/p"], row["seconds"]) == (1.0, 2.0)
    assert to_markdown(table).splitlines()[2].startswith("| arm |")


def test_negative_skip_is_refused() -> None:
    with pytest.raises(UserError, match="skip"):
        Scores(skip=-1)


def times(count: int) -> np.ndarray:
    return np.datetime64("2022-01-01T00", "h") + 6 * np.arange(count)


def diagnostics(time: np.datetime64, **values: float) -> pd.DataFrame:
    return pd.DataFrame([{"time": str(time.astype("datetime64[s]")), **values}] * 3)


def appended(path: Path, count: int) -> bytes:
    for number, time in enumerate(times(count)):
        append_rows(path, diagnostics(time, rmse=number / 7, bias=-number), time)
    return path.read_bytes()


def test_rows_are_appended_and_those_of_a_killed_run_replaced(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    whole = appended(path, 5)
    expected = pd.concat([diagnostics(t, rmse=n / 7, bias=-n) for n, t in enumerate(times(5))])
    pd.testing.assert_frame_equal(pd.read_csv(path), expected.reset_index(drop=True), check_dtype=False)
    rest = whole[whole.index(b"2022-01-01T12") :]
    # A cycle was killed while it wrote analysis 2, 3 or 4, after any byte, and resumed before it.
    for end in range(len(whole) - len(rest), len(whole) + 1):
        path.write_bytes(whole[:end])
        for number, time in list(enumerate(times(5)))[2:]:
            append_rows(path, diagnostics(time, rmse=number / 7, bias=-number), time)
        assert path.read_bytes() == whole
    path.write_bytes(whole[:6])
    assert appended(path, 5) == whole


def test_an_analysis_is_appended_without_the_earlier_ones_being_written_again(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    appended(path, 3)
    before = path.stat().st_ino
    append_rows(path, diagnostics(times(4)[3], rmse=1.0, bias=0.0), times(4)[3])
    assert path.stat().st_ino == before
    # Other columns are united with those that are there.
    append_rows(path, diagnostics(times(5)[4], rmse=1.0), times(5)[4])
    assert pd.read_csv(path)["bias"].isna().sum() == 3
    assert len(pd.read_csv(path)) == 15


def test_summary_counts_what_is_missing() -> None:
    """An arm that failed twice and a time without truth: both are counted, and averages are over the rest."""
    whole = pd.concat([rows(i, 4.0, 2.0) for i in range(4)])
    known = whole.copy()
    known.loc[known["time"] == known["time"].iloc[-1], ["rmse", "bias"]] = np.nan
    columns = {"failed": [0.0, 1.0, 1.0, np.nan], "implausible_background": [np.nan, 1.0, 1.0, 1.0]}
    diagnostics = {"arm": pd.DataFrame(columns)}
    std = np.array([2.0, 4.0])
    row = summarise(known, diagnostics, SPEC, std, skip=0).iloc[0]
    assert (row["failed analyses"], row["times without truth"]) == (2, 1)
    assert row["implausible backgrounds"] == 3
    before = summarise(whole, {"arm": pd.DataFrame({"failed": [0.0] * 4})}, SPEC, std, skip=0).iloc[0]
    assert row["analysis rmse / std"] == pytest.approx(before["analysis rmse / std"])
    assert row["improved"] == 1.0
    assert "failed analyses" not in before
    # Not a number is left: not a number is shown.
    known[["rmse", "bias"]] = np.nan
    row = summarise(known, diagnostics, SPEC, std, skip=0).iloc[0]
    assert np.isnan([row["analysis rmse / std"], row["improved"], row["drift %/day"]]).all()


def in_windows(arm: str, window: int, errors: dict[str, list[float]]) -> pd.DataFrame:
    """The rows of an arm whose analyses and backgrounds have these errors, time by time."""
    frames = []
    for index, (background, analysis) in enumerate(
        zip(errors["background"], errors["analysis"], strict=True)
    ):
        result = ArmResult(
            shifted(background), Analysis(shifted(analysis), {}), position=index % window, window=window
        )
        frames.append(score_rows(analysis_time(index), arm, result))
    return pd.concat(frames)


def test_arms_with_windows_are_compared_where_none_has_seen_a_later_observation() -> None:
    """Windows of 1, 2 and 4 over eight times: all of them end at the fourth and the eighth, and begin anew at
    the fifth; before the first there was no window."""
    single = {"background": [9, 9, 9, 9, 3, 9, 9, 9], "analysis": [8, 8, 8, 2, 8, 8, 8, 4]}
    pair = {"background": [9, 9, 9, 9, 4, 9, 9, 9], "analysis": [7, 7, 7, 1, 7, 7, 7, 3]}
    four = {"background": [9, 9, 9, 9, 5, 9, 9, 9], "analysis": [6, 6, 6, 3, 6, 6, 6, 1]}
    arms = {"single": (1, single), "pair": (2, pair), "four": (4, four)}
    scores = pd.concat([in_windows(arm, *made) for arm, made in arms.items()])  # type: ignore[arg-type]
    assert set(zip(scores["window"], scores["position"], strict=True)) == {
        (1, 0), (2, 0), (2, 1), (4, 0), (4, 1), (4, 2), (4, 3),
    }  # fmt: skip
    diagnostics, std = {arm: pd.DataFrame({"seconds": [1.0] * 8}) for arm in arms}, np.array([2.0, 4.0])
    each = (1 / 2 + 1 / 4) / 2

    def table(rows: pd.DataFrame, names: Any = arms, skip: int = 0) -> pd.DataFrame:
        return summarise(rows, {name: diagnostics[name] for name in names}, SPEC, std, skip).set_index("arm")

    found = table(scores)
    for arm, last, following in (("single", (2, 4), 3), ("pair", (1, 3), 4), ("four", (3, 1), 5)):
        squares = np.array(last) ** 2
        assert found.loc[arm, "last time"] == pytest.approx(np.sqrt(squares.mean()) * each, rel=1e-3)
        assert found.loc[arm, "next background"] == pytest.approx(following * each, rel=1e-3)
    mean = np.sqrt(np.square(four["analysis"]).mean())
    assert found.loc["four", "analysis rmse / std"] == pytest.approx(mean * each, rel=1e-3)
    # Beside windows of two alone there are more such times.
    fewer = table(scores[scores["arm"] != "four"], ["single", "pair"])
    assert fewer.loc["pair", "last time"] == pytest.approx(np.sqrt((49 + 1 + 49 + 9) / 4) * each, rel=1e-3)
    assert fewer.loc["pair", "next background"] == pytest.approx(np.sqrt((81 + 16 + 81) / 3) * each, rel=1e-3)
    skipped = table(scores, skip=4)
    assert skipped.loc["four", "last time"] == pytest.approx(each, rel=1e-3)
    # In a single window nothing follows: a dash, not an error.
    first = scores[scores["time"].isin(sorted(scores["time"].unique())[:4])]
    short = table(first)
    assert short.loc["pair", "last time"] == pytest.approx(each, rel=1e-3)
    assert short["next background"].isna().all()
    assert "last time" not in table(scores[scores["arm"] == "single"], ["single"])


def test_scores_of_an_earlier_version_have_no_windows() -> None:
    """They are of single times, and may stand beside rows that know theirs."""
    old = in_windows("old", 1, {"background": [4, 4, 4, 4], "analysis": [2, 2, 2, 2]})
    old = old.drop(columns=["position", "window"])
    new = in_windows("new", 2, {"background": [4, 4, 4, 4], "analysis": [3, 3, 3, 1]})
    diagnostics = {arm: pd.DataFrame({"seconds": [1.0] * 4}) for arm in ("old", "new")}
    std, each = np.array([2.0, 4.0]), (1 / 2 + 1 / 4) / 2
    table = summarise(pd.concat([old, new]), diagnostics, SPEC, std, 0).set_index("arm")
    assert table.loc["old", "last time"] == pytest.approx(2 * each, rel=1e-3)
    assert table.loc["new", "last time"] == pytest.approx(np.sqrt(5) * each, rel=1e-3)
    assert "last time" not in summarise(old, {"old": diagnostics["old"]}, SPEC, std, 0)


def run_of(directory: Path, counts: dict[str, int]) -> None:
    """The files of arms with so many analyses; those of the second arm are worse."""
    for number, (arm, count) in enumerate(counts.items()):
        for index in range(count):
            result = ArmResult(shifted(4.0 + number), Analysis(shifted(2.0 + number), {"chi2": 1.0 + index}))
            time = analysis_time(index).time
            (directory / arm).mkdir(parents=True, exist_ok=True)
            append_rows(directory / arm / "scores.csv", score_rows(analysis_time(index), arm, result), time)
            row = pd.DataFrame([{"time": str(time.astype("datetime64[s]")), "chi2": 1.0 + index}])
            append_rows(directory / arm / "diagnostics.csv", row, time)


def cycle_of(count: int) -> Any:
    return SimpleNamespace(times=times(count), spec=SPEC, climatological_std=np.array([2.0, 4.0]),
                           source=SimpleNamespace(description="toys"))  # fmt: skip


@pytest.mark.parametrize(("skip", "used"), [(0, [1, 2, 3, 4]), (2, [3, 4]), (4, [1, 2, 3, 4])])
def test_the_table_of_a_run_is_over_what_all_arms_have(tmp_path: Path, skip: int, used: list[int]) -> None:
    """A run that is too short to settle is summarised as a whole."""
    run_of(tmp_path, {"a": 4, "b": 6})
    scores = Scores(skip)
    table = scores.table(tmp_path, ["a", "b"], cycle_of(6)).set_index("arm")
    assert table.loc["a", "2J/p"] == table.loc["b", "2J/p"] == np.mean(used)
    assert table.loc["b", "analysis rmse / std"] == pytest.approx(3 * (1 / 2 + 1 / 4) / 2, rel=1e-3)
    assert "stopped at" not in table
    note = scores.note(4, cycle_of(6))
    assert note.startswith(
        f"Analyses {times(6)[4 - len(used)]} to {times(6)[3]}, {len(used)} of 6 (the cycle has"
    )
    assert "goes on from there" not in scores.note(6, cycle_of(6))


def test_an_arm_that_stopped_or_is_too_short_has_no_averages(tmp_path: Path) -> None:
    run_of(tmp_path, {"a": 4, "b": 2, "earlier": 3})
    Stop(1, "2022-01-01T06:00:00", "it ran away").write(tmp_path / "b")
    earlier = {"earlier": times(3)}
    table = Scores(1).table(tmp_path, ["a", "b"], cycle_of(4), earlier).set_index("arm")
    assert table["stopped at"].tolist() == ["", "2022-01-01T06:00:00, analysis 2", ""]
    assert np.isfinite(table.loc["a", "analysis rmse / std"])
    assert table.loc["a", "2J/p"] == 3.0
    assert np.isnan(table.loc[["b", "earlier"], "analysis rmse / std"]).all()


def test_rows_of_a_killed_analysis_are_cut_off_and_counted(tmp_path: Path) -> None:
    run_of(tmp_path, {"a": 4})
    scores, module = Scores(), SimpleNamespace(directory=tmp_path)
    assert scores.kept(module, cycle_of(4), "a") == 4  # type: ignore[arg-type]
    scores.go_on(module, cycle_of(4), "a", 3)  # type: ignore[arg-type]
    assert len(pd.read_csv(tmp_path / "a" / "scores.csv")) == 3 * 4
    assert len(pd.read_csv(tmp_path / "a" / "diagnostics.csv")) == 3
    cut = (tmp_path / "a" / "scores.csv").read_text().splitlines()[:-1]
    (tmp_path / "a" / "scores.csv").write_text("\n".join(cut) + "\n")
    assert scores.kept(module, cycle_of(4), "a") == 2  # type: ignore[arg-type]
    (tmp_path / "a" / "diagnostics.csv").unlink()
    with pytest.raises(UserError, match=r"diagnostics\.csv: not there"):
        scores.kept(module, cycle_of(4), "a")  # type: ignore[arg-type]


@pytest.mark.parametrize("computed", [True, False])
def test_the_end_says_whether_anything_was_computed(
    tmp_path: Path, computed: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "how_to_repeat", lambda directory: "Made by `now`.")
    run_of(tmp_path, {"a": 4, "elsewhere": 2})
    # Of two processes, the other one computed nothing.
    strategy = SimpleNamespace(
        barrier=lambda: None, reduce_boolean_decision=lambda decision, all: decision and all
    )
    trainer = SimpleNamespace(strategy=strategy, is_global_zero=True)
    module: Any = SimpleNamespace(trainer=trainer, directory=tmp_path, arms={"a": None})
    scores = Scores(1)
    scores._computed = computed
    scores.after_cycle(module, cycle_of(4))
    said = capsys.readouterr().out
    assert ("had ended already, nothing was computed" in said) != computed
    assert "Analyses 2022-01-01T06 to 2022-01-01T18, 3 of 4." in " ".join(said.split())
    whole = pd.read_csv(tmp_path / "scores.csv")
    assert whole.groupby("arm").size().to_dict() == {"a": 16, "elsewhere": 8}
    summary = (tmp_path / "summary.md").read_text()
    assert "Not part of the last command: elsewhere." in summary
    assert "Analyses 2022-01-01T06 to 2022-01-01T18, 3 of 4; truth: toys." in summary
    assert "Made by `now`." in summary
