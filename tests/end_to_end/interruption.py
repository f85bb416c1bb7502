"""A callback that stands for a kill."""

from __future__ import annotations

from typing import Any

import lightning as L


class Interruption(L.Callback):
    """Interrupts a fit before a step.

    Args:
        step: its number.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt
