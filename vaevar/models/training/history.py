"""The losses of a fit in a file of its run, ``history.csv``, whatever its loggers are.

A row is a number: ``epoch`` (1.5 is in the middle of the second), ``step`` of the optimiser, ``seconds`` of
training, ``name`` and ``value``. Numbers of the training are means since the row before, and the learning
rate is that of the moment; those of the validation are as it logs them.
"""

from __future__ import annotations

import csv
import io
import time as clock
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from torch import Tensor

from vaevar.errors import UserError, first_line
from vaevar.files import save_text
from vaevar.mistakes.notices import notice
from vaevar.runs.directory import run_directory

NAME = "history.csv"
COLUMNS = ("epoch", "step", "seconds", "name", "value")
LEARNING_RATE = "learning_rate"
_EVERY = 50  # batches of training in a row, at most


class FitHistory(L.Callback):
    """Writes the losses of a fit to ``<run>/history.csv``, on the first process.

    A fit that goes on from a checkpoint cuts off what came after it, and its means are those of a fit that
    was never stopped.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._sums: dict[str, float | Tensor] = {}
        self._batches = 0
        self._before, self._began = 0.0, 0.0

    def state_dict(self) -> dict[str, Any]:
        """What was summed up since the last row, and the time."""
        sums = {name: float(value) for name, value in self._sums.items()}
        return {"sums": sums, "batches": self._batches, "seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sums, self._batches = dict(state_dict["sums"]), state_dict["batches"]
        self._before = state_dict["seconds"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit" and not getattr(trainer, "fast_dev_run", False):
            path = run_directory(trainer) / NAME
            self._path = path if trainer.is_global_zero else None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = clock.monotonic()
        if self._path is None:
            return
        if trainer.global_step == 0:
            self._sums, self._batches, self._before = {}, 0, 0.0
        kept = _rows_until(self._path, trainer.global_step)
        if kept.empty:
            self._path.unlink(missing_ok=True)
        else:
            save_text(self._path, kept.to_csv(index=False))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add up what the step has logged; its loss, if it has logged nothing."""
        if self._path is None:
            return
        logged = trainer.fit_loop.epoch_loop._results.metrics(on_step=True)["callback"]
        if not logged and isinstance(outputs, Mapping) and "loss" in outputs:
            logged = {"train/loss": outputs["loss"]}
        if not logged:  # a calibration has no losses, and gets no file
            return
        for name, value in logged.items():
            # On the device: to ask for the number would wait for it after every step.
            self._sums[name] = self._sums.get(name, 0.0) + torch.as_tensor(value).detach().float()
        self._batches += 1
        if self._batches >= _EVERY:
            self._write_training(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what the validation has logged; the training so far first, as a checkpoint may follow."""
        if self._path is None or trainer.sanity_checking:
            return
        self._write_training(trainer)
        results = trainer.fit_loop.epoch_loop.val_loop._results.values()
        names = [item.meta.name for item in results if not item.has_reset]
        metrics = trainer.callback_metrics
        numbers = {name: float(metrics[name]) for name in names if name in metrics}
        if numbers:
            self._write(trainer, numbers)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._path is not None:
            self._write_training(trainer)

    @property
    def _seconds(self) -> float:
        return self._before + (clock.monotonic() - self._began if self._began else 0.0)

    def _write_training(self, trainer: L.Trainer) -> None:
        if not self._batches:
            return
        numbers = {name: float(value) / self._batches for name, value in self._sums.items()}
        if trainer.optimizers:
            numbers[LEARNING_RATE] = float(trainer.optimizers[0].param_groups[0]["lr"])
        self._sums, self._batches = {}, 0
        self._write(trainer, numbers)

    def _write(self, trainer: L.Trainer, numbers: Mapping[str, float]) -> None:
        assert self._path is not None
        progress, batches = trainer.fit_loop.epoch_loop.batch_progress, trainer.num_training_batches
        epoch = trainer.current_epoch + progress.current.ready / batches
        place = (f"{epoch:.6g}", trainer.global_step, f"{self._seconds:.3f}")
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerows([*place, name, f"{value:.7g}"] for name, value in numbers.items())
        head = "" if self._path.exists() else f"{','.join(COLUMNS)}\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)  # a trainer without loggers makes no directory
        with self._path.open("a", encoding="utf-8") as file:
            file.write(head + text.getvalue())


def _rows_until(path: Path, step: int) -> pd.DataFrame:
    """What an earlier run has written up to a step; nothing of a file that is damaged, which ends no fit."""
    nothing = pd.DataFrame(columns=list(COLUMNS))
    if not step or not path.is_file():
        return nothing
    try:
        rows = read_history(path)
    except UserError as error:
        notice(f"{error}; it begins again")
        return nothing
    return rows[rows["step"] <= step]


def read_history(path: Path) -> pd.DataFrame:
    """The rows of a fit, of one that is going on too, which may be in the middle of a row.

    Args:
        path: of ``history.csv``.

    Raises:
        UserError: when the file is missing or damaged.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: is not there: no step of the fit has been written, or an earlier version ran it"
        )
    whole = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0]
    try:
        table = pd.read_csv(io.StringIO(whole + "\n"))
        if tuple(table.columns) != COLUMNS:
            raise ValueError(f"its columns are {', '.join(map(str, table.columns))[:100]}")
        numbers = table[[name for name in COLUMNS if name != "name"]].astype(float)
    except ValueError as error:
        raise UserError(
            f"{path}: damaged ({first_line(error)}); expected the columns {', '.join(COLUMNS)} as a fit "
            "writes them: remove it, and the next report is without the losses"
        ) from None
    return numbers.assign(step=numbers["step"].astype(int), name=table["name"].astype(str))[list(COLUMNS)]
