"""``last.ckpt`` after epochs that are not the best."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from tests.device import DEVICE
from vaevar.models.training.last_checkpoint import LastCheckpoint


class Worsening(L.LightningModule):
    """Its first epoch is its best."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.weight * batch.mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", float(self.current_epoch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize(("save_last", "expected"), [(True, {"best": 4, "last": 12}), (None, {"best": 4})])
def test_the_last_is_the_last(tmp_path: Path, save_last: bool | None, expected: dict[str, int]) -> None:
    best = ModelCheckpoint(tmp_path, filename="best", monitor="val/loss", save_last=save_last)
    trainer = L.Trainer(
        accelerator=DEVICE, logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=3,
        callbacks=[best, LastCheckpoint()],
    )  # fmt: skip
    data = DataLoader(torch.ones(4, 1))
    trainer.fit(Worsening(), data, data)
    files = tmp_path.iterdir()
    assert {path.stem: torch.load(path, weights_only=True)["global_step"] for path in files} == expected
