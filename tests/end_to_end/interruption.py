"""Callbacks that stand for a kill, and for somebody who tells a program to stop."""

from __future__ import annotations

import os
import signal
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
