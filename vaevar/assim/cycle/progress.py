"""A progress bar for cycles: the analysis, how its minimisation goes, and the time left."""

from __future__ import annotations

from collections.abc import Callable

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

from vaevar.assim.cycle.callback import CycleCallback, Results
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.analysis_times import AnalysisTime, AnalysisTimes, MissingTime
from vaevar.progress import shows_bars


class CycleProgress(CycleCallback, ProgressBar):
    """Shows the number of analyses, cost and gradient of the current minimisation, and the time left.

    Where the output is a file, :class:`vaevar.verification.scores.Scores` writes lines instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self._progress: Progress | None = None
        self._note = ""
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def before_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        if not (self._enabled and module.trainer.is_global_zero and shows_bars()):
            return
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
        self._task = self._progress.add_task(
            "", total=min(data.times.size, *map(int, module.trainer.num_predict_batches))
        )
        for name in module.local_arms():
            arm = module.arms[name]
            if isinstance(arm, VariationalAssimilator):
                arm.on_iteration = self._reporter(name, arm.iterations)

    def _reporter(self, name: str, limit: int) -> Callable[[int, float, float], None]:
        def report(iteration: int, cost: float, grad_norm: float) -> None:
            if self._progress is not None:
                text = f"{name} {iteration}/{limit}: J {cost:.4g}, |∇J| {grad_norm:.3g}{self._note}"
                self._progress.update(self._task, description=text)

        return report

    def note(self, text: str) -> None:
        """Show a text beside the minimisation."""
        self._note = f"; {text}"
        if self._progress is not None:
            self._progress.update(self._task, description=text)

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime, results: Results
    ) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=time.index + 1)
            if not results:
                self._progress.update(self._task, description="done in an earlier run")

    def missed(
        self, module: AssimilationModule, data: AnalysisTimes, time: MissingTime, results: Results
    ) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=time.index + 1)

    def after_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        self._stop()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
