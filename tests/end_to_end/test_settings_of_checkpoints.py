"""A fit that is given a checkpoint uses what the command asks for, or refuses with both values."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from vaevar.cli import main

KL, NAME = "--model.init_args.kl_weight", "--trainer.logger.init_args.name"


@pytest.fixture
def fit(configs: dict[str, Path]) -> Path:
    content = yaml.safe_load(configs["fit"].read_text())
    content["trainer"] |= {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1}
    content["trainer"]["callbacks"] = [
        {
            "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
            "init_args": {"save_last": True, "enable_version_counter": False},
        },
        {"class_path": "vaevar.models.training.export.ExportWeights", "init_args": {"path": "vae.ckpt"}},
    ]
    configs["fit"].write_text(yaml.safe_dump(content, sort_keys=False))
    return configs["fit"]


def command(fit: Path, *words: str, name: str = "fit") -> None:
    main([name, "--config", str(fit), *words])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        command(*arguments)  # type: ignore[arg-type]
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    return line


@pytest.mark.parametrize(
    "way", [[], ["--ckpt_path", "last"], ["--ckpt_path", "runs/one/checkpoints/last.ckpt"]]
)
def test_callbacks_keep_the_settings_that_are_asked_for(
    way: list[str], fit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning takes the patience of EarlyStopping from the checkpoint."""
    stops = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss", "patience": 5}}
    content = yaml.safe_load(fit.read_text())
    content["trainer"]["callbacks"].append(stops)
    fit.write_text(yaml.safe_dump(content, sort_keys=False))
    command(fit, NAME, "one")
    stops["init_args"]["patience"] = 7
    fit.write_text(yaml.safe_dump(content, sort_keys=False))
    capsys.readouterr()
    command(fit, NAME, "one", "--trainer.max_epochs", "2", *way)
    said = capsys.readouterr().out
    assert "patience of EarlyStopping: 5 in the checkpoint, 7 now" in said
    states = torch.load("runs/one/checkpoints/last.ckpt", weights_only=True)["callbacks"]
    (patience,) = [state["patience"] for key, state in states.items() if key.startswith("EarlyStopping")]
    assert patience == 7


def test_settings_beside_a_checkpoint(fit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(fit, NAME, "one")
    last = "runs/one/checkpoints/last.ckpt"
    # Of the run itself, wherever it lies: as all settings of a run, it stays.
    shutil.copy(last, "copy.ckpt")
    for path in (last, "copy.ckpt", "last"):
        line = refused(capsys, fit, NAME, "one", "--ckpt_path", path, "--trainer.max_epochs", "2", KL, "0.01")
        assert "kl_weight: 1.0 there, 0.01 now" in line
    other = ("--data.init_args.batch_size", "3")
    assert "batch_size: " in refused(capsys, fit, NAME, "one", "--ckpt_path", last, *other)
    # Of another run: used, and said.
    more = ("--ckpt_path", last, "--trainer.max_epochs", "2", KL, "0.01")
    command(fit, NAME, "two", *more)
    said = capsys.readouterr().out
    assert "those given now are used: model.init_args.kl_weight: 1.0 there, 0.01 now" in said
    saved = torch.load("runs/two/checkpoints/last.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["kl_weight"] == 0.01
    assert yaml.safe_load(Path("runs/two/config.yaml").read_text())["model"]["init_args"]["kl_weight"] == 0.01
    record = json.loads(Path("runs/two/provenance.json").read_text())["settings"]
    assert (record["model.init_args.kl_weight"], record["ckpt_path"]["file"]) == (0.01, last)
    # What the optimiser's state or the weights bring with them cannot be changed.
    rate = ("--model.init_args.learning_rate", "0.5")
    line = refused(capsys, fit, NAME, "three", "--ckpt_path", last, "--trainer.max_epochs", "2", *rate)
    assert "learning rate: " in line
    assert "0.5 now" in line
    width = ("--model.init_args.latent_channels", "2")
    line = refused(capsys, fit, NAME, "three", "--ckpt_path", last, "--trainer.max_epochs", "2", *width)
    assert "latent_channels: " in line
    assert "2 now" in line
    assert not Path("runs/three/checkpoints").exists()
    # Judged, too.
    command(fit, "--ckpt_path", last, KL, "0.5", name="validate")
    assert "kl_weight: 1.0 in the checkpoint, 0.5 now" in capsys.readouterr().out
    command(fit, NAME, "four", name="validate")
    assert (
        "validate: without --ckpt_path the model is judged as its config makes it" in capsys.readouterr().out
    )
    line = refused(capsys, fit, NAME, "none", "--ckpt_path", "last")
    assert "--ckpt_path last: no checkpoint of a fit lies in " in line


def test_weights_that_another_fit_has_replaced_are_told(
    fit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(fit, NAME, "one")
    command(fit, NAME, "one")
    assert "this fit has ended" in capsys.readouterr().out
    command(fit, KL, "0.1", NAME, "two")
    line = refused(capsys, fit, NAME, "one")
    assert "vae.ckpt: is no longer what this fit has written" in line
    command(fit, KL, "0.1", NAME, "two")
    assert "this fit has ended" in capsys.readouterr().out


def test_a_monitor_does_not_drop_the_export(fit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overlay = fit.with_name("overlay.yaml")
    overlay.write_text("trainer: {callbacks: [LearningRateMonitor]}\n")
    for number, more in enumerate((["--config", str(overlay)], ["--trainer.callbacks", "null"])):
        Path("vae.ckpt").unlink(missing_ok=True)
        command(fit, *more, NAME, f"run{number}")
        assert "ExportWeights of an earlier config is kept" in capsys.readouterr().out
        assert Path("vae.ckpt").is_file()
        assert Path(f"runs/run{number}/checkpoints/last.ckpt").is_file()
    command(fit, "--trainer.callbacks+=LearningRateMonitor", NAME, "run2")
    assert "earlier config" not in capsys.readouterr().out


def test_unfinished_weights_are_told(
    fit: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the time were up after the first batch.
    monkeypatch.setattr("lightning.pytorch.callbacks.Timer.time_remaining", lambda *_: 0.0)
    command(fit, "--trainer.max_time", "00:01:00:00", NAME, "short")
    assert "vae.ckpt: weights of an unfinished fit (max_time has ended" in capsys.readouterr().out
    assert "max_time" in torch.load("vae.ckpt", weights_only=True)["provenance"]["unfinished"]
