"""Makes a store in the predict loop of a trainer, its roll-outs shared out among the processes.

    python main.py predict --config configs/background_errors.yaml

The data module (:class:`vaevar.data.samples.module.Samples` with ``making``) yields the initial states of a
process's share, the module rolls them out on its device, and the writer makes samples of the forecasts.
Processes know of each other through the disk alone, so all must see the same one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from vaevar.data.samples.module import Samples
from vaevar.data.samples.rollouts import Rollouts
from vaevar.errors import UserError


class StoreMaking(L.LightningModule):
    """Rolls out what the data module yields; its own callback writes the samples.

    It has no settings: the data module's ``making`` has them all.
    """

    def __init__(self) -> None:
        super().__init__()
        # A process may have nothing left to do.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def setup(self, stage: str) -> None:
        self.errors = _data(self.trainer).builder.errors
        # If they are modules, they follow this module to its device.
        self.forecaster, self.reduce = self.errors.forecaster, self.errors.reduce

    def predict_step(self, batch: Rollouts, batch_idx: int) -> dict[int, Tensor]:
        """Forecasts [B, C, H, W] for each age, in hours."""
        return self.errors.forecasts(batch.states, batch.hours)

    def configure_callbacks(self) -> list[L.Callback]:
        return [StoreWriter()]


class StoreWriter(BasePredictionWriter):
    """Writes the samples of this process's share; the first process completes the store."""

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
        _data(trainer).share.take(batch, prediction)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data = _data(trainer)
        if trainer.is_global_zero and data.share.written:
            # By looking at the disk: a collective operation would time out if the others take long.
            if data.builder.missing():
                print(f"{data.path}: waiting for the samples of the other processes")
            while data.builder.missing():
                time.sleep(1.0)
            data.builder.complete()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        _data(trainer).builder.release()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        _data(trainer).builder.release()


def _data(trainer: L.Trainer) -> Samples:
    """The data module.

    Raises:
        UserError: when it is of another kind.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, Samples):
        raise UserError(f"StoreMaking needs samples, such as BackgroundErrors, not {type(data).__name__}")
    return data
