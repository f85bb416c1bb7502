"""A cycle made longer, or looked at after a few analyses, is that of one long run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
import zarr
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.end_to_end.commands import FREE_AND_OI
from vaevar.cli import main


@pytest.fixture
def config(configs: dict[str, Path]) -> Callable[[str, int], list[str]]:
    """The words of a predict with a name and a number of analyses."""
    content = yaml.safe_load(configs["predict"].read_text(encoding="utf-8"))
    content["model"]["init_args"]["arms"] = FREE_AND_OI
    content["trainer"]["callbacks"][2]["init_args"]["skip"] = 3
    content["trainer"]["callbacks"] += [
        {"class_path": "Forecasts", "init_args": {"every": 2, "lead_hours": [6, 12]}},
        {"class_path": "CycleErrorRecorder", "init_args": {"path": "errors.zarr", "arm": "oi", "skip": 1}},
    ]

    def words(name: str, analyses: int) -> list[str]:
        content["data"]["init_args"]["analyses"] = analyses
        content["trainer"]["callbacks"][-1]["init_args"]["path"] = f"{name}_errors.zarr"
        path = configs["predict"].with_name(f"{name}_{analyses}.yaml")
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return ["predict", "--config", str(path), "--name", name]

    return words


def compare(name: str, other: str) -> None:
    for table in ("scores.csv", "forecasts.csv", "free/scores.csv", "oi/forecasts.csv"):
        left, right = (pd.read_csv(Path("runs", run, table)) for run in (name, other))
        pd.testing.assert_frame_equal(left, right)
    for path in ("free/analysis.zarr", "free/background.zarr", "oi/analysis.zarr", "oi/background.zarr"):
        left, right = (xr.open_zarr(Path("runs", run, path), chunks=None) for run in (name, other))
        xr.testing.assert_identical(left.drop_attrs(), right.drop_attrs())
        assert np.isfinite(left["geopotential"].values).all()
    left, right = (zarr.open_group(f"{run}_errors.zarr", mode="r") for run in (name, other))
    for array in right.array_keys():
        np.testing.assert_array_equal(left[array][:], right[array][:], err_msg=array)
    rows = [Path("runs", run, "summary.md").read_text(encoding="utf-8").splitlines() for run in (name, other)]
    assert rows[0][2] == rows[1][2]
    charts = {}
    for run in (name, other):
        events = EventAccumulator(str(Path("runs", run, "oi")))
        events.Reload()
        charts[run] = [(event.step, event.value) for event in events.Scalars("rmse_over_std/analysis")]
    assert charts[name] == charts[other]
    final: list[Any] = []
    for run in (name, other):
        events = EventAccumulator(str(Path("runs", run, "oi")))
        events.Reload()
        final.append([(event.step, event.value) for event in events.Scalars("final/improved")])
    assert final[0] == final[1]


def test_a_finished_cycle_made_longer_is_one_long_cycle(config: Callable[[str, int], list[str]]) -> None:
    main(config("long", 7))
    main(config("grown", 4))
    assert zarr.open_group("grown_errors.zarr", mode="r")["error"].shape[0] == 3
    main(config("grown", 7))
    compare("grown", "long")


def test_a_shorter_cycle_is_there_already(
    config: Callable[[str, int], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    main(config("long", 4))
    before = {path: path.read_bytes() for path in Path("runs/long").rglob("*") if path.is_file()}
    capsys.readouterr()
    main(config("long", 3))
    assert "runs/long: has 4 analyses already, 3 are asked for; nothing to do" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in Path("runs/long").rglob("*") if path.is_file()}


def test_short_looks_go_on_to_one_long_cycle(config: Callable[[str, int], list[str]]) -> None:
    main(config("long", 7))
    words = config("looked", 7)
    main([*words, "--trainer.fast_dev_run", "true"])
    summary = Path("runs/looked/summary.md").read_text(encoding="utf-8")
    assert "1 of 7 (the cycle has come to analysis 1" in summary
    main([*words, "--trainer.limit_predict_batches", "3", "--trainer.enable_progress_bar", "false"])
    assert "3 of 7 (the cycle has come to analysis 3" in Path("runs/looked/summary.md").read_text("utf-8")
    assert not Path("looked_errors.zarr").exists()
    main(words)
    compare("looked", "long")


def test_what_cannot_work_is_one_line(
    config: Callable[[str, int], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = config("odd", 1)
    refused: list[tuple[list[str], str]] = [
        (["--trainer.limit_predict_batches", "0"], "no analysis to run"),
        *(
            (["--trainer.precision", kind], "single precision")
            for kind in ("64-true", "16-true", "bf16-true")
        ),
    ]
    for more, said in refused:
        with pytest.raises(SystemExit) as stop:
            main([*words, *more])
        assert stop.value.code == 2
        assert said in capsys.readouterr().err
    main([*words, "--trainer.precision", "bf16-mixed", "--trainer.callbacks.init_args.skip", "0"])
