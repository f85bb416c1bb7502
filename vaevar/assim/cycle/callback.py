"""The base of callbacks that follow a cycle: Lightning's hooks, with types and without boilerplate."""

from __future__ import annotations

from typing import Any

import lightning as L

from vaevar.assim.cycle.faults import ArmResult
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.data.analysis_times import AnalysisTime, AnalysisTimes, MissingTime
from vaevar.errors import UserError

__all__ = ["ArmResult", "CycleCallback", "Results", "parts_of"]

Results = dict[str, ArmResult]


class CycleCallback(L.Callback):
    """Follows a cycle; override the hooks that are needed.

    Every rank calls every hook at every analysis time, whether or not it has arms left to run. What depends
    on the state before an analysis belongs in :meth:`before_analysis`: when :meth:`after_analysis` is called,
    the cycle may or may not have moved on to the next background, depending on the order of the callbacks.

    Raises:
        UserError: at the first hook of a run, when the module is not an ``AssimilationModule`` or the data
            are not ``AnalysisTimes``.
    """

    def before_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        """Before the first analysis; the arms have their first backgrounds if ``Cycle`` came first."""

    def before_analysis(self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime) -> None:
        """Before each analysis: ``module`` holds the backgrounds of this time."""

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime, results: Results
    ) -> None:
        """After each analysis.

        Args:
            module: the arms.
            data: of the whole cycle.
            time: truth and observations of this analysis.
            results: of this rank's arms, by name; without those that an earlier run has already taken past
                this time.
        """

    def missed(
        self, module: AssimilationModule, data: AnalysisTimes, time: MissingTime, results: Results
    ) -> None:
        """Instead of the two hooks above, at a time whose truth is missing.

        Args:
            module: the arms.
            data: of the whole cycle.
            time: of the analysis that could not be made.
            results: as for :meth:`after_analysis`; the analyses are the backgrounds.
        """

    def after_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        """After the last analysis."""

    def kept(self, module: AssimilationModule, data: AnalysisTimes, arm: str) -> int:
        """How many analyses, from the first, this callback still has all of, for an arm that was run before.

        ``Cycle`` asks before it believes a restart file, and goes back to where nothing is missing.
        """
        return int(data.times.size)

    def go_on(self, module: AssimilationModule, data: AnalysisTimes, arm: str, index: int) -> None:
        """Before an arm goes on with analysis ``index``: forget what an earlier run wrote of later ones."""

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.before_cycle(*parts_of(trainer, pl_module))

    def on_predict_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not isinstance(batch, MissingTime):
            self.before_analysis(*parts_of(trainer, pl_module), batch)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        hook = self.missed if isinstance(batch, MissingTime) else self.after_analysis
        hook(*parts_of(trainer, pl_module), batch, outputs)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.after_cycle(*parts_of(trainer, pl_module))


def parts_of(trainer: L.Trainer, pl_module: L.LightningModule) -> tuple[AssimilationModule, AnalysisTimes]:
    """The module and the data of a cycling predict.

    Raises:
        UserError: when the module is no ``AssimilationModule`` or the data are no ``AnalysisTimes``.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(pl_module, AssimilationModule) or not isinstance(data, AnalysisTimes):
        raise UserError(
            "a cycle needs an AssimilationModule over AnalysisTimes, not "
            f"{type(pl_module).__name__} over {type(data).__name__}"
        )
    return pl_module, data
