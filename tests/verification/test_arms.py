"""Which arms a run directory holds, and over what they are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from vaevar.runs.record import NAME
from vaevar.verification.arms import compared, earlier_arms, lengths, remarks
from vaevar.verification.tables import append_rows, gather_rows, time_text

TIMES = np.datetime64("2022-01-01T00", "h") + 6 * np.arange(4)
KEYS = pd.DataFrame({"quantity": ["background", "analysis"], "channel": ["t2m", "t2m"]})


def arm(run: Path, name: str, count: int) -> Path:
    """The tables of an arm with some analyses."""
    (run / name).mkdir(parents=True)
    for time in TIMES[:count]:
        rows = KEYS.assign(rmse=1.0, bias=0.5)
        rows.insert(0, "arm", name)
        rows.insert(0, "time", time_text(time))
        append_rows(run / name / "scores.csv", rows, time)
        append_rows(
            run / name / "diagnostics.csv", pd.DataFrame([{"time": time_text(time), "chi2": 1}]), time
        )
    return run / name


def test_arms_of_earlier_commands_are_found_with_what_is_whole_of_them(tmp_path: Path) -> None:
    arm(tmp_path, "now", 4)
    arm(tmp_path, "old", 2)
    torn = arm(tmp_path, "torn", 3) / "scores.csv"
    torn.write_bytes(torn.read_bytes()[:-9])
    (arm(tmp_path, "empty", 1) / "diagnostics.csv").write_bytes(b"")
    (arm(tmp_path, "run_of_its_own", 2) / NAME).write_text("{}")
    (tmp_path / "checkpoints").mkdir()
    found = earlier_arms(tmp_path, ["now"], TIMES, KEYS)
    assert {name: len(times) for name, times in found.items()} == {"old": 2, "torn": 2}
    scores = gather_rows(tmp_path, ["now"], "scores.csv", found)
    assert lengths(scores) == {"now": 4, "old": 2, "torn": 2}
    assert scores[["rmse", "bias"]].notna().all(None)


def test_arms_are_compared_over_the_analyses_that_all_of_a_command_have() -> None:
    counts = {"short": 3, "long": 5, "stopped": 1, "old": 2, "older": 3}
    over = compared(counts, ["short", "long", "stopped"], ["stopped"])
    assert over == 3
    assert compared(counts, ["stopped"], ["stopped"]) == 1
    said = remarks(counts, over, ["old", "older"], ["stopped"])
    assert said.startswith(
        "Not part of the last command: old, older. Of other lengths: long has 5, old has 2;"
    )
    assert remarks({"a": 3, "b": 3}, 3, [], []) == ""
