"""What a power cut, a full disk or a hand took from a run is noticed when it goes on, and made again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import yaml

from tests.end_to_end.commands import FREE_AND_OI, predict, refused
from vaevar.assim.cycle import cycle
from vaevar.assim.cycle.writer import StateWriter
from vaevar.content.seal import sealed
from vaevar.data.analysis_times import AnalysisTime

ARM = Path("runs/cycle/oi")


@pytest.fixture
def config(configs: dict[str, Path]) -> Path:
    """A cycle of interpolation with forecasts from every other analysis."""
    content = yaml.safe_load(configs["predict"].read_text(encoding="utf-8"))
    content["model"]["init_args"]["arms"] = FREE_AND_OI
    content["data"]["init_args"]["analyses"] = 5
    content["trainer"]["callbacks"] = [
        {"class_path": "Cycle"}, {"class_path": "StateWriter"},
        {"class_path": "Scores", "init_args": {"skip": 1}},
        {"class_path": "Forecasts", "init_args": {"every": 2, "lead_hours": [6, 12]}},
    ]  # fmt: skip
    configs["predict"].write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return configs["predict"]


def with_states(config: Path, states: list[str]) -> Path:
    """The same config with other states to write."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    content["trainer"]["callbacks"][1]["init_args"] = {"states": states}
    other = config.with_name("states.yaml")
    other.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return other


def without_seconds(path: Path) -> pd.DataFrame:
    return pd.read_csv(path).drop(columns="seconds", errors="ignore")


def contents() -> dict[str, Any]:
    """Everything that a run of this config leaves."""
    run = ARM.parent
    tables = [*run.rglob("scores.csv"), *run.rglob("diagnostics.csv"), *run.rglob("forecasts.csv")]
    found: dict[str, Any] = {str(path): without_seconds(path).to_csv() for path in tables}
    for path in sorted(run.rglob("*.zarr")):
        states = xr.open_zarr(path, chunks=None)
        found[str(path)] = {name: array.values.tobytes() for name, array in states.data_vars.items()}
    return found


def cut_last(path: Path, lines: int) -> None:
    kept = path.read_bytes().splitlines(keepends=True)[:-lines]
    path.write_bytes(b"".join(kept))


def repeat_rows(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, *lines[13:25]]))


def lose_the_middle(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:25] + lines[26:]))


def no_number(path: Path, column: str) -> None:
    lines = path.read_text().splitlines()
    fields = lines[30].split(",")
    fields[lines[0].split(",").index(column)] = ""
    lines[30] = ",".join(fields)
    path.write_text("\n".join([*lines, ""]))


LOSSES: dict[str, Callable[[], object]] = {
    "rows at the end": lambda: cut_last(ARM / "scores.csv", 15),
    "half a row": lambda: (ARM / "scores.csv").write_bytes((ARM / "scores.csv").read_bytes()[:-7]),
    "zeros at the end": lambda: (ARM / "scores.csv").write_bytes(
        (ARM / "scores.csv").read_bytes()[:-300] + bytes(300)
    ),
    "all but the header": lambda: cut_last(ARM / "scores.csv", 60),
    "everything": lambda: (ARM / "scores.csv").write_bytes(b""),
    "rows in the middle": lambda: lose_the_middle(ARM / "scores.csv"),
    "a number": lambda: no_number(ARM / "scores.csv", "rmse"),
    "a position in the window": lambda: no_number(ARM / "scores.csv", "position"),
    "the order": lambda: repeat_rows(ARM / "scores.csv"),
    "diagnostics": lambda: cut_last(ARM / "diagnostics.csv", 2),
    "forecasts": lambda: cut_last(ARM / "forecasts.csv", 12),
    "a file of a state": lambda: (ARM / "analysis.zarr" / "geopotential" / "4.0.0.0.0").unlink(),
    "the content of a state": lambda: (ARM / "background.zarr" / "geopotential" / "3.0.0.0.0").write_bytes(
        b""
    ),
    "a store": lambda: shutil.rmtree(ARM / "analysis.zarr"),
    "half a state": lambda: (ARM / "background.zarr" / "geopotential" / "4.0.0.0.0").write_bytes(b"half"),
}


def test_what_was_lost_is_made_again(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(config)
    whole = contents()
    shutil.copytree("runs", tmp_path / "kept")
    for name, lose in LOSSES.items():
        shutil.rmtree("runs")
        shutil.copytree(tmp_path / "kept", "runs")
        lose()
        capsys.readouterr()
        predict(config)
        said = capsys.readouterr().out
        assert contents() == whole, name
        if name != "the order":  # the rows that are there are whole: the others are left out
            assert "restart.pt counts 5 analyses" in said, name
            assert "goes on from the beginning" in said, name
        assert "4 of 5" in Path("runs/cycle/summary.md").read_text(encoding="utf-8")


def test_a_settled_restart_saves_most_of_the_work(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cycle, "_SETTLE_EVERY", 0.0)
    monkeypatch.setattr(cycle, "_SETTLE_RATIO", 0.0)
    predict(config)
    whole = contents()
    cut_last(ARM / "scores.csv", 3)
    capsys.readouterr()
    predict(config)
    said = capsys.readouterr().out
    assert "Scores has only 4 whole ones: the arm goes on from analysis 4" in said
    assert contents() == whole
    # So does it when the latest restart is damaged.
    (ARM / "restart.pt").write_bytes((ARM / "restart.pt").read_bytes()[:-100])
    predict(config)
    assert "the other restart file is used" in capsys.readouterr().out
    assert contents() == whole


def test_a_restart_is_checked_before_it_is_believed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict(config)
    path = ARM / "restart.pt"
    good = torch.load(path, weights_only=True)
    nan = good["trajectory"].clone()
    nan[1, 2, 3, 4] = torch.nan
    grid = {name: np.linspace(80, -80, 16).tolist() for name in ("latitude",)}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"next_index": 7}, "the cycle has only 5; set data.init_args.analyses to at least 7"),
        ({"next_index": -1}, "damaged, its next analysis is number -1"),
        ({"next_index": "many"}, "not a restart file"),
        ({"trajectory": nan}, "damaged, its trajectory is not finite"),
        ({"trajectory": good["trajectory"][:1]}, "damaged, its trajectory is (1, 6, 16, 32), expected (2, 6"),
        ({"trajectory": good["trajectory"] * 3}, "has mean"),
        ({"coverage": good["coverage"][:, 1:]}, "its coverage is"),
        ({"coverage": 3}, "its coverage is int"),
        (
            {"channels": ["t2m", "msl"]},
            "is of another cycle: its channels is t2m, msl, this one's is t2m, msl, z",
        ),
        ({"arm": "free"}, "is of another cycle: its arm is free, this one's is oi"),
        ({"time": "1999-01-01T00:00:00"}, "another cycle: its time"),
        (grid, "another cycle: its latitude"),
    ]
    for change, said in cases:
        torch.save(sealed(good | change), path)
        line = refused(config, capsys)
        assert "oi/restart.pt: " in line
        assert said in line
    torch.save({name: good[name] for name in ("next_index", "trajectory", "coverage")}, path)
    predict(config)  # as earlier versions wrote it


def test_partial_files_of_killed_processes_are_swept_up_and_nothing_else(config: Path) -> None:
    predict(config, "--trainer.limit_predict_batches", "2")
    left = [ARM / "restart.pt.4711.partial", ARM / "scores.csv.1.partial"]
    others = [ARM / "mine.partial", ARM / "notes.txt", Path("runs/cycle/plan.7.partial.txt")]
    for path in (*left, *others):
        path.write_text("x")
    (ARM / "analysis.zarr.partial").mkdir()
    predict(config)
    assert not any(path.exists() for path in (*left, ARM / "analysis.zarr.partial"))
    assert all(path.is_file() for path in others)


def test_tables_that_are_gone_are_asked_for(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict(config)
    for name in ("scores.csv", "diagnostics.csv"):
        (ARM / name).rename("kept")
        assert f"{name}: not there" in refused(config, capsys)
        Path("kept").rename(ARM / name)
    # States may be removed to make room, where nobody asks for them any more.
    shutil.rmtree(ARM / "background.zarr")
    predict(with_states(config, ["analysis"]))
    assert not (ARM / "background.zarr").exists()


def test_a_store_that_a_longer_cycle_lacks_is_whole_in_the_end(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = ("--data.init_args.analyses", "7")
    predict(config, *longer, "--name", "whole")
    predict(config)
    shutil.rmtree(ARM / "analysis.zarr")
    capsys.readouterr()
    predict(config, *longer)
    assert "restart.pt counts 5 analyses, but StateWriter has only 0 whole ones" in capsys.readouterr().out
    # So it is when states are asked for that the run did not write before.
    predict(with_states(config, []), "--name", "later")
    assert not list(Path("runs/later").rglob("*.zarr"))
    predict(config, *longer, "--name", "later")
    for run in ("cycle", "later"):
        for kind in ("background", "analysis"):
            stores = [xr.open_zarr(f"runs/{name}/oi/{kind}.zarr", chunks=None) for name in (run, "whole")]
            xr.testing.assert_identical(*(store.drop_attrs() for store in stores))


def test_a_store_that_is_removed_meanwhile_is_no_gap(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = StateWriter.after_analysis

    def removed(self: StateWriter, module: Any, data: Any, time: AnalysisTime, results: Any) -> None:
        if time.index == 2:
            shutil.rmtree(ARM / "analysis.zarr")
        real(self, module, data, time, results)

    with monkeypatch.context() as patch:
        patch.setattr(StateWriter, "after_analysis", removed)
        assert "oi/analysis.zarr: was removed while the cycle was running" in refused(config, capsys)
    predict(config)
    assert np.isfinite(xr.open_zarr(ARM / "analysis.zarr", chunks=None)["geopotential"].values).all()
