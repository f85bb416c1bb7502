"""Memory and time of every analysis of a cycle, on the disk as it goes."""

from __future__ import annotations

import time

import pandas as pd
from measuring import resident_gb

from vaevar.assim.cycle.callback import CycleCallback, Results
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.data.analysis_times import AnalysisTime, AnalysisTimes
from vaevar.verification.tables import append_rows, time_text


class CycleResources(CycleCallback):
    """Appends to ``<run>/<arm>/resources.csv``, for the first arm of a rank and of the whole process.

    Columns: ``time``; ``seconds`` and ``busy_seconds`` since the analysis before, in wall-clock and in
    processor time; ``resident_gb`` of memory.
    """

    def before_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        self._since = time.perf_counter(), time.process_time()

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time_: AnalysisTime, results: Results
    ) -> None:
        before, self._since = self._since, (time.perf_counter(), time.process_time())
        if not results:
            return
        row = {
            "time": time_text(time_.time),
            "seconds": self._since[0] - before[0],
            "busy_seconds": self._since[1] - before[1],
            "resident_gb": resident_gb(),
        }
        path = module.directory / module.local_arms()[0] / "resources.csv"
        append_rows(path, pd.DataFrame([row]), data.times[time_.index])
