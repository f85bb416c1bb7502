"""``fit`` and ``predict`` in two processes (gloo on the CPU), as launched from a shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from vaevar.cli import main

PROGRAM = Path(__file__).parents[2] / "main.py"
TWO_PROCESSES = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]


def run(*arguments: str) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parent)}
    command = [sys.executable, str(PROGRAM), *arguments, *TWO_PROCESSES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_arms_are_shared_out_and_scores_are_those_of_one_process(ready: dict[str, Path]) -> None:
    main(["predict", "--config", str(ready["predict"])])
    alone = pd.read_csv("runs/cycle/scores.csv")
    run("predict", "--config", str(ready["predict"]), "--trainer.logger.init_args.name", "two")
    together = pd.read_csv("runs/two/scores.csv")
    key = ["time", "arm", "channel", "quantity"]
    pd.testing.assert_frame_equal(
        together.sort_values(key, ignore_index=True), alone.sort_values(key, ignore_index=True), rtol=1e-5
    )


def test_fit_in_two_processes_writes_one_checkpoint(configs: dict[str, Path]) -> None:
    run("fit", "--config", str(configs["fit"]), "--trainer.precision", "bf16-mixed")
    assert Path("runs/vae/checkpoints/best.ckpt").is_file()
