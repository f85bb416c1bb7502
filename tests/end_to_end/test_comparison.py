"""``python benchmarks/comparison.py`` on a world small enough for seconds."""

from __future__ import annotations

import copy
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from distributed import LocalCluster
from filelock import FileLock

import vaevar.experiments.comparison.cluster as cluster_module
from vaevar.experiments.comparison.configs import resolve
from vaevar.experiments.comparison.record import MEAN, fingerprints, read
from vaevar.experiments.comparison.truth import TRUTH

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "comparison.py"
RESULTS = Path("benchmarks/results/comparison")
COMMAND = ["--config", "cycle.yaml", "comparison.yaml", "--columns", "20", "--networks", "fixed", "moving"]
COMMAND += ["--seeds", "0"]


@pytest.fixture
def config(configs: dict[str, Path]) -> Path:
    """A cycle with two arms, and the committed settings of the comparison as an overlay, made small."""
    content = yaml.safe_load(configs["predict"].read_text())
    content["model"]["init_args"]["arms"] = {
        "free": {"class_path": "vaevar.assim.assimilator.FreeRun"},
        "interpolation": {
            "class_path": "vaevar.assim.interpolation.linear.LinearInterpolation",
            "init_args": {"range_km": 3000.0}
        },
    }  # fmt: skip
    content["data"]["init_args"]["start"] = "2021-01-15T00"  # the store reaches five days beyond the cycle
    configs["predict"].write_text(yaml.safe_dump(content, sort_keys=False))
    committed = yaml.safe_load((PROGRAM.parents[1] / "configs" / "comparison.yaml").read_text())
    committed["data"]["init_args"]["analyses"] = 4
    callbacks = {entry["class_path"].rpartition(".")[2]: entry for entry in committed["trainer"]["callbacks"]}
    assert set(callbacks) == {"StateWriter", "Scores", "Forecasts", "Dashboards"}
    callbacks["Scores"]["init_args"]["skip"] = 1
    callbacks["Forecasts"]["init_args"]["every"] = 2
    callbacks["Dashboards"]["init_args"] |= {"channels": ["z500"], "maps": []}
    Path("comparison.yaml").write_text(yaml.safe_dump(committed, sort_keys=False))
    return configs["predict"]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The program's main, called with the words of a command line."""
    spec = importlib.util.spec_from_file_location("comparison_program", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)

    def call(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(PROGRAM), *COMMAND, *words])
        program.command_line()

    return call


def runs(out: str) -> list[str]:
    """Cases and arms that a command began, as it says itself."""
    return [line.split(" ", 1)[1].removesuffix(": begins") for line in out.splitlines() if "begins" in line]


def change(path: Path, edit: Callable[[dict], Any]) -> None:
    content = yaml.safe_load(path.read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def test_runs_what_is_missing_or_stale(
    config: Path, compare: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    compare("--arms", "free")
    assert runs(capsys.readouterr().out) == ["fixed_20_seed0 free", "moving_20_seed0 free"]
    compare()
    both = ["fixed_20_seed0 interpolation", "moving_20_seed0 interpolation"]
    assert runs(capsys.readouterr().out) == both
    table = read(RESULTS / "moving_20_seed0.csv")
    assert set(table["arm"]) == {"free", "interpolation"}
    assert set(table["network"]) == {"moving"}

    # The numbers are those of the run: roots taken after the mean over the last three of four times.
    chosen = table[(table["arm"] == "interpolation")].set_index(["quantity", "channel"])["value"]
    (run,) = Path("runs/comparison/moving_20_seed0").glob("interpolation-*/scores.csv")
    scores = pd.read_csv(run).query("channel == 'z500' and quantity == 'analysis'")["rmse"]
    assert chosen["analysis", "z500"] == pytest.approx(np.sqrt((scores[1:] ** 2).mean()), rel=1e-5)
    forecasts = pd.read_csv(run.with_name("forecasts.csv")).query("channel == 'z500' and lead_hours == 72")
    assert len(forecasts) == 2
    assert chosen["forecast_72h", "z500"] == pytest.approx(forecasts["rmse"].iloc[1], rel=1e-5)
    assert chosen["seconds", ""] > 0
    written = yaml.safe_load(run.with_name("config.yaml").read_text())["data"]["init_args"]
    case = {"count": 20, "seed": 0, "moving": True}
    assert written["network"]["init_args"] == case | {"quantities": None}

    text = RESULTS.with_suffix(".md").read_text()
    assert "--columns 20" in text
    assert f"| moving | 20 | interpolation | {chosen['analysis', MEAN]:.4g} |" in text
    assert RESULTS.with_suffix(".png").stat().st_size > 10_000

    # In a fresh clone, which has the records only, nothing is done again.
    Path("runs/comparison").rename("runs/elsewhere")
    compare()
    assert runs(capsys.readouterr().out) == []
    # An arm's settings change: it alone is stale. The table leaves it out until it has been run.
    change(
        config,
        lambda c: c["model"]["init_args"]["arms"]["interpolation"]["init_args"].update(range_km=2000.0),
    )
    compare("--table-only")
    assert "2 of other settings" in RESULTS.with_suffix(".md").read_text()
    compare()
    assert runs(capsys.readouterr().out) == both
    assert "other settings" not in RESULTS.with_suffix(".md").read_text()
    after = read(RESULTS / "moving_20_seed0.csv")
    pd.testing.assert_frame_equal(after[after["arm"] == "free"], table[table["arm"] == "free"])
    assert not after.equals(table)


def test_other_weather_is_not_set_beside_the_records(
    config: Path, compare: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    fixed, moving = (RESULTS / f"{network}_20_seed0.csv" for network in ("fixed", "moving"))
    compare("--arms", "free")
    table = read(fixed)
    table["value"] = table["value"].where(table["quantity"] != TRUTH, 1.01 * table["value"])
    table.to_csv(fixed, index=False)
    # Records of two machines are in no table together.
    with pytest.raises(SystemExit):
        compare("--table-only")
    assert "the truth of a comparison must be one" in capsys.readouterr().err
    # Those of another machine are fine, until runs of this one are to be set beside them.
    moving.unlink()
    compare("--table-only")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        compare()
    captured = capsys.readouterr()
    assert captured.err.count("1 run of free") == 1
    assert "this machine's" in captured.err
    assert not runs(captured.out)
    compare("--arms", "free", "--results", "own")
    assert len(runs(capsys.readouterr().out)) == 2


def test_killed_goes_on_from_its_restart(
    config: Path,
    compare: Callable[..., None],
    killed_in_the_third_analysis: Callable[[Callable[[], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = ["--networks", "fixed", "--arms", "interpolation"]
    compare(*one)
    whole = read(RESULTS / "fixed_20_seed0.csv")
    Path("runs/comparison").rename("runs/elsewhere")
    (RESULTS / "fixed_20_seed0.csv").unlink()
    killed_in_the_third_analysis(lambda: compare(*one))
    assert not (RESULTS / "fixed_20_seed0.csv").exists()
    (arm,) = Path("runs/comparison/fixed_20_seed0").glob("interpolation-*/interpolation")
    done = pd.read_csv(arm / "diagnostics.csv")
    compare(*one)
    again = read(RESULTS / "fixed_20_seed0.csv")
    keep = whole["quantity"] != "seconds"
    pd.testing.assert_frame_equal(again[keep], whole[keep])
    # The first two analyses were not made again: their times of computation are the first ones.
    assert pd.read_csv(arm / "diagnostics.csv")["seconds"].tolist()[:2] == done["seconds"].tolist()[:2]


def test_failures_and_mistakes(
    config: Path, compare: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        compare("--arms", "nobody")
    assert "no arms nobody" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        compare("--table-only")
    assert "no results" in capsys.readouterr().err
    # What another process is at is left to it.
    Path("runs/comparison/fixed_20_seed0").mkdir(parents=True)
    of = fingerprints(resolve(["cycle.yaml", "comparison.yaml"]))["free"]
    with FileLock(f"runs/comparison/fixed_20_seed0/free-{of}.lock"), pytest.raises(SystemExit):
        compare("--networks", "fixed", "--arms", "free")
    assert runs(capsys.readouterr().out) == []
    # An arm that fails does not stop the others.
    arm = {
        "class_path": "vaevar.assim.control.decoder.DecoderControl",
        "init_args": {"checkpoint": "nowhere.ckpt"},
    }
    broken = {"class_path": "vaevar.assim.variational.VariationalAssimilator", "init_args": {"control": arm}}
    change(config, lambda content: content["model"]["init_args"].update(
        arms={"broken": broken, **content["model"]["init_args"]["arms"]}
    ))  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        compare("--networks", "fixed", "--arms", "broken", "free")
    assert stop.value.code
    assert "nowhere.ckpt" in capsys.readouterr().err
    assert set(read(RESULTS / "fixed_20_seed0.csv")["arm"]) == {"free"}
    assert "1 of 2 runs" in RESULTS.with_suffix(".md").read_text()


def with_callback(name: str, **settings: Any) -> None:
    """Add a callback of the tests to the comparison's config; no number depends on it."""
    entry = {"class_path": f"tests.end_to_end.interruption.{name}", "init_args": settings}
    change(Path("comparison.yaml"), lambda content: content["trainer"]["callbacks"].append(entry))


def program(*words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parents[1])}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *COMMAND, *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
def test_processes_share_the_work_and_one_that_dies_is_told(config: Path) -> None:
    with_callback("Death")
    process = program("--processes", "2")
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error[-3000:]
    assert len(set(runs(out))) == 4
    assert len(runs(out)) == 5
    (death,) = [line for line in out.splitlines() if "has died" in line]
    assert death.endswith("it is tried once more")
    for network in ("fixed", "moving"):
        table = read(RESULTS / f"{network}_20_seed0.csv")
        assert set(table["arm"]) == {"free", "interpolation"}
        assert set(table.query("quantity == 'threads'")["value"]) == {1}
    assert len(pd.read_csv(RESULTS.with_suffix(".csv"))) == 2 * 2 * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_stop_ends_all_processes(name: str, config: Path, compare: Callable[..., None]) -> None:
    with_callback("Slow", seconds=1.0)
    process = program("--networks", "fixed", "--processes", "2")
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(2)]
    assert all("begins" in line for line in said), said
    number = getattr(signal, name)
    if name == "SIGINT":  # from a terminal: all processes get it
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, error = process.communicate(timeout=30)  # which ends when no process has its streams any more
    assert process.returncode == 128 + number
    assert error == f"stopped by {name}: the same command goes on from there\n"
    assert not list(Path().rglob("*.partial"))
    assert not RESULTS.with_suffix(".csv").exists()
    change(Path("comparison.yaml"), lambda content: content["trainer"]["callbacks"].pop())
    compare("--networks", "fixed")
    assert set(read(RESULTS / "fixed_20_seed0.csv")["arm"]) == {"free", "interpolation"}


@pytest.mark.slow
def test_the_workers_of_a_scheduler_take_the_work_and_stay(
    config: Path, compare: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0
    ) as cluster:
        compare("--scheduler", cluster.scheduler_address, "--arms", "free")
        out = capsys.readouterr().out
        assert runs(out) == ["fixed_20_seed0 free", "moving_20_seed0 free"]
        assert out.count("analysis rmse / std") == 2
        assert len(cluster.scheduler.workers) == 1
    assert set(read(RESULTS / "moving_20_seed0.csv")["arm"]) == {"free"}


def refused(compare: Callable[..., None], capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        compare(*words)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_clusters_that_cannot_do_it(
    config: Path,
    compare: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = refused(compare, capsys, "--scheduler", "tcp://127.0.0.1:1", "--processes", "2")
    assert "leave out --processes" in both
    assert "add --processes 2" in refused(compare, capsys, "--dashboard", "8787")
    monkeypatch.setattr(cluster_module, "_CONNECT_SECONDS", 1)
    nobody = refused(compare, capsys, "--scheduler", "tcp://127.0.0.1:1")
    assert "no scheduler of dask answers there" in nobody
    with LocalCluster(
        n_workers=1, threads_per_worker=3, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0"
    ) as cluster:
        many = refused(compare, capsys, "--scheduler", cluster.scheduler_address)
    assert "has 3 threads for tasks" in many


def test_arms_of_several_cycles_are_compared(
    config: Path, compare: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    known = fingerprints(resolve(["cycle.yaml", "comparison.yaml"]))
    other = yaml.safe_load(config.read_text())
    arms = other["model"]["init_args"]["arms"]
    arms["far"] = copy.deepcopy(arms["interpolation"])
    arms["far"]["init_args"]["range_km"] = 5000.0
    del arms["interpolation"]
    Path("more.yaml").write_text(yaml.safe_dump(other))
    of_both = fingerprints(resolve(["cycle.yaml", "more.yaml", "comparison.yaml"]))
    assert list(of_both) == ["free", "interpolation", "far"]
    assert {name: of_both[name] for name in known} == known
    words = [
        "--config",
        "cycle.yaml",
        "more.yaml",
        "comparison.yaml",
        "--networks",
        "fixed",
        "--arms",
        "free",
        "far",
    ]
    compare(*words)
    assert runs(capsys.readouterr().out) == ["fixed_20_seed0 free", "fixed_20_seed0 far"]
    assert list(dict.fromkeys(pd.read_csv(RESULTS.with_suffix(".csv"))["arm"])) == ["free", "far"]
    change(Path("more.yaml"), lambda content: content["data"]["init_args"].update(lead_hours=24))
    said = refused(compare, capsys, *words)
    assert "more.yaml: its arm far cannot be compared" in said
    assert "data" in said
