"""Forecasts from an arm's own analyses: what an analysis is worth days later.

A forecaster can damp noise in an analysis, or amplify imbalance. So the RMSE of forecasts is the second half
of a method's score (as in Xiao et al., ICLR 2025, and Huang et al., DiffDA, 2024).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vaevar.assim.cycle.callback import CycleCallback, Results
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.assim.cycle.restart import analyses_made
from vaevar.data.analysis_times import HOUR, AnalysisTime, AnalysisTimes, MissingTime
from vaevar.data.weather.holes import holes
from vaevar.data.weather.store import WeatherStore
from vaevar.errors import UserError
from vaevar.forecast import rollout
from vaevar.mistakes.words import words
from vaevar.state import StateSpec
from vaevar.verification.arms import earlier_arms
from vaevar.verification.scores import error_rows, score_keys, unknown_rows
from vaevar.verification.tables import append_rows, complete_times, cut_rows, gather_rows, time_text

FORECAST_COLUMNS = ["time", "arm", "lead_hours", "channel", "rmse", "bias"]


def starts_from(index: int, window: int, every: int) -> bool:
    """Whether a forecast starts from an analysis: the last of its window, and one was due in that.

    Args:
        index: of the analysis in its cycle.
        window: number of analyses that are handed out together.
        every: analyses between forecasts.
    """
    last = index % window == window - 1
    return last and index // every > (index - window) // every


class Forecasts(CycleCallback):
    """Writes ``<run>/forecasts.csv``: scores of forecasts from every ``every``-th analysis.

    Like the cycle's backgrounds, a forecast starts from the arm's last ``forecaster.history`` analyses;
    ``time`` in the file is the time of the analysis. The source is prepared up to the end of the longest
    forecast. Each arm has its own ``<run>/<arm>/forecasts.csv``, as in
    :class:`vaevar.verification.scores.Scores`, so that a resumed run ends with the same file.

    An arm that analyses windows of several times has seen later observations in all of them but the last: its
    forecasts start from the last time of the window in which they are due.

    Args:
        every: analyses between forecasts; the first one is due at analysis 0.
        lead_hours: leads to score; default 24, 72 and 120.
        beside: numbers of analyses in the windows of other arms. Forecasts also start from where those of
            such arms do, so that the same days can be compared.

    Raises:
        UserError: for an interval, a window or a lead that is not positive; at the start of a run, for a lead
            that is not a multiple of the cycle's step; at its end, when an arm was cycled without this
            callback.
    """

    def __init__(
        self, every: int = 8, lead_hours: list[int] | None = None, beside: list[int] | None = None
    ) -> None:
        self.lead_hours = sorted(set([24, 72, 120] if lead_hours is None else lead_hours))
        if every < 1 or not self.lead_hours or self.lead_hours[0] < 1:
            raise UserError(f"Forecasts: every {every} and lead_hours {lead_hours} must be positive")
        self.every, self.beside = every, beside or []
        if any(length < 1 for length in self.beside):
            raise UserError(f"Forecasts: beside {beside} must be positive")
        self._earlier: dict[str, Tensor] = {}
        self._truth: WeatherStore

    def before_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        uneven = [lead for lead in self.lead_hours if lead % data.step_hours]
        if uneven:
            raise UserError(
                f"Forecasts: lead_hours {uneven} are not multiples of the cycle's step, {data.step_hours} h"
            )
        starts = np.unique(np.concatenate([self._starts(module, data, name) for name in module.arms]))
        data.source.prepare(data.start, starts[-1] + self.lead_hours[-1] * HOUR)
        # The data's own store was opened before the truth reached so far.
        self._truth = data.source.open(data.spec)
        valid = np.unique(np.concatenate([starts + lead * HOUR for lead in self.lead_hours]))
        missing = {} if data.skip_missing else holes(self._truth, valid)
        if missing:
            raise UserError(f"Forecasts: {next(iter(missing.values()))}")

    def _starts_from(self, index: int, window: int) -> bool:
        """Whether a forecast starts from an analysis of an arm: its own, or one beside those of others."""
        if index % window != window - 1:
            return False
        return any(starts_from(index, length, self.every) for length in (window, *self.beside))

    def _starts(self, module: AssimilationModule, data: AnalysisTimes, arm: str) -> np.ndarray:
        """The times of the analyses from which the forecasts of an arm start."""
        window = module.arms[arm].stride
        return data.times[[self._starts_from(index, window) for index in range(data.times.size)]]

    def _keys(self, spec: StateSpec) -> pd.DataFrame:
        """The rows of one analysis."""
        return pd.DataFrame(
            [(lead, name) for lead in self.lead_hours for name in spec.names],
            columns=["lead_hours", "channel"],
        )

    def kept(self, module: AssimilationModule, data: AnalysisTimes, arm: str) -> int:
        path = module.directory / arm / "forecasts.csv"
        if not path.is_file():
            raise UserError(f"{module.directory}: {arm} ran earlier without Forecasts; {words().restart}")
        starts = self._starts(module, data, arm)
        done = complete_times(path, starts, self._keys(data.spec), ["rmse", "bias"])
        return int(np.searchsorted(data.times, starts[done])) if done < starts.size else data.times.size

    def go_on(self, module: AssimilationModule, data: AnalysisTimes, arm: str, index: int) -> None:
        earlier = np.isin(data.times[:index], self._starts(module, data, arm)).sum()
        cut_rows(module.directory / arm / "forecasts.csv", int(earlier) * len(self._keys(data.spec)))

    # Take the earlier analyses here: in after_analysis, Cycle may or may not have moved on already, depending
    # on the order of the callbacks.
    def before_analysis(self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime) -> None:
        self._earlier = {name: standing.trajectory[:-1] for name, standing in module.standing.items()}

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime, results: Results
    ) -> None:
        for name, result in results.items():
            if not self._starts_from(time.index, result.window):
                continue
            earlier = self._earlier[name] if result.before is None else result.before
            states = torch.cat([earlier, result.analysis.state.values[None]])[None]
            self._append(module, name, time.time, self._scored(module, data, name, time.time, states))

    def missed(
        self, module: AssimilationModule, data: AnalysisTimes, time: MissingTime, results: Results
    ) -> None:
        """No forecast starts from a background; its rows are there, without numbers."""
        for name, result in results.items():
            if not self._starts_from(time.index, result.window):
                continue
            frames = [
                unknown_rows(data.spec, self._labels(name, time.time, lead)) for lead in self.lead_hours
            ]
            self._append(module, name, time.time, frames)

    def _scored(
        self, module: AssimilationModule, data: AnalysisTimes, name: str, time: np.datetime64, states: Tensor
    ) -> list[pd.DataFrame]:
        """The rows of each lead, from the last states [1, history, C, H, W]; without numbers where the
        forecast fails or the truth is missing."""
        forecasts, frames = rollout(module.forecaster, states, self.lead_hours[-1] // data.step_hours), []
        failed = False
        for lead in range(data.step_hours, self.lead_hours[-1] + 1, data.step_hours):
            try:
                values = None if failed else next(forecasts)[0]
            except UserError as error:
                print(f"arm {name}: the forecast from {time} ends before {lead} h: {error}", flush=True)
                failed = True
                values = None
            if lead not in self.lead_hours:
                continue
            labels, truth = self._labels(name, time, lead), None
            try:
                truth = self._truth.state(time + lead * HOUR)
            except UserError as error:
                if not data.skip_missing:
                    raise
                print(f"arm {name}: the forecast from {time} is not scored at {lead} h: {error}", flush=True)
            if values is None or truth is None:
                frames.append(unknown_rows(data.spec, labels))
            else:
                frames.append(error_rows(values, truth, labels))
        return frames

    @staticmethod
    def _labels(name: str, time: np.datetime64, lead: int) -> dict[str, str | int]:
        return {"time": time_text(time), "arm": name, "lead_hours": lead}

    @staticmethod
    def _append(
        module: AssimilationModule, name: str, time: np.datetime64, frames: list[pd.DataFrame]
    ) -> None:
        directory = module.directory / name
        directory.mkdir(parents=True, exist_ok=True)
        rows = pd.concat(frames, ignore_index=True)[FORECAST_COLUMNS]
        append_rows(directory / "forecasts.csv", rows, time)

    def after_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        self._earlier = {}
        module.trainer.strategy.barrier()
        if not module.trainer.is_global_zero:
            return
        directory = module.directory
        arms = [name for name in module.arms if (directory / name / "forecasts.csv").is_file()]
        # An arm that has not come to the end of its first window has no forecasts yet.
        missing = [
            name
            for name, arm in module.arms.items()
            if name not in arms and (arm.stride == 1 or analyses_made(directory / name))
        ]
        if missing:
            raise UserError(f"{directory}: {', '.join(missing)} ran without Forecasts; {words().restart}")
        # Those of earlier commands that made forecasts; their last rows may be half written.
        earlier = {
            name: times
            for name, times in earlier_arms(directory, module.arms, data.times, score_keys(data.spec)).items()
            if (directory / name / "forecasts.csv").is_file()
        }
        if arms or earlier:
            table = gather_rows(directory, arms, "forecasts.csv", earlier)
            table.to_csv(directory / "forecasts.csv", index=False)
