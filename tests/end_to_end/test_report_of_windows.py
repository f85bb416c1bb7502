"""The report of arms that analyse windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.end_to_end.reading import numbers, picture
from tests.end_to_end.test_windows import forecaster as forecaster  # the fixtures
from tests.end_to_end.test_windows import method as method
from tests.end_to_end.test_windows import run as run
from tests.library.conftest import tiny as tiny
from tests.library.conftest import world as world


def test_errors_by_the_place_in_the_window(run: Any) -> None:
    run("windows")
    found = picture(Path("runs/windows/report.html"), "windows-0")
    scores = pd.read_csv("runs/windows/scores.csv")
    rows = scores[(scores["channel"] == "z500") & (scores["arm"] == "four")]
    rows = rows[rows["quantity"] == "analysis"]
    (line,) = [
        trace
        for trace in found.data
        if trace["meta"][0] == "z" and trace["name"] == "four" and "analysis" in trace["hovertemplate"]
    ]
    assert len(numbers(line["y"])) == 4
    assert line["x"] == [0.0, 6.0, 12.0, 18.0]
    assert np.isfinite(numbers(line["y"])).all()
    means = np.sqrt(rows["rmse"].pow(2).groupby(rows["position"]).mean())
    np.testing.assert_allclose(numbers(line["y"]), means, rtol=1e-6)
