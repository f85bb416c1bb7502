"""A line every now and then that says how far a cycle is, for logs and for the progress bar."""

from __future__ import annotations

import time as clock

import lightning as L
import numpy as np
import pandas as pd

from vaevar.assim.cycle.faults import ArmResult
from vaevar.assim.cycle.progress import CycleProgress
from vaevar.progress import LogTimes, shows_bars, time_left

_BAR_EVERY = 2.0  # seconds


class CycleLog:
    """Prints lines where there is no progress bar, and writes beside the bar where there is one.

    Args:
        trainer: whose bar it is.
        total: number of analyses.
    """

    def __init__(self, trainer: L.Trainer, total: int) -> None:
        limit = trainer.num_predict_batches
        self._total = min([total, *(int(count) for count in limit)])
        bar = trainer.progress_bar_callback
        self._bar = bar if shows_bars() else None
        self._times = LogTimes(self._total)
        self._began, self._done, self._bar_at = 0.0, 0, 0.0

    def analysed(
        self,
        index: int,
        time: np.datetime64,
        results: dict[str, ArmResult],
        scores: dict[str, pd.DataFrame],
        std: np.ndarray,
    ) -> None:
        """After an analysis.

        Args:
            index, time: of the analysis.
            results: by arm.
            scores: the rows of ``scores.csv`` by arm.
            std: [C], climatological.
        """
        self._done += 1
        if self._done == 1:
            # What came before is making the world, opening files, and what an earlier run has done.
            self._began = clock.monotonic()
        if isinstance(self._bar, CycleProgress):
            if clock.monotonic() >= self._bar_at:
                self._bar_at = clock.monotonic() + _BAR_EVERY
                means = [f"{arm} {_mean(rows, 'analysis', std):.3f}" for arm, rows in scores.items()]
                self._bar.note(f"rmse/std {', '.join(means)}")
        elif self._bar is None and self._times.due(index + 1):
            left = ""
            if self._done > 1:
                elapsed = clock.monotonic() - self._began
                left = f"; {time_left(elapsed, self._done - 1, self._total - index - 1)}"
            for arm, rows in scores.items():
                print(f"{_head(index, self._total, time, arm, rows, std, results[arm])}{left}", flush=True)


def _head(
    index: int,
    total: int,
    time: np.datetime64,
    arm: str,
    rows: pd.DataFrame,
    std: np.ndarray,
    result: ArmResult,
) -> str:
    numbers = result.analysis.diagnostics
    parts = [f"rmse/std {_mean(rows, 'analysis', std):.4f} (background {_mean(rows, 'background', std):.4f})"]
    if "j_b" in numbers and "j_o" in numbers:
        parts.append(f"J {numbers['j_b'] + numbers['j_o']:.5g}")
    if "seconds" in numbers:
        parts.append(f"{numbers['seconds']:.2g} s")
    return f"analysis {index + 1}/{total}, {time}, {arm}: {', '.join(parts)}"


def _mean(rows: pd.DataFrame, quantity: str, std: np.ndarray) -> float:
    return float((rows.loc[rows["quantity"] == quantity, "rmse"].to_numpy() / std).mean())
