"""A line every now and then that says how far a fit is, where there is no progress bar."""

from __future__ import annotations

import math
import time as clock
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar

from vaevar.progress import LogTimes, shows_bars, time_left


class FitLog(L.Callback):
    """Prints epoch, step, losses and the time left: every tenth of the fit and every 30 s."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._total = float(trainer.estimated_stepping_batches)  # infinite for a fit without an end
        self._times = LogTimes(self._total)
        self._first, self._began = trainer.global_step, clock.monotonic()
        self._due = False

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """See whether a line is due; it waits for a validation that follows, whose losses are in it."""
        step = trainer.global_step
        self._due = trainer.is_global_zero and step != self._first and self._times.due(step)

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self._print(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self._print(trainer)

    def _print(self, trainer: L.Trainer) -> None:
        if not self._due:
            return
        self._due, step = False, trainer.global_step
        metrics = trainer.callback_metrics
        parts = [f"{name} {metrics[name]:.4g}" for name in sorted(metrics) if name.endswith("loss")]
        epochs = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        steps, left = "", ""
        if math.isfinite(self._total):
            steps = f"/{self._total:.0f}"
            elapsed = clock.monotonic() - self._began
            left = f"; {time_left(elapsed, step - self._first, round(self._total) - step)}"
        losses = f": {', '.join(parts)}" if parts else ""
        print(f"epoch {trainer.current_epoch + 1}{epochs}, step {step}{steps}{losses}{left}", flush=True)


def lines_for_bars(settings: dict[str, Any], callbacks: list[L.Callback]) -> list[L.Callback]:
    """What a fit prints, where a bar cannot be drawn or is not wanted.

    Args:
        settings: of the trainer; ``enable_progress_bar`` is switched off where no bar can be drawn.
        callbacks: of the command line's own.

    Returns:
        Callbacks to add: none where there will be a bar.
    """
    given = settings.get("callbacks") or []
    own_bar = any(isinstance(callback, ProgressBar) for callback in [*given, *callbacks])
    if own_bar or (shows_bars() and settings.get("enable_progress_bar") is not False):
        return []
    settings["enable_progress_bar"] = False
    return [FitLog()]
