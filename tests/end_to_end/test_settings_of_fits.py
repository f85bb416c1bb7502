"""Settings of a fit that only its data or its first batches show to be mistakes: named, or told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from vaevar.cli import main

M = "--model.init_args."
LAST_STEP = "the weights that were written are those of the last step"


@pytest.fixture
def fit(configs: dict[str, Path]) -> Path:
    content = yaml.safe_load(configs["fit"].read_text(encoding="utf-8"))
    content["trainer"] |= {"max_epochs": 1, "limit_val_batches": 1, "callbacks": []}
    configs["fit"].write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return configs["fit"]


def with_callbacks(fit: Path, *callbacks: tuple[str, dict[str, Any]]) -> None:
    content = yaml.safe_load(fit.read_text(encoding="utf-8"))
    content["trainer"]["callbacks"] = [
        {"class_path": name, "init_args": settings} for name, settings in callbacks
    ]
    fit.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def refused(fit: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(fit), *words])
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert not Path("runs").exists()
    return line


def test_a_model_for_other_states_than_the_samples(fit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value, mine, there in (
        ("nlat", "17", "17", "16"),
        ("nlon", "64", "64", "32"),
        ("gaussian", "false", "false", "true"),
        ("gaussian", "cells", "cells", "true"),
        ("levels", "[500, 700]", "[500, 700]", "[500, 850]"),
        ("surface", "[t2m]", "[t2m]", "[t2m, msl]"),
        ("upper", "[u, z]", "[u, z]", "[z, u]"),
    ):
        line = refused(fit, capsys, f"{M}{name}", value)
        said = f"errors.zarr: model.init_args.{name} is {mine}, that of the data {there}; make them agree"
        assert said in line


def test_what_may_not_be_meant_is_told(fit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", "--config", str(fit), f"{M}warmup_steps", "1000", "--data.init_args.batch_size", "1000"])
    told = (
        "model.init_args.warmup_steps is 1000, but the fit is over after 1, before the learning rate",
        "data.init_args.batch_size is 1000, but there are 39 training samples",
    )
    said = capsys.readouterr().err
    kept = json.loads(Path("runs/vae/provenance.json").read_text(encoding="utf-8"))["warnings"]
    for text in told:
        assert f"warning: {text}" in said
        assert any(line.startswith(text) for line in kept)


def test_a_monitor_of_nothing(fit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--trainer.max_steps", "1", "--trainer.max_epochs", "-1")
    chooses = ("ModelCheckpoint", {"monitor": "val/los"})
    # Before the first step, where there is a validation before it.
    for name in ("ModelCheckpoint", "EarlyStopping"):
        with_callbacks(fit, (name, {"monitor": "val/los"}))
        line = refused(fit, capsys)
        assert re.search(rf"monitor of {name} is val/los, which is not logged; these are: .*val/loss", line)
    # Where no validation has run, Lightning keeps nothing and says nothing.
    with_callbacks(fit, chooses)
    line = refused(fit, capsys, *short, "--trainer.num_sanity_val_steps", "0")
    assert "its monitor val/los was never logged, as no validation has run" in line
    assert "nothing was kept" in line
    with_callbacks(fit, chooses, ("ExportWeights", {"path": "vae.ckpt"}))
    main(["fit", "--config", str(fit), *short, "--trainer.num_sanity_val_steps", "0"])
    assert LAST_STEP in capsys.readouterr().err
    assert Path("vae.ckpt").is_file()


def test_a_monitor_of_the_training_is_none_of_the_validation(fit: Path) -> None:
    with_callbacks(fit, ("ModelCheckpoint", {"monitor": "train/loss", "filename": "best"}))
    main(["fit", "--config", str(fit)])
    assert Path("runs/vae/checkpoints/best.ckpt").is_file()


def test_a_fit_without_an_end(fit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    endless = ("--trainer.max_epochs", "-1", "--trainer.max_time", "00:00:00:02")
    assert "neither max_epochs nor max_steps says when that is" in refused(fit, capsys, *endless)
    main(["fit", "--config", str(fit), *endless, f"{M}cosine", "false", f"{M}warmup_steps", "0"])
