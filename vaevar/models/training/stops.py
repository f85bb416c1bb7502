"""A fit that is told to stop keeps its state at the end of a batch, and goes on from there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from vaevar.mistakes.words import words
from vaevar.runs import stopping

NAME = "stopped.ckpt"


class StopsBetweenBatches(Checkpoint):
    """Saves ``stopped.ckpt`` beside a fit's checkpoints when the program is told to stop, and ends the fit.

    A fit that goes on from it comes to the same weights as one that was not stopped: it saves between two
    steps of the optimiser, and a validation that was begun is made again from its start. When a fit is done,
    the file is removed. A fit that keeps no checkpoints is stopped without one.

    As a ``Checkpoint`` that is appended to the trainer's callbacks, it is called last.
    """

    # Lightning asks the first checkpoint callback, which this is when there is no other.
    best_model_path = ""

    def __init__(self) -> None:
        self._held: AbstractContextManager[None] | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._held = stopping.finishing()
        self._held.__enter__()

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        epoch, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        assert fetcher is not None
        # Lightning would leave out a validation that is due now, and what is due at the end of an epoch.
        due = epoch._num_ready_batches_reached() or epoch._should_check_val_fx(fetcher)
        if not due and not epoch._should_accumulate() and (signal := _asked(trainer)):
            self._stop(trainer, signal)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._held is None:
            return
        total = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total
        total.load_state_dict(dict.fromkeys(total.state_dict(), total.completed))
        self.on_validation_batch_end(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if self._held is not None and (signal := _asked(trainer)):
            with _validation_at_its_start(trainer):
                self._stop(trainer, signal)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if signal := _asked(trainer):
            self._stop(trainer, signal)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._release(None)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        path = _path(trainer)
        if path is not None and trainer.is_global_zero:
            path.unlink(missing_ok=True)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._release(exception)

    def _release(self, exception: BaseException | None) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.__exit__(None if exception is None else type(exception), exception, None)

    def _stop(self, trainer: L.Trainer, signal: int) -> NoReturn:
        path = _path(trainer)
        if path is not None:
            trainer.save_checkpoint(path, weights_only=False)
            stopping.go_on(f"after step {trainer.global_step}; {words().again} goes on from {path}")
        stopping.stop(signal)


def _asked(trainer: L.Trainer) -> int:
    """The signal that told any process of the fit to stop; 0: none. All save together, or wait forever."""
    number = stopping.asked()
    if trainer.world_size == 1:
        return number
    strategy = trainer.strategy
    return int(strategy.reduce(torch.tensor(number, device=strategy.root_device), reduce_op="max"))


def _path(trainer: L.Trainer) -> Path | None:
    callbacks = trainer.checkpoint_callbacks
    directories = [callback.dirpath for callback in callbacks if isinstance(callback, ModelCheckpoint)]
    return Path(directories[0]) / NAME if directories and directories[0] else None


@contextmanager
def _validation_at_its_start(trainer: L.Trainer) -> Iterator[None]:
    """Let the state say that a validation was begun and has had no batch yet.

    Lightning's own state would go on in its middle, with the mean over what is left.
    """
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    before = progress.state_dict()
    done = before["total"]["completed"] - before["current"]["completed"]
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    total = {key: value + done for key, value in begun.items()}
    progress.load_state_dict({**before, "total": total, "current": begun})
    try:
        yield
    finally:
        progress.load_state_dict(before)
