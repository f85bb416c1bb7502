"""The benchmarks, at sizes that take seconds."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from vaevar.cli import main
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.standins.forecaster import write
from vaevar.state import StateSpec

ROOT = Path(__file__).parents[2]


def run(program: str, *words: object) -> str:
    """What a program of benchmarks/ prints."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "benchmarks" / program), *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def test_training(configs: dict[str, Path]) -> None:
    words = ["--config", configs["fit"], "--checkpoint_activations", "false", "true", "--steps", 2]
    printed = run("training.py", *words, "--json_path", "results.json")
    plain, checkpointed = read("results.json")["cases"]
    assert plain["batch_size"] == 4  # the config's
    assert plain["points"] == [16, 32]
    assert not plain["checkpoint_activations"]
    assert checkpointed["checkpoint_activations"]
    assert (
        1.1 < checkpointed["gflop"] / plain["gflop"] < 1.5
    )  # one more forward pass is a third, of the stages
    for case in (plain, checkpointed):
        assert case["samples_per_s"] == pytest.approx(4 / case["seconds"])
        assert case["peak_gb"] >= case["peak_gb_before"] > 0
        assert case["of_matmul"] > 0
        least = case["gflop"] / case["matmul_gflops"]
        assert case["of_matmul"] == pytest.approx(least / case["busy_seconds"])
    assert printed.count("the limit is") == 2


@pytest.mark.slow
def test_training_in_two_processes(configs: dict[str, Path]) -> None:
    words = ["--config", configs["fit"], "--devices", 2, "--precision", "bf16-mixed", "--steps", 1]
    run("training.py", *words, "--checkpoint_activations", "true", "--json_path", "results.json")
    (case,) = read("results.json")["cases"]
    assert case["samples_per_s"] == pytest.approx(2 * 4 / case["seconds"])


def test_cycle(configs: dict[str, Path]) -> None:
    content = yaml.safe_load(configs["predict"].read_text())
    content["model"]["init_args"]["arms"] = {"free": {"class_path": "vaevar.assim.assimilator.FreeRun"}}
    content["trainer"]["callbacks"] = content["trainer"]["callbacks"][:3]
    configs["predict"].write_text(yaml.safe_dump(content))
    words = ["--config", configs["predict"], "--analyses", 3, "--json_path", "results.json"]
    printed = run("cycle.py", *words)
    found = read("results.json")
    assert found["analyses"] == 2
    assert {"arm free", "forecaster", "StateWriter", "Scores"} <= set(found["seconds"])
    assert f"the limit is {max(found['busy_seconds'], key=found['busy_seconds'].get)}" in printed


def test_forecaster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("f.onnx", rows=17, columns=32)
    words = ["--model", "f.onnx", "--mean", "f_mean.npy", "--std", "f_std.npy", "--steps", 2]
    run("forecaster.py", *words, "--json_path", "results.json")
    found = read("results.json")
    assert found["points"] == [17, 32]
    assert found["largest_difference_in_std"] < 1e-5
    assert found["seconds"] > 0
    assert found["plain_seconds"] > 0


@pytest.mark.slow
def test_analysis(tmp_path: Path) -> None:
    # The committed B on 65 × 128 points; both ways begin at the same cost and lower it.
    words = ["--statistics", ROOT / "weights" / "covariance.nc", "--methods", "threedvar", "--rows", 65]
    words += ["--columns", 20, "--iterations", 3, "--json_path", tmp_path / "results.json"]
    run("analysis.py", *words)
    ours, plain = read(str(tmp_path / "results.json"))
    assert (ours["plain"], plain["plain"]) == (False, True)
    assert ours["observations"] == plain["observations"] == 20 * 69
    for case in (ours, plain):
        assert case["j_by_iteration"] == sorted(case["j_by_iteration"], reverse=True)
        assert case["busy_seconds"] > 0
    assert ours["j"] == pytest.approx(plain["j"], rel=0.2)


@pytest.mark.slow
def test_analysis_of_vaevar(tmp_path: Path) -> None:
    # The VAE is on 48 × 96 points, the states on 65 × 128.
    weights = ROOT / "weights"
    words = ["--statistics", weights / "covariance.nc", "--vae", weights / "spectral_vae.ckpt"]
    words += ["--methods", "vaevar", "--rows", 65, "--columns", 20, "--iterations", 3]
    run("analysis.py", *words, "--json_path", tmp_path / "results.json")
    ours, plain = read(str(tmp_path / "results.json"))
    assert ours["j_by_iteration"] == sorted(ours["j_by_iteration"], reverse=True)
    assert ours["j"] == pytest.approx(plain["j"], rel=0.2)


def test_training_of_vaevars_vae(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"model": {"init_args": {"context_widths": [8]}}}))
    words = ["--configs", f"[{ROOT}/configs/spectral_vae.yaml,{overlay}]", "--steps", 1]
    words += ["--covariance", ROOT / "weights" / "cycle_covariance.nc"]
    run("training_spectral.py", *words, "--json_path", tmp_path / "results.json")
    found = read(str(tmp_path / "results.json"))
    assert (found["points"], found["latent"], found["batch_size"]) == ([48, 96], [69, 1024], 1)
    assert found["peak_gb"] >= found["peak_gb_before"] > 0
    # More than the Legendre transforms of 69 fields, there and back.
    assert found["gflop"] > 2 * 2 * 69 * 48 * 32 * 32 * 2 / 1e9
    assert found["busy_seconds"] > 0


def test_innovations(configs: dict[str, Path]) -> None:
    content = yaml.safe_load(configs["predict"].read_text())
    content["model"]["init_args"]["arms"] = {
        "free": {"class_path": "vaevar.assim.assimilator.FreeRun"},
        "near": {
            "class_path": "vaevar.assim.interpolation.linear.LinearInterpolation",
            "init_args": {"range_km": 2500.0},
        },
    }
    content["data"]["init_args"]["analyses"] = 8
    configs["predict"].write_text(yaml.safe_dump(content))
    main(["predict", "--config", str(configs["predict"])])
    printed = run("innovations.py", "--skip", 2, "--lags", "[1, 3]", "--directory", "runs/cycle")
    header, _, free, near = printed.splitlines()
    names = ["arm", "msl, 1", "t2m, 1", "u, 1", "z, 1", "all, 1", "all, 3"]
    assert header.strip("| ").split(" | ") == names
    memories = {}
    for line in (free, near):
        name, *values = line.strip("| ").split(" | ")
        memories[name] = np.array([float(value) for value in values])
        assert memories[name][4] == pytest.approx(memories[name][:4].mean(), abs=0.01)
    # Errors of a free run come back; interpolation has taken them off.
    assert memories["free"][4] > 0.4
    assert memories["near"][4] < memories["free"][4]
    table = runpy.run_path(str(ROOT / "benchmarks/innovations.py"))["table"]
    with pytest.raises(UserError, match="no arm"):
        table(Path("runs/none"), 0, [1])
    with pytest.raises(UserError, match="too few analyses"):
        table(Path("runs/cycle"), 7, [1])


class Growing:
    """Errors grow by a tenth, and all values by one, from the last of two states."""

    history, step_hours, spec = 2, 6, StateSpec(surface=("t2m", "msl"), upper=(), levels=())
    grid = Grid.gaussian(8)

    def step(self, states: Tensor) -> Tensor:
        return 1.1 * states[:, -1] + 1.0


def test_error_growth() -> None:
    sizes = runpy.run_path(str(ROOT / "benchmarks/error_growth.py"))["sizes"]
    truth = torch.zeros(3, 2, *Growing.grid.shape)
    errors = torch.tensor([7.0, 2.0, 5.0])[:, None, None, None]
    before, carried, own, together, after = sizes(Growing(), truth + errors, truth, torch.tensor(2.0))
    assert before == pytest.approx(1.0)  # of the last background but one, over the std
    assert carried == pytest.approx(1.1)
    assert own == pytest.approx(0.5)
    assert together == pytest.approx(1.0)
    assert after == pytest.approx(1.6)
