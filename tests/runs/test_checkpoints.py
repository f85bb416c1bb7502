"""Checkpoints say whose they are, and are known again where the run was moved."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel

from tests.device import DEVICE
from vaevar.runs.checkpoints import RunNumber, made_by
from vaevar.runs.settings import Settings


class Worse(BoringModel):
    """Its validation loss rises."""

    def on_validation_epoch_end(self) -> None:
        self.log("loss", float(self.current_epoch))


def fit(directory: Path, epochs: int, checkpoint: Path | None = None) -> ModelCheckpoint:
    keep = ModelCheckpoint(directory, "best", monitor="loss", save_last=True, enable_version_counter=False)
    L.Trainer(
        accelerator=DEVICE, logger=False, callbacks=[RunNumber("17", Settings({})), keep], max_epochs=epochs,
        limit_train_batches=1, limit_val_batches=1, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, default_root_dir=directory,
    ).fit(Worse(), ckpt_path=checkpoint)  # fmt: skip
    return keep


def test_a_checkpoint_holds_the_number_of_its_run(tmp_path: Path) -> None:
    fit(tmp_path, 1)
    assert made_by(tmp_path / "best.ckpt") == "17"
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    (tmp_path / "damaged.ckpt").write_bytes(b"PK")
    assert made_by(tmp_path / "other.ckpt") is None
    assert made_by(tmp_path / "damaged.ckpt") is None


def test_the_best_checkpoint_of_a_run_that_was_moved_stays_the_best(tmp_path: Path) -> None:
    fit(tmp_path / "here", 2)
    best = (tmp_path / "here" / "best.ckpt").read_bytes()
    (tmp_path / "here").rename(tmp_path / "there")
    keep = fit(tmp_path / "there", 4, tmp_path / "there" / "last.ckpt")
    assert (tmp_path / "there" / "best.ckpt").read_bytes() == best
    assert Path(keep.best_model_path) == tmp_path / "there" / "best.ckpt"
    assert not (tmp_path / "here").exists()
