"""Commands that run some of the arms of a run: its tables keep the others, and say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from vaevar.cli import main

FREE = {"class_path": "vaevar.assim.assimilator.FreeRun"}
OI = {
    "class_path": "vaevar.assim.interpolation.optimal.OptimalInterpolation",
    "init_args": {"length_km": 1500.0},
}


@pytest.fixture
def predict(configs: dict[str, Path]) -> Callable[..., None]:
    """A cycle with given arms and number of analyses."""
    content = yaml.safe_load(configs["predict"].read_text(encoding="utf-8"))
    content["trainer"]["callbacks"] = [
        {"class_path": "Scores", "init_args": {"skip": 0}},
        {"class_path": "StateWriter", "init_args": {"states": []}},
        {"class_path": "Forecasts", "init_args": {"every": 2, "lead_hours": [6]}},
    ]

    def run(analyses: int, *words: str, **arms: Any) -> None:
        content["data"]["init_args"]["analyses"] = analyses
        content["model"]["init_args"]["arms"] = arms
        configs["predict"].write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        main(["predict", "--config", str(configs["predict"]), *words])

    return run


def summary() -> str:
    return Path("runs/cycle/summary.md").read_text(encoding="utf-8")


def row(arm: str) -> str:
    (found,) = [line for line in summary().splitlines() if line.startswith(f"| {arm} ")]
    return found


def test_the_tables_of_a_run_keep_all_arms(predict: Callable[..., None]) -> None:
    predict(3, free=FREE, oi=OI)
    free, whole = row("free"), pd.read_csv("runs/cycle/scores.csv")
    assert "last command" not in summary()
    predict(3, oi=OI)
    assert "Not part of the last command: free." in summary()
    assert row("free") == free
    for name, expected in (("scores", whole), ("forecasts", None)):
        table = pd.read_csv(f"runs/cycle/{name}.csv")
        assert set(table["arm"]) == {"free", "oi"}
        if expected is not None:
            labels = ["time", "arm", "quantity", "channel"]
            both = [frame.sort_values(labels, ignore_index=True) for frame in (table, expected)]
            pd.testing.assert_frame_equal(*both)

    # One that is left behind is shown without averages, and one that is ahead over the same times.
    predict(5, oi=OI)
    assert "Of other lengths: free has 3; all are compared over the first 5" in summary()
    assert row("free").count("–") > 4
    predict(5, "--trainer.limit_predict_batches", "2", more=FREE)
    assert "Of other lengths: free has 3, oi has 5; all are compared over the first 2" in summary()
    assert row("more").split("|")[2:6] == row("free").split("|")[2:6]
    assert "2 of 5 (the cycle has come to analysis 2" in summary()


def test_an_ended_cycle_given_again_says_so(
    predict: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    predict(2, oi=OI)
    first = summary()
    said = capsys.readouterr().out
    assert "nothing was computed" not in said
    assert "--logdir" not in said  # nobody wrote events
    predict(2, "--trainer.enable_model_summary", "false", oi=OI)
    assert "runs/cycle: this cycle had ended already, nothing was computed" in capsys.readouterr().out
    assert summary() == first
    predict(3, oi=OI)
    assert "nothing was computed" not in capsys.readouterr().out
