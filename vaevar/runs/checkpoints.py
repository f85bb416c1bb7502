"""Whose a checkpoint is: each holds the number of the run that wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch

KEY = "run"


class RunNumber(L.Callback):
    """Puts the run's number into its checkpoints.

    Args:
        number: from the run's record.
    """

    def __init__(self, number: str) -> None:
        self.number = number

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[KEY] = self.number


def checkpoints_in(directory: Path) -> list[Path]:
    """The checkpoints of a directory, by name."""
    return sorted(directory.glob("*.ckpt"))


def made_by(checkpoint: Path) -> str | None:
    """The number of the run that wrote a checkpoint; None if that cannot be told."""
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # unpickling raises many kinds; each means that nobody can tell
        return None
    number = content.get(KEY) if isinstance(content, dict) else None
    return number if isinstance(number, str) else None
