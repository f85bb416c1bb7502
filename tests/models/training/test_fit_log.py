"""What a fit says where there is no progress bar."""

from __future__ import annotations

import re

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import Tensor
from torch.utils.data import DataLoader

from tests.device import DEVICE
from vaevar.models.training import fit_log
from vaevar.models.training.fit_log import FitLog, lines_for_bars


class Line(L.LightningModule):
    """y = w x, fitted to y = 2 x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = (self.weight - 2).square() * batch.square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", (self.weight - 2).square())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(**settings: object) -> L.Trainer:
    trainer = L.Trainer(
        accelerator=DEVICE, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[FitLog()], **settings,
    )  # fmt: skip
    data = DataLoader(torch.ones(10, 1), batch_size=1)
    trainer.fit(Line(), data, DataLoader(torch.ones(1, 1)))
    return trainer


def test_a_fit_says_where_it_is_ten_times(capsys: pytest.CaptureFixture[str]) -> None:
    fit(max_epochs=4)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert 10 <= len(lines) <= 12
    assert re.fullmatch(r"epoch 1/4, step 1/40: train/loss 4(, val/loss 4)?; \d+:\d\d:\d\d left", lines[0])
    assert re.fullmatch(r"epoch 4/4, step 40/40: train/loss \S+, val/loss \S+; 0:00:00 left", lines[-1])


def test_the_losses_of_a_line_are_those_of_its_step(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = fit(max_epochs=2, limit_train_batches=2)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert [line.partition(":")[0] for line in lines][1::2] == ["epoch 1/2, step 2/4", "epoch 2/2, step 4/4"]
    # w − 2 shrinks by 0.8 in each step, and the validation of an epoch comes after its last one.
    for line, steps in zip(lines[1::2], (2, 4), strict=True):
        assert f"val/loss {4 * 0.8 ** (2 * steps):.4g};" in line
    assert f"val/loss {trainer.callback_metrics['val/loss']:.4g};" in lines[-1]


def test_a_fit_without_an_end_has_no_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    fit(max_epochs=-1, max_steps=-1, max_time={"seconds": 1})
    assert re.search(r"^epoch 1, step 1: train/loss 4(, val/loss 4)?$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("bars", "settings", "lines"),
    [
        (True, {}, False),
        (True, {"enable_progress_bar": False}, True),
        (False, {}, True),
        (False, {"callbacks": [TQDMProgressBar()]}, False),
    ],
)
def test_lines_stand_for_a_bar(
    bars: bool, settings: dict, lines: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_log, "shows_bars", lambda: bars)
    added = lines_for_bars(settings, [])
    assert bool(added) is lines
    assert (settings.get("enable_progress_bar") is False) is lines
