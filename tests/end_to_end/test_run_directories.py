"""The same command again, other settings, other loggers: what a user's run directories hold afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import xarray as xr
import yaml

from vaevar.cli import main
from vaevar.content.seal import sealed

SHORT = ("--data.init_args.analyses", "2", "--trainer.callbacks", "[]")
ONE_LOGGER_FOR_ALL = '''
from lightning.pytorch.loggers import Logger
class Remote(Logger):
    """A name and perhaps a save_dir, and no log_dir: as the loggers of servers are to a trainer."""
    def __init__(self, name: str = "project", save_dir: str | None = None):
        super().__init__()
        self._name, self._save_dir = name, save_dir
    name = property(lambda self: self._name)
    version = property(lambda self: "1")
    save_dir = property(lambda self: self._save_dir)
    def log_hyperparams(self, *args, **kwargs): pass
    def log_metrics(self, *args, **kwargs): pass
'''


def command(kind: str, config: Path, *words: str) -> None:
    main([kind, "--config", str(config), *words])


def refused(capsys: pytest.CaptureFixture[str], kind: str, config: Path, *words: str) -> str:
    """The one line of a command that must fail."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        command(kind, config, *words)
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    return line


def checksums(*directories: str) -> set[str]:
    files = [path for name in directories for path in Path(name).rglob("*.ckpt")]
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def weights(path: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return found


@pytest.fixture
def fit(configs: dict[str, Path]) -> Path:
    """The config of a fit that exports weights and keeps its last state."""
    content = yaml.safe_load(configs["fit"].read_text())
    checkpoint = {
        "filename": "best",
        "monitor": "val/loss",
        "save_last": True,
        "enable_version_counter": False,
    }
    export = {"class_path": "ExportWeights", "init_args": {"path": "weights/vae.ckpt"}}
    content["trainer"]["callbacks"] = [{"class_path": "ModelCheckpoint", "init_args": checkpoint}, export]
    configs["fit"].write_text(yaml.safe_dump(content, sort_keys=False))
    return configs["fit"]


@pytest.mark.slow
def test_a_fit_given_again_loses_nothing(fit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("fit", fit)
    first = checksums("runs", "weights")

    # The same again: it is over.
    capsys.readouterr()
    command("fit", fit)
    assert "runs/vae: this fit has ended" in capsys.readouterr().out
    assert checksums("runs", "weights") == first

    # Only to try something.
    line = refused(capsys, "fit", fit, "--trainer.max_epochs", "1", "--model.init_args.sigma", "2.0")
    assert "model.init_args.sigma: 0.5 there, 2.0 now" in line
    capsys.readouterr()
    command("fit", fit, "--trainer.max_epochs", "1")
    assert "runs/vae: has come to epoch 2 already, 1 are asked for; nothing to do" in capsys.readouterr().out
    command("fit", fit, "--trainer.fast_dev_run", "true")
    assert checksums("runs", "weights") == first

    # Under a name of its own it replaces the weights, but keeps them.
    command("fit", fit, "--name", "trial", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1")
    assert "weights/vae.ckpt: replaced; what it was before is kept as weights/vae." in capsys.readouterr().out
    assert checksums("runs", "weights") > first

    command("fit", fit, "--restart", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1")
    assert "what was there is now in runs/vae/.old/" in capsys.readouterr().out
    assert checksums("runs", "weights") > first
    assert not yaml.safe_load(Path("runs/vae/config.yaml").read_text())["restart"]


def test_a_fit_that_was_killed_goes_on_by_itself(fit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("fit", fit, "--name", "whole")
    killer = {"class_path": "tests.end_to_end.interruption.Interruption", "init_args": {"step": 13}}
    content = yaml.safe_load(fit.read_text())
    content["trainer"]["callbacks"].append(killer)
    fit.with_name("killed.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        command("fit", fit.with_name("killed.yaml"))
    capsys.readouterr()
    # With another number of workers, too.
    command("fit", fit, "--data.init_args.workers", "1")
    assert "runs/vae: the fit goes on from " in capsys.readouterr().out
    whole, parts = (weights(f"runs/{name}/checkpoints/last.ckpt") for name in ("whole", "vae"))
    assert all(torch.equal(values, parts[name]) for name, values in whole.items())
    # And once it has ended, it may become longer.
    command("fit", fit, "--trainer.max_epochs", "3", "--data.init_args.workers", "1")
    assert "runs/vae: the fit goes on from " in capsys.readouterr().out
    assert torch.load("runs/vae/checkpoints/last.ckpt", weights_only=True)["epoch"] == 2


@pytest.mark.slow
def test_a_fit_that_began_from_a_checkpoint_does_not_begin_there_again(
    fit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command("fit", fit, "--name", "other", "--trainer.max_epochs", "1")
    origin = ("--ckpt_path", "runs/other/checkpoints/last.ckpt")
    killer = {"class_path": "tests.end_to_end.interruption.Interruption", "init_args": {"step": 22}}
    content = yaml.safe_load(fit.read_text())
    content["trainer"]["callbacks"].append(killer)
    content["trainer"]["max_epochs"] = 4
    fit.with_name("killed.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        command("fit", fit.with_name("killed.yaml"), *origin)
    before = checksums("runs/vae")
    other = ("--ckpt_path", "runs/other/checkpoints/best.ckpt")
    torch.save(sealed(torch.load(origin[1], weights_only=True) | {"more": 1}), other[1])
    line = refused(capsys, "fit", fit, *other, "--trainer.max_epochs", "3")
    assert f"began from {origin[1]} (sha256" in line
    assert f"now --ckpt_path is {other[1]} (sha256" in line
    foreign = ("--ckpt_path", "runs/vae/checkpoints/last.ckpt", "--name", "other")
    assert "a fit that began without --ckpt_path, now" in refused(capsys, "fit", fit, *foreign)
    assert checksums("runs/vae") == before
    capsys.readouterr()
    command("fit", fit, *origin, "--trainer.max_epochs", "3")
    said = capsys.readouterr().out
    assert "runs/vae: the fit goes on from " in said
    assert f"it once began from {origin[1]}" in said
    command("fit", fit, *origin, "--restart", "--trainer.max_epochs", "1")
    assert "what was there is now in runs/vae/.old/" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("logger", "words", "directory"),
    [
        ({"class_path": "remote.Remote"}, (), "runs/project/1"),
        ({"class_path": "remote.Remote", "init_args": {"save_dir": "kept"}}, (), "kept/project/1"),
        ({"class_path": "remote.Remote"}, ("--name", "mine"), "runs/mine"),
        (False, ("--name", "mine"), "runs/mine"),
        (None, ("--name", "mine", "--trainer.logger", "true"), "runs/mine"),
    ],
)
def test_whatever_the_logger_a_run_has_a_directory_of_its_own(
    ready: dict[str, Path],
    logger: object,
    words: tuple[str, ...],
    directory: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("remote.py").write_text(ONE_LOGGER_FOR_ALL)
    monkeypatch.syspath_prepend(".")
    content = yaml.safe_load(ready["predict"].read_text())
    content["trainer"]["logger"] = logger
    ready["predict"].write_text(yaml.safe_dump(content, sort_keys=False))
    before = set(Path.cwd().iterdir())
    command("predict", ready["predict"], *SHORT, *words)
    run = Path(directory)
    assert (run / "vaevar" / "restart.pt").is_file()
    assert (run / "provenance.json").is_file()
    made = {path.name for path in set(Path.cwd().iterdir()) - before}
    assert made <= {run.parts[0], "__pycache__"}


@pytest.mark.parametrize(
    "words",
    [
        ("--trainer.logger", "false"),
        ("--trainer.logger.init_args.name", ""),
        ("--trainer.logger.init_args.name", ".."),
        ("--trainer.logger.init_args.name", "../elsewhere"),
        ("--trainer.logger.init_args.name", "/elsewhere"),
    ],
)
@pytest.mark.parametrize("kind", ["fit", "predict"])
def test_without_a_directory_of_its_own_a_run_is_refused(
    configs: dict[str, Path], kind: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    arms = '{"free": {"class_path": "FreeRun"}}'
    more = ("--model.init_args.arms", arms) if kind == "predict" else ()
    before = set(Path.cwd().rglob("*"))
    assert "--name" in refused(capsys, kind, configs[kind], *more, *words, "--restart")
    assert before == set(Path.cwd().rglob("*"))


def test_a_cycle_takes_more_arms_and_names_the_one_that_changed(
    ready: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command("predict", ready["predict"], *SHORT)
    states = Path("runs/cycle/vaevar/diagnostics.csv").stat().st_mtime_ns
    oi = ("--model.init_args.arms.oi", "OptimalInterpolation", "--model.init_args.arms.oi.length_km")
    command("predict", ready["predict"], *SHORT, *oi, "800")
    assert Path("runs/cycle/oi/restart.pt").is_file()
    assert Path("runs/cycle/vaevar/diagnostics.csv").stat().st_mtime_ns == states
    line = refused(capsys, "predict", ready["predict"], *SHORT, *oi, "900")
    assert "arms.oi.init_args.length_km: 800.0 there, 900.0 now" in line


def test_a_refused_first_try_does_not_block_the_second(
    ready: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    late = ("--data.init_args.start", "2021-06-01T00")  # which the store does not hold
    refused(capsys, "predict", ready["predict"], *SHORT, *late)
    assert not Path("runs/cycle").exists()
    command("predict", ready["predict"], *SHORT)
    assert Path("runs/cycle/summary.md").is_file()


def test_results_can_be_traced_and_repeated(ready: dict[str, Path]) -> None:
    command("predict", ready["predict"], *SHORT)
    run = Path("runs/cycle")
    record = json.loads((run / "provenance.json").read_text())
    checkpoint = Path("runs/vae/checkpoints/best.ckpt")
    named = {Path(name): digest for name, digest in record["files"].items()}
    assert named[checkpoint] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert {path.name for path in named} >= {"truth.zarr", "toy.onnx", "mean.npy", "std.npy", "best.ckpt"}
    assert {"packages", "commit", "dirty", "threads", "host", "command", "device"} <= record.keys()
    states = xr.open_zarr(run / "vaevar" / "analysis.zarr", chunks=None)
    assert states.attrs["run"] == record["run"]
    assert states.attrs["commit"] == record["commit"]
    assert f"predict --config {run}/config.yaml" in (run / "summary.md").read_text()
    command("predict", run / "config.yaml", "--name", "again")
    assert Path("runs/again/scores.csv").read_bytes() == (run / "scores.csv").read_bytes()


def test_two_processes_do_not_write_into_one_directory(
    ready: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaevar.verification.scores import Scores

    real: Callable[..., None] = Scores.on_predict_start
    lines = []

    def while_it_runs(self: Scores, *args: object) -> None:
        if not lines:
            lines.append(refused(capsys, "predict", ready["predict"], *SHORT))
            lines.append(refused(capsys, "predict", ready["predict"], *SHORT, "--restart"))
        real(self, *args)

    monkeypatch.setattr(Scores, "on_predict_start", while_it_runs)
    command("predict", ready["predict"], *SHORT)
    assert all("has been writing into this run since" in line for line in lines)
    assert Path("runs/cycle/summary.md").is_file()
    assert not Path("runs/cycle/.lock").exists()
