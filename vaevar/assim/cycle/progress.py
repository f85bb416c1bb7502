"""A progress bar for cycles: which analysis, how its minimisation goes, how long is left."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vaevar.assim.cycle.cycle import parts_of
from vaevar.assim.cycle.module import ArmResult
from vaevar.assim.variational import VariationalAssimilator


class CycleProgress(ProgressBar):
    """Shows analyses done, cost and gradient of the current minimisation, and the time left."""

    def __init__(self) -> None:
        super().__init__()
        self._progress: Progress | None = None
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not (self._enabled and trainer.is_global_zero):
            return
        module, data = parts_of(trainer, pl_module)
        self._progress = Progress(
            TextColumn("analyses"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=data.times.size)
        for name in module.local_arms():
            arm = module.arms[name]
            if isinstance(arm, VariationalAssimilator):
                arm.on_iteration = self._reporter(name, arm.iterations)

    def _reporter(self, name: str, limit: int) -> Any:
        def report(iteration: int, cost: float, grad_norm: float) -> None:
            if self._progress is not None:
                text = f"{name} {iteration}/{limit}: J {cost:.4g}, |∇J| {grad_norm:.3g}"
                self._progress.update(self._task, description=text)

        return report

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        results: dict[str, ArmResult] = outputs
        if self._progress is not None:
            self._progress.update(self._task, completed=batch.index + 1)
            if not results:
                self._progress.update(self._task, description="done in an earlier run")

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
