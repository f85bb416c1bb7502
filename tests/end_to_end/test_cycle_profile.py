"""``CycleProfile`` in a cycle: it reports the parts that were slowed down, and changes nothing else."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from vaevar.assim.assimilator import FreeRun
from vaevar.assim.cycle.writer import StateWriter
from vaevar.cli import main
from vaevar.data.analysis_times import AnalysisTimes
from vaevar.models.forecaster.fengwu import OnnxForecaster

PROFILED = ["--trainer.callbacks+", "cycle_profile.CycleProfile"]


@pytest.fixture
def config(configs: dict[str, Path]) -> Path:
    """A cycle of two arms that need no training."""
    content = yaml.safe_load(configs["predict"].read_text())
    interpolation = {
        "class_path": "vaevar.assim.interpolation.linear.LinearInterpolation",
        "init_args": {"range_km": 3000.0}
    }  # fmt: skip
    free = {"class_path": "vaevar.assim.assimilator.FreeRun"}
    content["model"]["init_args"]["arms"] = {"free": free, "interpolation": interpolation}
    content["trainer"]["callbacks"][3]["init_args"]["maps_every"] = 0
    configs["predict"].write_text(yaml.safe_dump(content, sort_keys=False))
    return configs["predict"]


def slow(monkeypatch: pytest.MonkeyPatch, kind: type, method: str, seconds: float) -> None:
    real: Callable[..., Any] = getattr(kind, method)

    @functools.wraps(real)  # the parser looks at signatures
    def slowed(*args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return real(*args, **kwargs)

    monkeypatch.setattr(kind, method, slowed)


def test_slow_parts_are_found(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main(["predict", "--config", str(config)])
    plain = pd.read_csv("runs/cycle/scores.csv")
    slow(monkeypatch, FreeRun, "forward", 0.1)
    slow(monkeypatch, OnnxForecaster, "step", 0.1)  # twice an analysis time, once for each arm
    slow(monkeypatch, AnalysisTimes, "analysis_time", 0.3)
    slow(monkeypatch, StateWriter, "after_analysis", 0.4)
    began = time.perf_counter()
    main(["predict", "--config", str(config), "--restart", *PROFILED])
    whole = time.perf_counter() - began
    profile = json.loads(Path("runs/cycle/profile.json").read_text())
    assert profile["analyses"] == 3
    seconds = profile["seconds"]
    least = {"arm free": 0.1, "forecaster": 0.2, "reading truth and observations": 0.3, "StateWriter": 0.4}
    for part, expected in least.items():
        assert expected <= seconds[part]
    others = {"arm interpolation", "Cycle", "Scores", "Dashboards", "CycleProgress", "the rest"}
    assert set(seconds) >= set(least) | others
    assert sum(seconds.values()) * 3 < whole
    # Sleeping is no work.
    assert all(profile["busy_seconds"][part] < seconds[part] - 0.05 for part in least)
    assert list(seconds) == sorted(seconds, key=lambda part: -seconds[part])
    pd.testing.assert_frame_equal(pd.read_csv("runs/cycle/scores.csv"), plain)


def test_a_single_analysis_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--config", str(config), "--data.init_args.analyses", "1", *PROFILED])
    assert "2 or more" in capsys.readouterr().err
