"""Scores and summary against hand-computed values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from vaevar.assim.module import ArmResult
from vaevar.assim.scores import SCORE_COLUMNS, score_rows, summarise, to_markdown
from vaevar.assim.variational import Analysis
from vaevar.assim.verification import RootMeanSquare, bias, rmse
from vaevar.data.cycles import AnalysisTime
from vaevar.data.observations import Observations
from vaevar.errors import UserError
from vaevar.sphere import Grid
from vaevar.state import State, StateSpec

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
    from vaevar.assim.scores import Scores

    with pytest.raises(UserError, match="skip"):
        Scores(skip=-1)
