"""What the log of a cycle says, where there is no progress bar."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vaevar.verification import log
from vaevar.verification.log import CycleLog

TIMES = np.datetime64("2021-01-01T00", "h") + 6 * np.arange(100)
RESULT: Any = SimpleNamespace(analysis=SimpleNamespace(diagnostics={"j_b": 1.0, "j_o": 4.5, "seconds": 0.25}))
SCORES = pd.DataFrame({"quantity": ["background"] * 2 + ["analysis"] * 2, "rmse": [4.0, 8.0, 2.0, 4.0]})


class Bar:
    """Some progress bar that shows no notes."""


@pytest.mark.parametrize(
    ("bar", "terminal", "lines"), [(None, True, 11), (Bar(), False, 11), (None, False, 11), (Bar(), True, 0)]
)
def test_lines_are_written_where_no_bar_can_be_seen(
    bar: Bar | None, terminal: bool, lines: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(log, "shows_bars", lambda: terminal)
    trainer: Any = SimpleNamespace(num_predict_batches=[50], progress_bar_callback=bar)
    cycle = CycleLog(trainer, 100)
    for index in range(50):
        cycle.analysed(index, TIMES[index], {"oi": RESULT}, {"oi": SCORES}, np.array([4.0, 8.0]))
    said = capsys.readouterr().out.splitlines()
    assert len(said) == lines
    if said:
        assert said[1].startswith(
            "analysis 6/50, 2021-01-02T06, oi: rmse/std 0.5000 (background 1.0000), J 5.5, 0.25 s; 0:00:"
        )
        assert said[-1].startswith("analysis 50/50, 2021-01-13T06, oi: ")


def test_what_was_before_the_first_analysis_is_not_in_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that goes on reads what is done, and a new one generates its world."""
    now = 0.0
    monkeypatch.setattr(log, "shows_bars", lambda: False)
    monkeypatch.setattr(log.clock, "monotonic", lambda: now)
    trainer: Any = SimpleNamespace(num_predict_batches=[10], progress_bar_callback=None)
    cycle = CycleLog(trainer, 10)
    for index in range(6, 10):
        now += 1000.0 if index == 6 else 2.0
        cycle.analysed(index, TIMES[index], {"oi": RESULT}, {"oi": SCORES}, np.array([4.0, 8.0]))
    said = capsys.readouterr().out.splitlines()
    assert [line.partition("; ")[2] for line in said] == ["", "0:00:04 left", "0:00:02 left", "0:00:00 left"]
