"""Scores and summary against hand-computed values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from vaevar.assim.assimilator import Analysis
from vaevar.assim.cycle.module import ArmResult
from vaevar.data.analysis_times import AnalysisTime
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec
from vaevar.verification.metrics import RootMeanSquare, bias, rmse
from vaevar.verification.scores import SCORE_COLUMNS, score_rows, summarise
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
    from vaevar.verification.scores import Scores

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
    diagnostics = {"arm": pd.DataFrame({"failed": [0.0, 1.0, 1.0, np.nan]})}
    std = np.array([2.0, 4.0])
    row = summarise(known, diagnostics, SPEC, std, skip=0).iloc[0]
    assert (row["failed analyses"], row["times without truth"]) == (2, 1)
    before = summarise(whole, {"arm": pd.DataFrame({"failed": [0.0] * 4})}, SPEC, std, skip=0).iloc[0]
    assert row["analysis rmse / std"] == pytest.approx(before["analysis rmse / std"])
    assert row["improved"] == 1.0
    assert "failed analyses" not in before
    # Not a number is left: not a number is shown.
    known[["rmse", "bias"]] = np.nan
    row = summarise(known, diagnostics, SPEC, std, skip=0).iloc[0]
    assert np.isnan([row["analysis rmse / std"], row["improved"], row["drift %/day"]]).all()
