"""Whose a checkpoint is: each holds the number of the run that wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L

from vaevar.content.tensors import read_tensors
from vaevar.errors import UserError
from vaevar.runs.record import read_record
from vaevar.runs.settings import Settings

KEY, SETTINGS = "run", "settings"


class RunNumber(L.Callback):
    """Puts the run's number and settings into its checkpoints, and knows them again after the run was moved.

    Args:
        number: from the run's record.
        settings: of the run.
    """

    def __init__(self, number: str, settings: Settings) -> None:
        self.number, self.settings = number, settings

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[KEY], checkpoint[SETTINGS] = self.number, json.dumps(self.settings.values)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say in what this fit differs from another run that it begins from.

        Of its own run, tell ModelCheckpoint where its files are now: it would forget the best one, and write
        over it.
        """
        if checkpoint.get(KEY) != self.number:
            if trainer.is_global_zero and (differing := self._other(checkpoint)):
                print(
                    "the fit begins from a checkpoint that was trained with other settings; those given now "
                    f"are used: {'; '.join(differing)}"
                )
            return
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint.get("callbacks", {}).get(callback.state_key)
            directory = getattr(callback, "dirpath", None)
            if state and directory and state.get("dirpath", directory) != directory:
                checkpoint["callbacks"][callback.state_key] = _moved(state, Path(directory))

    def _other(self, checkpoint: dict[str, Any]) -> list[str]:
        there = json.loads(checkpoint.get(SETTINGS, "{}"))
        return self.settings.differences(there) if there else []


def _moved(state: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The state of a ModelCheckpoint whose files lie in another directory now."""

    def now(path: str) -> str:
        return str(directory / Path(path).name) if path else path

    paths = {key: now(value) for key, value in state.items() if key.endswith("_model_path")}
    kept = {now(path): score for path, score in state.get("best_k_models", {}).items()}
    return state | paths | {"best_k_models": kept, "dirpath": str(directory)}


def checkpoints_in(directory: Path) -> list[Path]:
    """The checkpoints of a directory, by name."""
    return sorted(directory.glob("*.ckpt"))


def is_own(checkpoint: Path, directory: Path) -> bool:
    """Whether a checkpoint is of the run in a directory: it lies there, or has the run's number.

    Args:
        checkpoint: of any run.
        directory: of the run.
    """
    if checkpoint.absolute().is_relative_to(directory.absolute() / "checkpoints"):
        return True
    try:
        number = (read_record(directory) or {}).get("run")
    except UserError:  # of a damaged record, said when the run goes on
        return False
    return number is not None and number == made_by(checkpoint)


def made_by(checkpoint: Path) -> str | None:
    """The number of the run that wrote a checkpoint; None if that cannot be told."""
    try:
        content = read_tensors(checkpoint, mmap=True, whole=False)
    except Exception:  # unpickling raises many kinds; each means that nobody can tell
        return None
    number = content.get(KEY) if isinstance(content, dict) else None
    return number if isinstance(number, str) else None
