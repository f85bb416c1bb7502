"""Writes the report of a run at its end."""

from __future__ import annotations

import lightning as L

from vaevar.assim.cycle.callback import CycleCallback, Results
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.data.analysis_times import AnalysisTime, AnalysisTimes, MissingTime
from vaevar.errors import first_line
from vaevar.mistakes.notices import notice
from vaevar.verification.report.page import NAME, write_report
from vaevar.verification.scores import Scores


class RunReport(CycleCallback):
    """Writes ``<run>/report.html``, after the summary.

    A run is complete without it: where it cannot be written, a line says why.
    """

    def __init__(self) -> None:
        self._computed = False

    def before_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        self._computed = False

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime, results: Results
    ) -> None:
        self._computed |= bool(results)

    def missed(
        self, module: AssimilationModule, data: AnalysisTimes, time: MissingTime, results: Results
    ) -> None:
        self._computed |= bool(results)

    def after_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        strategy, directory = module.trainer.strategy, module.directory
        computed = not strategy.reduce_boolean_decision(not self._computed, all=True)
        if not module.trainer.is_global_zero:
            return
        try:
            if computed or not (directory / NAME).is_file():
                callbacks: list[L.Callback] = module.trainer.callbacks  # type: ignore[attr-defined]
                skips = [callback.skip for callback in callbacks if isinstance(callback, Scores)]
                write_report([directory], data, skips[0] if skips else None)
            print(f"Look at all of it in a browser: {directory / NAME}", flush=True)
        except Exception as error:  # hours of a cycle must not end in an error of a picture
            notice(
                f"{directory / NAME}: not written ({type(error).__name__}: {first_line(error)}); "
                f"`python -m vaevar.verification.report {directory}` tries again"
            )
