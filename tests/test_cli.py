"""The command line's errors and records, without a trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentError, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException

from vaevar.assim.assimilator import FreeRun
from vaevar.assim.cycle.module import check_arms
from vaevar.cli import LIGHTNINGS_OWN, main
from vaevar.commands.callbacks import complete_cycle
from vaevar.errors import UserError
from vaevar.mistakes.notices import Notice
from vaevar.models.training.checkpoint_io import check_checkpoint
from vaevar.provenance import fingerprint
from vaevar.runs.naming import fault_of_name, name_run
from vaevar.scripts import mistake_of, read_contents

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def test_the_innermost_mistake_is_told() -> None:
    try:
        try:
            raise UserError("data.zarr: no such store")
        except UserError as inner:
            raise ValueError("does not validate against any of the subtypes") from inner
    except ValueError as outer:
        found = mistake_of(outer)
    assert str(found) == "data.zarr: no such store"
    assert mistake_of(ValueError("a programmer's mistake")) is None
    assert str(mistake_of(ArgumentError(None, "unknown key"))) == "unknown key"
    assert str(mistake_of(MisconfigurationException("two progress bars"))) == "two progress bars"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no such checkpoint"),
        (b"text", "not a checkpoint of a fit"),
        ({"state_dict": {}}, "no state of a fit"),
    ],
)
def test_what_is_no_checkpoint_of_a_fit_is_refused(
    content: bytes | dict | None, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "last.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "configs/vae.yaml", "--ckpt_path", str(path)])
    assert stop.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"error: {path}: ")
    assert complaint in last


@pytest.mark.parametrize("name", ["best", "last", "hpc", "registry:vae", "gs://bucket/last.ckpt"])
def test_names_and_addresses_of_checkpoints_are_left_to_lightning(name: str) -> None:
    assert LIGHTNINGS_OWN.match(name)
    assert not LIGHTNINGS_OWN.match("runs/vae/checkpoints/last.ckpt")
    assert not LIGHTNINGS_OWN.match("last.ckpt")


def test_weights_alone_are_enough_where_no_fit_goes_on(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "weights.ckpt")
    check_checkpoint(str(tmp_path / "weights.ckpt"), of_a_fit=False)
    with pytest.raises(UserError, match="no state of a fit"):
        check_checkpoint(str(tmp_path / "weights.ckpt"), of_a_fit=True)


@pytest.mark.parametrize("content", [None, "a: b: c", "only words"])
def test_what_is_no_config_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "cycle.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"cycle\.yaml: (cannot be read as a config|not a config)"):
        read_contents([path])


def test_fingerprint_follows_settings_and_file_contents(tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"one")
    config = {"model": {"weights": str(weights), "lambda": 4.0}}
    first = fingerprint(config)
    assert first == fingerprint(config)
    assert first != fingerprint({"model": {"weights": str(weights), "lambda": 8.0}})
    weights.write_bytes(b"two")
    assert first != fingerprint(config)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_committed_configs_are_yaml_with_known_sections(config: Path) -> None:
    content = yaml.safe_load(config.read_text())
    assert set(content) <= {"name", "seed_everything", "return_predictions", "model", "data", "trainer"}


@pytest.mark.parametrize("command", ["fit", "predict"])
def test_help_reads(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "--config" in capsys.readouterr().out


def logger_of(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict]:
    """Class and settings of the logger that a command line comes to."""
    with pytest.raises(SystemExit) as stop:
        main(["predict", *words, "--print_config"])
    printed = capsys.readouterr()
    assert stop.value.code == 0, printed.err
    logger = yaml.safe_load(printed.out)["trainer"]["logger"]
    return logger["class_path"].rpartition(".")[2], logger["init_args"]


def test_the_last_name_wins_wherever_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named, logged, csv = (tmp_path / f"{name}.yaml" for name in ("named", "logged", "csv"))
    named.write_text("name: first\n")
    logged.write_text(
        "trainer: {logger: {class_path: TensorBoardLogger, init_args: {save_dir: kept, name: second}}}\n"
    )
    csv.write_text("trainer: {logger: {class_path: CSVLogger, init_args: {save_dir: kept}}}\n")
    one, two, three = (["--config", str(path)] for path in (named, logged, csv))
    option = ["--trainer.logger.init_args.name", "third"]
    for words, kind, directory, name in (
        (one, "TensorBoardLogger", "runs", "first"),
        ([*one, "--name", "2022"], "TensorBoardLogger", "runs", "2022"),
        ([*one, *option], "TensorBoardLogger", "runs", "third"),
        ([*one, *two], "TensorBoardLogger", "kept", "second"),
        ([*two, *one], "TensorBoardLogger", "kept", "first"),
        ([*two, "--name", "fourth"], "TensorBoardLogger", "kept", "fourth"),
        ([*one, *three], "CSVLogger", "kept", "first"),
        ([*three, *one], "CSVLogger", "kept", "first"),
    ):
        found, settings = logger_of(*words, capsys=capsys)
        assert (found, settings["save_dir"], settings["name"]) == (kind, directory, name), words
        # The same command writes into the same directory again, and into no version_1.
        assert settings["version"] == "", words


@pytest.mark.parametrize(
    "name",
    [
        "a/b",
        "",
        ".",
        "..",
        "-x",
        "a b",
        "runs/../x",
        "null",
        "true",
        "No",
        "~",
        "~/x",
        "a\nb",
        "a\0b",
        "a\\b",
        "/x",
        ".old",
        "$HOME",
        "a\u202eb",
    ],
)
def test_a_name_is_one_directory_below_runs(name: str) -> None:
    with pytest.raises(UserError, match="a name is made of"):
        name_run(Namespace(), name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("x" * 101, "has 101 bytes"),
        ("é" * 60, "has 120 bytes"),
        *((n, "on some systems") for n in ("con", "NUL.1", "a.")),
    ],
)
def test_a_name_is_one_on_every_system(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        name_run(Namespace(), name)
    assert fault_of_name(name)
    assert not fault_of_name("run-1.b_Ä")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("..",), "letters, digits"), (("a/b",), "letters, digits"), (("",), "letters, digits"),
        (("~",), "letters, digits"), (("a.b",), "letters, digits"), (("x" * 300,), "has 300 bytes"),
        (("aux",), "on some systems"), (("OI", "oi"), "'OI' and 'oi' are one directory"),
        (("checkpoints",), "is a directory of every run"), (("true",), "is not null, true"),
        ((), "at least one"),
    ],
)  # fmt: skip
def test_an_arm_is_one_directory_in_the_run(names: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_arms(dict.fromkeys(names, FreeRun()))
    check_arms({"vae_var": FreeRun(), "3dvar-2": FreeRun(), "arm": FreeRun()})


def test_every_logger_of_a_list_gets_the_name_and_none_is_made_where_none_is_wanted() -> None:
    loggers = [
        Namespace(class_path=f"lightning.pytorch.loggers.{kind}Logger") for kind in ("CSV", "TensorBoard")
    ]
    settings = Namespace(trainer=Namespace(logger=loggers))
    name_run(settings, "mine")
    assert [logger.init_args.name for logger in settings.trainer.logger] == ["mine", "mine"]
    assert [logger.init_args.version for logger in settings.trainer.logger] == ["", ""]
    off = Namespace(trainer=Namespace(logger=False))
    name_run(off, "mine")
    assert off.trainer.logger is False


def test_without_tensorboard_a_run_has_no_charts_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaevar.runs.naming._TENSORBOARD_AVAILABLE", False)
    monkeypatch.setattr("vaevar.runs.naming._TENSORBOARDX_AVAILABLE", False)
    settings = Namespace(trainer=Namespace(logger=None))
    with pytest.warns(Notice, match="python -m pip install tensorboard"):
        name_run(settings, "mine")
    assert settings.trainer.logger is False


def test_a_cycle_has_what_it_needs_whatever_is_listed() -> None:
    def names(*listed: str, bar: bool = True) -> list[str]:
        specs = [Namespace(class_path=path) for path in listed]
        return [spec.class_path.rpartition(".")[2] for spec in complete_cycle(specs, progress_bar=bar)]

    needed = ["Cycle", "StateWriter", "Scores"]
    assert names(bar=False) == [*needed, "RunReport"]
    assert names() == [*needed, "CycleProgress", "RunReport"]
    own = "lightning.pytorch.callbacks.DeviceStatsMonitor"
    assert names(own, "vaevar.assim.cycle.cycle.Cycle", bar=False) == [*needed, own[28:], "RunReport"]
    bar = "lightning.pytorch.callbacks.RichProgressBar"
    assert names("vaevar.verification.scores.Scores", bar) == [*needed, "RichProgressBar", "RunReport"]
