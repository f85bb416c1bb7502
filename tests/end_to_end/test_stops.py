"""Programs that are told to stop, as from a shell or by a cluster: what they leave, and how they go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from tests.end_to_end.test_two_processes import PROGRAM
from vaevar.cli import main
from vaevar.models.training.checkpoint_io import latest

JOB = {
    "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "fit", "SLURM_NTASKS": "1", "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "localhost",
}  # fmt: skip


def stopped(config: Path, subcommand: str, at: tuple[str, str, int], *more: str, **variables: str) -> str:
    """The line that is said when a signal (name, hook, call) has ended a program."""
    content = yaml.safe_load(config.read_text())
    name, hook, call = at
    init_args = {"name": name, "hook": hook, "call": call}
    callback = {"class_path": "tests.end_to_end.interruption.Signal", "init_args": init_args}
    content["trainer"]["callbacks"].append(callback)
    overlay = config.with_name("stopped.yaml")
    overlay.write_text(yaml.safe_dump(content, sort_keys=False))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parent)} | variables
    command = [sys.executable, str(PROGRAM), subcommand, "--config", str(overlay), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 128 + getattr(signal, name), done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1].startswith(f"stopped by {name}: ")
    return lines[-1]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.slow
def test_a_fit_goes_on_to_the_same_weights(configs: dict[str, Path]) -> None:
    content = yaml.safe_load(configs["fit"].read_text())
    kept = content["trainer"]["callbacks"][0]["init_args"]
    kept |= {"save_last": True, "enable_version_counter": False}
    content["data"]["init_args"] |= {"in_memory": False, "flip_sign": True, "workers": 2}
    configs["fit"].write_text(yaml.safe_dump(content, sort_keys=False))
    name = "--trainer.logger.init_args.name"
    main(["fit", "--config", str(configs["fit"]), name, "whole"])
    directory = Path("runs/parts/checkpoints")
    path = directory / "stopped.ckpt"

    line = stopped(configs["fit"], "fit", ("SIGTERM", "on_train_batch_start", 5), name, "parts")
    assert line.endswith(f"after step 5; the same command goes on from {path.absolute()}")
    assert os.listdir(directory) == ["stopped.ckpt"]
    # At the last batch of an epoch, then in the middle of a validation.
    resume = (name, "parts", "--ckpt_path", str(path))
    for at in (("SIGINT", "on_train_batch_start", 4), ("SIGHUP", "on_validation_batch_start", 2)):
        assert "after step 9;" in stopped(configs["fit"], "fit", at, *resume)
        assert latest(directory) == path
    main(["fit", "--config", str(configs["fit"]), name, "parts"])
    assert sorted(os.listdir(directory)) == ["best.ckpt", "last.ckpt"]
    for file in ("best.ckpt", "last.ckpt"):
        whole, parts = weights(Path("runs/whole/checkpoints") / file), weights(directory / file)
        assert all(torch.equal(value, parts[key]) for key, value in whole.items())


def test_a_job_leaves_nothing_in_the_current_directory(configs: dict[str, Path], tmp_path: Path) -> None:
    """And takes nothing from there: the file would be another run's."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/requeued\n')
    scontrol.chmod(0o755)
    job = JOB | {"PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    Path("hpc_ckpt_3.ckpt").write_text("another run's")
    before = sorted(os.listdir())
    line = stopped(configs["fit"], "fit", ("SIGUSR1", "on_train_batch_start", 2), **job)
    assert line.endswith("job 7 is in the queue again")
    assert Path("requeued").read_text() == "requeue 7\n"
    assert set(os.listdir()) - set(before) <= {"runs", "data", "requeued", "stopped.yaml"}


def test_a_cycle_goes_on_to_the_same_scores(ready: dict[str, Path]) -> None:
    name = "--trainer.logger.init_args.name"
    main(["predict", "--config", str(ready["predict"]), name, "whole"])
    at = ("SIGTERM", "on_predict_batch_start", 3)
    assert "the same command" in stopped(ready["predict"], "predict", at, name, "parts")
    main(["predict", "--config", str(ready["predict"]), name, "parts"])
    whole, parts = (pd.read_csv(f"runs/{run}/scores.csv") for run in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole, parts)


REFUSALS = {
    "strategy": (["--trainer.strategy", "dpp"], {}, "dpp"),
    "accelerator": (["--trainer.accelerator", "gpux"], {}, "gpux"),
    "devices": (["--trainer.devices", "[0, 7]"], {}, "devices"),
    "nodes": (["--trainer.num_nodes", "0"], {}, "num_nodes"),
    "duration": (["--trainer.max_time", "abc"], {}, "abc"),
    "validation": (["--trainer.val_check_interval", "100"], {}, "val_check_interval"),
    "best": (["--ckpt_path", "best"], {}, "best"),
    "hpc": (["--ckpt_path", "hpc"], {}, "hpc"),
    "tasks": ([], JOB | {"SLURM_NTASKS": "2"}, "ntasks"),
    "tasks of a node": ([], JOB | {"SLURM_NTASKS_PER_NODE": "3"}, "SLURM"),
    "no tasks": ([], {key: JOB[key] for key in JOB if key != "SLURM_LOCALID"}, "SLURM_LOCALID"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_lightning_refuses_is_one_line(
    case: str,
    configs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options, variables, named = REFUSALS[case]
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
        options = [*options, "--trainer.strategy", "ddp"]
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(configs["fit"]), *options])
    assert stop.value.code == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert named in told[0]
