"""``fit`` and ``predict`` in two processes (gloo on the CPU), as launched from a shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vaevar.cli import main

PROGRAM = Path(__file__).parents[2] / "main.py"
TWO_PROCESSES = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]


def run(*arguments: str) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parent)}
    command = [sys.executable, str(PROGRAM), *arguments, *TWO_PROCESSES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_arms_are_shared_out_and_scores_are_those_of_one_process(ready: dict[str, Path]) -> None:
    main(["predict", "--config", str(ready["predict"])])
    alone = pd.read_csv("runs/cycle/scores.csv")
    run("predict", "--config", str(ready["predict"]), "--trainer.logger.init_args.name", "two")
    together = pd.read_csv("runs/two/scores.csv")
    key = ["time", "arm", "channel", "quantity"]
    pd.testing.assert_frame_equal(
        together.sort_values(key, ignore_index=True), alone.sort_values(key, ignore_index=True), rtol=1e-5
    )


@pytest.mark.slow
def test_fit_in_two_processes_writes_one_checkpoint(configs: dict[str, Path]) -> None:
    run("fit", "--config", str(configs["fit"]), "--trainer.precision", "bf16-mixed")
    assert Path("runs/vae/checkpoints/best.ckpt").is_file()


def losses(directory: str, name: str) -> list[float]:
    events = EventAccumulator(directory)
    events.Reload()
    return [scalar.value for scalar in events.Scalars(name)]


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_doubled_batch(configs: dict[str, Path]) -> None:
    settings = ["fit", "--config", str(configs["fit"]), "--trainer.log_every_n_steps", "1"]
    settings += ["--trainer.max_epochs", "2", "--data.init_args.flip_sign", "true"]
    name, batch = "--trainer.logger.init_args.name", "--data.init_args.batch_size"
    main([*settings, name, "one", batch, "4"])
    run(*settings, name, "two", batch, "2")
    for quantity, least in (("train/loss", 10), ("val/loss", 2)):
        alone, together = losses("runs/one", quantity), losses("runs/two", quantity)
        assert len(alone) >= least
        np.testing.assert_allclose(together, alone, rtol=1e-4)
