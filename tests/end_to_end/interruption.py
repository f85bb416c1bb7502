"""Callbacks that stand for a kill, and for somebody who tells a program to stop."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
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


class Signal(L.Callback):
    """Sends this process a signal when a hook is called.

    Args:
        name: of the signal.
        hook: of the trainer's, such as ``on_validation_batch_start``.
        call: number of the call, from 1, at which it is sent.
    """

    def __init__(self, name: str, hook: str, call: int) -> None:
        self.left = call
        setattr(self, hook, lambda *_: self._send(getattr(signal, name)))

    def _send(self, number: int) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), number)


class Slow(L.Callback):
    """Waits before every analysis, so that there is time to interrupt a cycle.

    Args:
        seconds: to wait.
    """

    def __init__(self, seconds: float = 2.0) -> None:
        self.seconds = seconds

    def on_predict_batch_start(self, *args: Any) -> None:
        time.sleep(self.seconds)


class Death(L.Callback):
    """Kills this process before the third analysis, unless one has been killed already."""

    def on_predict_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, index: int
    ) -> None:
        if index == 2 and not Path("killed").exists():
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
