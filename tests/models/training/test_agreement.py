"""A checkpoint and the command that uses it agree, or what differs is named with both values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tests.device import DEVICE
from vaevar.content.seal import sealed
from vaevar.errors import UserError
from vaevar.models.training.agreement import (
    other_model,
    other_normalisation,
    other_optimisers,
    other_settings,
)
from vaevar.models.training.checkpoint_io import chosen, steps_back
from vaevar.models.training.trainer import prepare


class Scaled(L.LightningModule):
    """Normalises by what its data module says, and weights its loss."""

    scale: Tensor

    def __init__(
        self, width: int = 2, weight: float = 1.0, rate: float = 0.1, decay: float = 0.01, steps: Any = (1, 2)
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(2, width)
        self.register_buffer("scale", torch.ones(2, 1))

    def setup(self, stage: str) -> None:
        self.scale.copy_(self.trainer.datamodule.scale[:, None])  # type: ignore[attr-defined]

    def training_step(self, batch: Tensor) -> Tensor:
        return self.layer(batch).square().mean() * self.hparams["weight"]

    validation_step = training_step  # type: ignore[assignment]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), self.hparams["rate"], weight_decay=self.hparams["decay"]
        )
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)]


class Other(Scaled):
    pass


class Data(L.LightningDataModule):
    def __init__(self, scale: float = 3.0) -> None:
        super().__init__()
        self.scale = torch.tensor([1.0, scale])

    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.ones(4, 2), 2)  # type: ignore[arg-type]

    val_dataloader = train_dataloader


def trainer(directory: Path, epochs: int = 1) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return prepare(
        L.Trainer(accelerator=DEVICE, max_epochs=epochs, default_root_dir=directory, **quiet)  # type: ignore[arg-type]
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    trained = trainer(tmp_path)
    trained.fit(Scaled(), datamodule=Data())
    trained.save_checkpoint(tmp_path / "one.ckpt")
    return tmp_path / "one.ckpt"


def go_on(checkpoint: Path, data: Data | None = None, kind: type[Scaled] = Scaled, **settings: Any) -> None:
    trainer(checkpoint.parent, 2).fit(kind(**settings), datamodule=data or Data(), ckpt_path=checkpoint)


def test_the_same_settings_go_on(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    go_on(checkpoint, steps=[1, 2])
    assert "other settings" not in capsys.readouterr().out


def test_a_setting_of_the_loss_is_used_and_said(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go_on(checkpoint, weight=0.5)
    said = capsys.readouterr().out
    assert "those given now are used: weight: 1.0 in the checkpoint, 0.5 now" in said
    trainer(checkpoint.parent).validate(Scaled(weight=0.25), datamodule=Data(), ckpt_path=checkpoint)
    assert "weight: 1.0 in the checkpoint, 0.25 now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rate": 0.2}, r"own settings \(learning rate: 0\.1 in the checkpoint, 0\.2 now\)"),
        ({"decay": 0.0}, r"own settings \(weight_decay: 0\.01 in the checkpoint, 0\.0 now\)"),
        (
            {"width": 3},
            r"this model and its settings \(width: 2 in the checkpoint, 3 now",
        ),
        ({"data": Data(4.0)}, r"normalised otherwise \(scale\[1\]: 3 in the checkpoint, 4 now\)"),
    ],
)
def test_what_would_be_lost_is_refused(checkpoint: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=rf"one\.ckpt: .*{told}"):
        go_on(checkpoint, **settings)


def test_another_normalisation_is_refused_when_a_model_is_judged(checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"scale\[1\]: 3 in the checkpoint, 4 now"):
        trainer(checkpoint.parent).validate(Scaled(), datamodule=Data(4.0), ckpt_path=checkpoint)


def test_a_checkpoint_of_another_model_is_named(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["_class_path"] = "vaevar.models.diffusion.denoiser.Denoiser"
    torch.save(sealed(content), checkpoint)
    with pytest.raises(UserError, match=r"is a checkpoint of Denoiser, the config's model is Scaled"):
        go_on(checkpoint)
    assert other_model(content, Scaled()) == "Denoiser"
    assert other_model({"hyper_parameters": {}}, Scaled()) == ""


def test_what_differs_is_told_with_both_values() -> None:
    content = {"hyper_parameters": {"width": 2, "weight": 2.0, "gone": 1, "_class_path": "a.B"}}
    assert other_settings(content, Scaled()) == ["weight: 2.0 in the checkpoint, 1.0 now"]
    assert other_normalisation(Scaled(), None) == []
    assert other_normalisation(Scaled(), Data(1.0)) == []
    data = Data()
    data.scale = torch.ones(3)
    assert other_normalisation(Scaled(), data) == ["scale: (2, 1) in the checkpoint, (3,) of the data"]
    optimiser = torch.optim.SGD(Scaled().parameters(), 0.1, momentum=0.9)
    state = {"param_groups": [{"lr": 0.2, "momentum": 0.9, "weight_decay": 0}]}
    assert other_optimisers([state], [optimiser]) == ["learning rate: 0.2 in the checkpoint, 0.1 now"]


def test_a_step_back_is_said(checkpoint: Path, tmp_path: Path) -> None:
    place = tmp_path / "kept"
    place.mkdir()
    assert steps_back(checkpoint, [place, tmp_path / "none"]) == ""
    later = trainer(tmp_path, 3)
    later.fit(Scaled(), datamodule=Data())
    later.save_checkpoint(place / "last.ckpt")
    assert "the fit goes back from step 6 to step 2" in steps_back(checkpoint, [place])
    assert chosen("last", [place]) == str(place / "last.ckpt")
    assert chosen("best", [place]) == "best"
    assert chosen(None, [place]) is None
    with pytest.raises(UserError, match=r"--ckpt_path last: no checkpoint of a fit lies in .*none"):
        chosen("last", [tmp_path / "none"])
