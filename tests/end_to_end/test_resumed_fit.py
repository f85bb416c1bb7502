"""A fit that was killed in the middle of an epoch and resumed ends with the weights of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.end_to_end.test_two_processes import run
from vaevar.cli import main

KILLED = 14  # of 2 × 9 steps


@pytest.fixture
def fit(configs: dict[str, Path]) -> Path:
    """The config of a fit that keeps its state every few steps; samples come from the disk, flipped."""
    content = yaml.safe_load(configs["fit"].read_text())
    content["trainer"]["callbacks"] = [
        {
            "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
            "init_args": {
                "filename": "{step}", "every_n_train_steps": 4, "save_top_k": -1,
                "save_on_train_epoch_end": False,
            },
        }
    ]  # fmt: skip
    content["data"]["init_args"] |= {"in_memory": False, "flip_sign": True, "roll_longitude": 4}
    configs["fit"].write_text(yaml.safe_dump(content, sort_keys=False))
    return configs["fit"]


def command(fit: Path, name: str, *more: str) -> list[str]:
    return ["fit", "--config", str(fit), "--trainer.logger.init_args.name", name, *more]


def interrupted(fit: Path, step: int) -> list[str]:
    callback = {"class_path": "tests.end_to_end.interruption.Interruption", "init_args": {"step": step}}
    overlay = fit.with_name("interrupted.yaml")
    content = yaml.safe_load(fit.read_text())
    content["trainer"]["callbacks"].append(callback)
    overlay.write_text(yaml.safe_dump(content, sort_keys=False))
    return command(overlay, "parts")


def checkpoints(name: str) -> dict[int, Path]:
    """By the step they were written after."""
    return {int(path.stem[5:]): path for path in Path(f"runs/{name}/checkpoints").glob("step=*.ckpt")}


def resumed(fit: Path) -> list[str]:
    found = checkpoints("parts")
    assert max(found) < KILLED
    return command(fit, "parts", "--ckpt_path", str(found[max(found)]))


def assert_ends_are_equal() -> None:
    whole, parts = checkpoints("whole"), checkpoints("parts")
    assert whole.keys() == parts.keys()
    assert max(whole) > KILLED
    ends: list[dict[str, Any]] = [torch.load(x[max(x)], weights_only=False) for x in (whole, parts)]
    assert ends[0]["global_step"] == ends[1]["global_step"]
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name


@pytest.mark.parametrize("workers", ["0", "2"])
def test_in_one_process(fit: Path, workers: str) -> None:
    threads = ["--data.init_args.workers", workers]
    main(command(fit, "whole"))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        main([*interrupted(fit, KILLED), *threads])
    main([*resumed(fit), *threads])
    assert_ends_are_equal()


@pytest.mark.slow
def test_in_two_processes(fit: Path) -> None:
    settings = ["--data.init_args.batch_size", "2"]
    run(*command(fit, "whole"), *settings)
    with pytest.raises(AssertionError):  # by the exit code
        run(*interrupted(fit, KILLED), *settings)
    run(*resumed(fit), *settings)
    assert_ends_are_equal()
