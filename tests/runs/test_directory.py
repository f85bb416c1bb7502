"""A run has a directory of its own, whatever logger it has."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from tests.device import DEVICE
from vaevar.errors import UserError
from vaevar.runs.directory import RunDirectory, directory_of, run_directory


class Remote(Logger):
    """As loggers are that keep runs on a server: no ``log_dir``, and perhaps no ``save_dir``."""

    def __init__(self, name: str | None, version: str | int | None, save_dir: str | None) -> None:
        super().__init__()
        self._name, self._version, self._save_dir = name, version, save_dir

    @property
    def name(self) -> str | None:
        return self._name

    @property
    def version(self) -> str | int | None:
        return self._version

    @property
    def save_dir(self) -> str | None:
        return self._save_dir

    def log_hyperparams(self, *args: object, **kwargs: object) -> None: ...

    def log_metrics(self, *args: object, **kwargs: object) -> None: ...


@pytest.mark.parametrize(
    ("logger", "name", "expected"),
    [
        (TensorBoardLogger("runs", "cycle", ""), None, "runs/cycle"),
        (TensorBoardLogger("runs", "cycle", "second"), None, "runs/cycle/second"),
        (CSVLogger("runs", "cycle", ""), None, "runs/cycle"),
        (Remote("project", "1a2b", "mlruns"), None, "mlruns/project/1a2b"),
        (Remote("project", None, "mlruns"), None, "mlruns/project"),
        (Remote("project", "1a2b", "mlruns"), "mine", "mlruns/mine"),
        (Remote("project", "1a2b", None), None, "runs/project/1a2b"),
        (Remote(None, None, None), "mine", "runs/mine"),
        (None, "mine", "runs/mine"),
    ],
)
def test_the_directory_lies_below_the_loggers(logger: Logger | None, name: str | None, expected: str) -> None:
    assert directory_of(logger, name) == Path(expected)


@pytest.mark.parametrize(
    "logger",
    [
        TensorBoardLogger("runs", "", ""),
        TensorBoardLogger("runs", None, ""),
        TensorBoardLogger("runs", "..", ""),
        TensorBoardLogger("runs", "../../elsewhere", ""),
        TensorBoardLogger("runs", "/elsewhere", ""),
        TensorBoardLogger("runs", "cycle/..", ""),
        Remote("..", None, "mlruns"),
        Remote("project", "../..", None),
        Remote("", None, "mlruns"),
        None,
    ],
)
def test_a_directory_that_others_share_is_no_run_directory(logger: Logger | None) -> None:
    with pytest.raises(UserError, match="--name"):
        directory_of(logger)


def test_a_trainer_knows_the_directory_that_was_chosen_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quiet = {"accelerator": DEVICE, "enable_progress_bar": False, "enable_model_summary": False}
    chosen = RunDirectory(tmp_path / "runs" / "mine")
    assert run_directory(L.Trainer(logger=False, callbacks=[chosen], **quiet)) == tmp_path / "runs" / "mine"
    assert run_directory(L.Trainer(logger=Remote("a", None, "kept"), **quiet)) == Path("kept/a")
    assert (
        run_directory(L.Trainer(logger=False, default_root_dir=tmp_path / "own", **quiet)) == tmp_path / "own"
    )
    for nobodys in ({}, {"default_root_dir": "."}):
        with pytest.raises(UserError, match="--name"):
            run_directory(L.Trainer(logger=False, **nobodys, **quiet))
