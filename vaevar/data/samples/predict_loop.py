"""A store made in the predict loop of a trainer, its roll-outs shared out among processes.

    python main.py predict --config configs/background_errors.yaml

The data module (:class:`vaevar.data.samples.module.ForecastSamples`) yields the initial states of a process'
share, the module rolls them out on its device, and the writer makes samples of the forecasts. Processes know
of each other through the disk alone: they must see the same one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from vaevar.data.samples.module import ForecastSamples
from vaevar.data.samples.rollouts import Rollouts
from vaevar.errors import UserError


class StoreMaking(L.LightningModule):
    """Rolls out what the data module yields; its own callback writes.

    Needs no settings: the data module knows what its store is made of.
    """

    def __init__(self) -> None:
        super().__init__()
        # A process may find nothing left to do.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def setup(self, stage: str) -> None:
        self.store = samples_of(self.trainer).making
        # Where they are modules, they go to this module's device with it.
        self.forecaster, self.reduce = self.store.forecaster, self.store.reduce

    def predict_step(self, batch: Rollouts, batch_idx: int) -> dict[int, Tensor]:
        """Forecasts [B, C, H, W] of the ages that are wanted, in hours."""
        return self.store.forecasts(batch)

    def configure_callbacks(self) -> list[L.Callback]:
        return [StoreWriter()]


class StoreWriter(BasePredictionWriter):
    """Writes the samples of this process' share; the first process completes the store when all are there."""

    def __init__(self) -> None:
        super().__init__(write_interval="batch")

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        samples_of(trainer).share.take(batch, prediction)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data = samples_of(trainer)
        if trainer.is_global_zero and data.share.written:
            # On the disk, not by a collective operation: the others may take longer than one would wait.
            if data.making.missing():
                print(f"{data.path}: waiting for the samples of the other processes")
            while data.making.missing():
                time.sleep(1.0)
            data.making.complete()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        samples_of(trainer).making.lock.release()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        samples_of(trainer).making.lock.release()


def samples_of(trainer: L.Trainer) -> ForecastSamples:
    """The data module.

    Raises:
        UserError: when it has no store that is made of roll-outs.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, ForecastSamples):
        raise UserError(
            f"StoreMaking needs data whose store is made of roll-outs, such as BackgroundErrors, not "
            f"{type(data).__name__}"
        )
    return data
