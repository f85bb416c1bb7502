"""Faults in one arm, or at one time, of a cycle: what is said of them, and how the rest goes on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml

from tests.end_to_end.commands import predict, refused
from tests.end_to_end.conftest import SPEC

FREE = {"class_path": "vaevar.assim.assimilator.FreeRun"}


def warming(**settings: Any) -> dict[str, Any]:
    return {"class_path": "tests.end_to_end.faulty.Warming", "init_args": settings}


def callback(content: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in content["trainer"]["callbacks"] if one["class_path"].endswith(f".{name}")]
    return found.setdefault("init_args", {})


@pytest.fixture
def cycle(configs: dict[str, Path]) -> Callable[..., Path]:
    """A writer of configs of a cycle with a forecaster and arms that fail when told to."""

    def write(
        change: Callable[[dict[str, Any]], None] | None = None, forecaster: dict | None = None, **arms: Any
    ) -> Path:
        content = yaml.safe_load(configs["predict"].read_text(encoding="utf-8"))
        model = content["model"]["init_args"]
        model["forecaster"] = {
            "class_path": "tests.end_to_end.faulty.Persistence",
            "init_args": {"spec": SPEC, **(forecaster or {})},
        }
        model["arms"] = {"free": FREE, **arms}
        content["data"]["init_args"]["analyses"] = 5
        callback(content, "Dashboards")["maps_every"] = 0
        callback(content, "Scores")["skip"] = 0
        if change is not None:
            change(content)
        path = configs["predict"].with_name("faulty.yaml")
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    return write


def scores(arm: str) -> pd.DataFrame:
    return pd.read_csv(f"runs/cycle/{arm}/scores.csv")


@pytest.mark.parametrize("what", ["cost", "nan", "far"])
def test_an_analysis_that_fails_keeps_its_background(
    what: str, cycle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    predict(cycle(warm=warming(what=what, at=1, until=3)))
    diagnostics = pd.read_csv("runs/cycle/warm/diagnostics.csv")
    assert diagnostics["failed"].tolist() == [0, 1, 1, 0, 0]
    assert diagnostics["j_o"].isna().tolist() == [False, True, True, False, False]
    t2m = scores("warm").query("channel == 't2m'").pivot(index="time", columns="quantity", values="bias")
    assert (t2m["analysis"] - t2m["background"]).round(3).tolist() == [1, 0, 0, 1, 1]
    said = capsys.readouterr().out
    assert said.count("arm warm at 2021-01-16T06: the analysis failed, the background is kept") == 1
    summary = Path("runs/cycle/summary.md").read_text(encoding="utf-8")
    assert "failed analyses" in summary
    assert "| 2 |" in summary
    assert pd.read_csv("runs/cycle/free/diagnostics.csv")["failed"].sum() == 0


def test_a_run_ends_with_its_last_arm(cycle: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    def alone(content: dict[str, Any]) -> None:
        callback(content, "Cycle")["failures_in_a_row"] = 1
        del content["model"]["init_args"]["arms"]["free"]
        content["data"]["init_args"]["analyses"] = 19  # the truth ends there

    config = cycle(alone, warm=warming(what="cost", at=1))
    line = refused(config, capsys)
    assert "1 of 1 arms had to stop: warm at 2021-01-16T06" in line
    assert "2 of 19" in Path("runs/cycle/summary.md").read_text(encoding="utf-8")


def test_an_arm_of_which_nothing_succeeds_stops(
    cycle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def two(content: dict[str, Any]) -> None:
        callback(content, "Cycle")["failures_in_a_row"] = 2

    line = refused(cycle(two, warm=warming(what="cost", at=1)), capsys)
    assert "1 of 2 arms had to stop: warm at 2021-01-16T12: 2 analyses in a row failed" in line
    assert "the last because the cost of the background is not finite" in line
    assert scores("free")["time"].nunique() == 5


@pytest.mark.slow
@pytest.mark.parametrize("beyond", ["nan", "far", "error"])
def test_an_arm_whose_forecast_runs_away_stops_and_is_tried_again(
    beyond: str, cycle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    limit = {"limit": 282.0, "beyond": beyond}
    whole = cycle(warm=warming(by=1.5))
    predict(whole)
    expected = pd.read_csv("runs/cycle/scores.csv")
    shutil.move("runs/cycle", "runs/whole")

    broken = cycle(forecaster=limit, warm=warming(by=1.5))
    line = refused(broken, capsys)
    stop = json.loads(Path("runs/cycle/warm/stopped.json").read_text(encoding="utf-8"))
    assert f"warm at {stop['time']}" in line
    assert "free" not in line
    assert {"nan": "t2m is NaN at 1 of", "far": "runs away", "error": "session is gone"}[beyond] in line
    assert 0 < stop["index"] < 4
    # What the others have is whole; what this one has is not averaged.
    assert scores("free")["time"].nunique() == 5
    assert scores("warm")["time"].nunique() == stop["index"] + 1
    rows = Path("runs/cycle/summary.md").read_text(encoding="utf-8").splitlines()
    (warm,) = [row for row in rows if row.startswith("| warm")]
    (free,) = [row for row in rows if row.startswith("| free")]
    assert f"{stop['time']}, analysis {stop['index'] + 1}" in warm
    assert warm.count("–") > 8
    assert free.count("–") < 4
    assert refused(broken, capsys) == line  # tried again, with the same end

    # Mended, it goes on from the last good state to the numbers of a run that never stopped.
    whole = cycle(warm=warming(by=1.5))
    record = json.loads(Path("runs/whole/provenance.json").read_text(encoding="utf-8"))
    Path("runs/cycle/provenance.json").write_text(json.dumps(record), encoding="utf-8")
    predict(whole)
    assert not Path("runs/cycle/warm/stopped.json").exists()
    pd.testing.assert_frame_equal(pd.read_csv("runs/cycle/scores.csv"), expected)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("state", "returned State, expected an Analysis"),
        ("nothing", "returned NoneType, expected an Analysis"),
        ("grid", "returned an analysis on"),
        ("words", "expected numbers by name"),
        ("key", "failed with KeyError: 'z500' (faulty.py, line"),
    ],
)
def test_a_method_that_breaks_its_contract_is_named_with_the_time(
    what: str, said: str, cycle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(cycle(warm=warming(what=what, at=2)), capsys)
    assert "arm warm at 2021-01-16T12: " in line
    assert said in line
    assert scores("free")["time"].nunique() == 2  # and the same command goes on from there


def holed(world: Path, target: Path, lacking: str | None, damaged: str | None) -> Path:
    """The truth without a time, and with a damaged file of another."""
    truth = xr.open_zarr(world / "truth.zarr", chunks=None).load()
    times = truth["time"].values
    if lacking is not None:
        truth = truth.sel(time=times[times != np.datetime64(lacking)])
    truth.to_zarr(target, zarr_format=2, encoding={name: {"chunks": (1, *array.shape[1:])}
                  for name, array in truth.data_vars.items()})  # fmt: skip
    if damaged is not None:
        number = int(np.searchsorted(truth["time"].values, np.datetime64(damaged)))
        chunk = target / "geopotential" / f"{number}.0.0.0"
        shutil.copy(chunk, target.with_name("whole"))
        chunk.write_bytes(b"torn")
    return target


@pytest.fixture
def truth_of(world: Path, tmp_path: Path) -> Callable[..., Callable[[dict[str, Any]], None]]:
    """Changes of a config: another truth, and what to do about its holes."""

    def prepared(policy: str, **holes: str | None) -> Callable[[dict[str, Any]], None]:
        path = holed(world, tmp_path / "holed.zarr", holes.get("lacking"), holes.get("damaged"))

        def change(content: dict[str, Any]) -> None:
            content["data"]["init_args"]["source"]["init_args"]["path"] = str(path)
            callback(content, "Cycle")["on_missing_truth"] = policy

        return change

    return prepared


def test_a_hole_in_the_truth_is_found_before_the_first_analysis(
    cycle: Callable[..., Path], truth_of: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(cycle(truth_of("stop", lacking="2021-01-16T18")), capsys)
    assert "no state at 2021-01-16T18" in line
    assert "on_missing_truth" in line
    assert not Path("runs/cycle/free").exists()


def test_a_damaged_time_ends_a_run_that_goes_on_once_it_is_repaired(
    cycle: Callable[..., Path], truth_of: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config = cycle(truth_of("stop", damaged="2021-01-16T18"), warm=warming())
    assert re.search(r"geopotential at 2021-01-1\dT\d\d cannot be read", refused(config, capsys))
    assert scores("warm")["time"].nunique() == 3
    path = Path(yaml.safe_load(config.read_text())["data"]["init_args"]["source"]["init_args"]["path"])
    shutil.copy(path.with_name("whole"), path / "geopotential" / "63.0.0.0")
    predict(config)
    assert scores("warm")["time"].nunique() == 5
    predict(config)  # what it was repaired to is now the run's


def test_times_without_truth_are_skipped_and_counted(
    cycle: Callable[..., Path], truth_of: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    predict(cycle(truth_of("skip", lacking="2021-01-16T06", damaged="2021-01-16T18"), warm=warming()))
    said = capsys.readouterr().out
    assert said.count("nothing is observed, the backgrounds go on") == 2
    table = scores("warm")
    unknown = table.groupby("time")["rmse"].apply(lambda rmse: rmse.isna().all())
    assert unknown.tolist() == [False, True, False, True, False]
    assert table["rmse"].isna().sum() == 2 * 12
    assert len(table) == 5 * 12
    summary = Path("runs/cycle/summary.md").read_text(encoding="utf-8")
    assert "times without truth" in summary
    assert "| 2 |" in summary
    # The analysis that could not be made is the background, and the cycle went on from it.
    t2m = [
        xr.open_zarr(f"runs/cycle/warm/{kind}.zarr", chunks=None)["2m_temperature"].values.mean((1, 2, 3))
        for kind in ("background", "analysis")
    ]
    assert np.round(t2m[1] - t2m[0], 2).tolist() == [1, 0, 1, 0, 1]
    predict(Path("faulty.yaml"))  # a finished run, looked at again, is whole
    assert scores("warm").equals(table)
