"""Scores of a run: a CSV file by time, arm and channel, and a summary with a row per arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from vaevar.assim.cycle.callback import ArmResult, CycleCallback, Results
from vaevar.assim.cycle.faults import FAILED, IMPLAUSIBLE
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.assim.cycle.stopped import Stop, stop_of
from vaevar.data.analysis_times import AnalysisTime, AnalysisTimes, MissingTime
from vaevar.errors import UserError
from vaevar.files import replacing
from vaevar.mistakes.words import words
from vaevar.state import State, StateSpec
from vaevar.verification.arms import compared, earlier_arms, lengths, remarks
from vaevar.verification.closing import (
    explained,
    how_it_was_made,
    nothing_computed,
    print_summary,
    what_it_is_of,
)
from vaevar.verification.log import CycleLog
from vaevar.verification.metrics import bias, ends_of_windows, normalised_series, rmse, time_mean_rmse
from vaevar.verification.outliers import PastAnalyses, far_from_its_past
from vaevar.verification.tables import (
    append_rows,
    complete_times,
    cut_rows,
    gather_rows,
    rows_at,
    time_text,
    to_markdown,
)

SCORE_COLUMNS = ["time", "arm", "channel", "quantity", "rmse", "bias", "position", "window"]
_QUANTITIES = ("background", "analysis")
# Columns of the summary that count; they are there when there is something to count.
_COUNTS = ("failed analyses", "times without truth", "2J/p far off", "implausible backgrounds")
HEADLINE_CHANNELS = ("z500", "t850", "u500", "q700", "t2m", "msl")


class Scores(CycleCallback):
    """Writes ``<run>/scores.csv`` and ``<run>/summary.md``, and prints the summary.

    Each arm has its own ``<run>/<arm>/scores.csv`` and ``diagnostics.csv`` (J_b, J_o, gradient norm,
    iterations, 2J/p, seconds), so that no two ranks write to the same file. The scores are gathered at the
    end, with those of arms that earlier commands ran. Where there is no progress bar, it says now and then
    how far the cycle is.

    Args:
        skip: analyses at the beginning, while the cycle settles, that the summary leaves out.

    Raises:
        UserError: for a negative ``skip``.
    """

    def __init__(self, skip: int = 20) -> None:
        if skip < 0:
            raise UserError(f"Scores: skip is {skip}, must not be negative")
        self.skip = skip
        self._log: CycleLog
        self._computed = False
        self._past = PastAnalyses()

    def before_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        self._log = CycleLog(module.trainer, data.times.size)
        self._computed = False

    def kept(self, module: AssimilationModule, data: AnalysisTimes, arm: str) -> int:
        directory = module.directory / arm
        for name in ("scores.csv", "diagnostics.csv"):
            if not (directory / name).is_file():
                lost = f"{directory / name}: not there, so the earlier analyses of {arm} have no scores"
                raise UserError(f"{lost}; {words().restart}")
        scores = complete_times(
            directory / "scores.csv",
            data.times,
            score_keys(data.spec),
            numbers=["rmse", "bias"],
            labels=["position", "window"],
        )
        rows = complete_times(directory / "diagnostics.csv", data.times, pd.DataFrame(index=[0]))
        return min(scores, rows)

    def go_on(self, module: AssimilationModule, data: AnalysisTimes, arm: str, index: int) -> None:
        cut_rows(module.directory / arm / "scores.csv", index * len(score_keys(data.spec)))
        cut_rows(module.directory / arm / "diagnostics.csv", index)
        self._past.go_on(arm, module.directory / arm / "diagnostics.csv", index)

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime, results: Results
    ) -> None:
        scores = {name: score_rows(time, name, result) for name, result in results.items()}
        for name, result in results.items():
            self._append(module, name, time.time, scores[name], result.analysis.diagnostics)
            self._past.add(name, time.time, result.analysis.diagnostics)
        if results:
            self._computed = True
            self._log.analysed(time.index, time.time, results, scores, data.climatological_std)

    def missed(
        self, module: AssimilationModule, data: AnalysisTimes, time: MissingTime, results: Results
    ) -> None:
        """Rows without numbers, so that nobody takes the time for forgotten."""
        self._computed |= bool(results)
        for name, result in results.items():
            common = {"time": time_text(time.time), "arm": name, **_within_window(result)}
            labels = [{**common, "quantity": quantity} for quantity in _QUANTITIES]
            rows = pd.concat([unknown_rows(data.spec, label) for label in labels], ignore_index=True)
            self._append(module, name, time.time, rows[SCORE_COLUMNS], {})

    @staticmethod
    def _append(
        module: AssimilationModule,
        name: str,
        time: np.datetime64,
        scores: pd.DataFrame,
        diagnostics: dict[str, float],
    ) -> None:
        directory = module.directory / name
        directory.mkdir(parents=True, exist_ok=True)
        append_rows(directory / "scores.csv", scores, time)
        row = pd.DataFrame([{"time": time_text(time), **diagnostics}])
        append_rows(directory / "diagnostics.csv", row, time)

    def after_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        strategy = module.trainer.strategy
        strategy.barrier()
        computed = not strategy.reduce_boolean_decision(not self._computed, all=True)
        if not module.trainer.is_global_zero:
            return
        directory, arms = module.directory, list(module.arms)
        earlier = earlier_arms(directory, arms, data.times, score_keys(data.spec))
        scores = gather_rows(directory, arms, "scores.csv", earlier)
        with replacing(directory / "scores.csv") as partial:
            scores.to_csv(partial, index=False)
        table = self.table(directory, arms, data, earlier)
        counts, stopped = lengths(scores), _stops(directory, [*arms, *earlier])
        over = compared(counts, arms, stopped)
        if not computed:
            print(nothing_computed(directory, over == data.times.size), flush=True)
        said = remarks(counts, over, earlier, stopped)
        paragraphs = [
            f"# {directory.name}", self.note(over, data, "last time" in table), said, to_markdown(table),
            how_it_was_made(directory, computed),
        ]  # fmt: skip
        text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
        (directory / "summary.md").write_text(f"{text}\n", encoding="utf-8")
        shown = f"{what_it_is_of(data.times, over, self._skipped(over))}."
        print_summary(table, directory, f"{shown} {said}" if said else shown)

    def note(self, over: int, data: AnalysisTimes, windows: bool = False) -> str:
        """What a summary over the first analyses of a run is of; ``windows``: of an arm that has any."""
        period = what_it_is_of(data.times, over, self._skipped(over))
        return explained(period, data.source.description, windows)

    def table(
        self,
        directory: Path,
        arms: list[str],
        data: AnalysisTimes,
        earlier: Mapping[str, np.ndarray] | None = None,
    ) -> pd.DataFrame:
        """The summary of a run (:func:`summarise`), from the files of its arms.

        It is over the analyses that all of them have. An arm that had to stop, or an earlier one that has
        fewer, has no averages; a column says when an arm stopped.

        Args:
            directory: of the run.
            arms: names; none, when only ``earlier`` says what there is.
            data: of the run.
            earlier: arms that only earlier commands ran, and the times that they have.
        """
        earlier = earlier or {}
        scores = gather_rows(directory, arms, "scores.csv", earlier)
        counts, stops = lengths(scores), _stops(directory, [*arms, *earlier])
        over = compared(counts, arms or list(earlier), stops)
        diagnostics = {name: pd.read_csv(directory / name / "diagnostics.csv") for name in arms}
        diagnostics |= {
            name: rows_at(directory / name / "diagnostics.csv", times) for name, times in earlier.items()
        }
        scores = scores[scores["time"].isin([time_text(time) for time in data.times[:over]])]
        diagnostics = {name: rows.iloc[:over] for name, rows in diagnostics.items()}
        table = summarise(scores, diagnostics, data.spec, data.climatological_std, self._skipped(over))
        short = [name for name, count in counts.items() if count < over]
        of_short = table["arm"].isin([*stops, *short])
        table.loc[of_short, table.columns.drop(["arm", *_COUNTS], errors="ignore")] = np.nan
        if stops:
            table["stopped at"] = [
                f"{stops[arm].time}, analysis {stops[arm].index + 1}" if arm in stops else ""
                for arm in table["arm"]
            ]
        return table

    def _skipped(self, analyses: int) -> int:
        # A run that is too short to settle is summarised as a whole.
        return self.skip if self.skip < analyses else 0


def _stops(directory: Path, arms: list[str]) -> dict[str, Stop]:
    return {name: stop for name in arms if (stop := stop_of(directory / name))}


def score_rows(time: AnalysisTime, arm: str, result: ArmResult) -> pd.DataFrame:
    """Rows of ``scores.csv`` for one arm at one time, in physical units."""
    states = {"background": result.background, "analysis": result.analysis.state}
    frames = []
    for quantity, state in states.items():
        labels = {"time": time_text(time.time), "arm": arm, "quantity": quantity, **_within_window(result)}
        frames.append(error_rows(state.values, time.truth, labels))
    return pd.concat(frames, ignore_index=True)[SCORE_COLUMNS]


def _within_window(result: ArmResult) -> dict[str, int]:
    """Where an analysis lies in its window: only the last of a window has seen no later observation."""
    return {"position": result.position, "window": result.window}


def error_rows(values: Tensor, truth: State, labels: dict[str, Any]) -> pd.DataFrame:
    """A row per channel, with ``labels``, ``channel``, ``rmse`` and ``bias``.

    Args:
        values: [C, H, W], physical units.
        truth: to compare with.
        labels: columns with the same value in every row.
    """
    error = values.double() - truth.values.to(values.device).double()
    return pd.DataFrame(
        {
            **labels,
            "channel": truth.spec.names,
            "rmse": rmse(error, truth.grid).cpu().numpy(),
            "bias": bias(error, truth.grid).cpu().numpy(),
        }
    )


def unknown_rows(spec: StateSpec, labels: dict[str, Any]) -> pd.DataFrame:
    """The same rows where there is nothing to compare with: no numbers."""
    return pd.DataFrame({**labels, "channel": spec.names, "rmse": np.nan, "bias": np.nan})


def score_keys(spec: StateSpec) -> pd.DataFrame:
    """The rows of ``scores.csv`` for one time."""
    return pd.DataFrame(
        [(quantity, name) for quantity in _QUANTITIES for name in spec.names], columns=["quantity", "channel"]
    )


def summarise(
    scores: pd.DataFrame,
    diagnostics: dict[str, pd.DataFrame],
    spec: StateSpec,
    std: np.ndarray,
    skip: int,
) -> pd.DataFrame:
    """A row per arm over the analyses after the first ``skip``.

    Columns: ``rmse / std`` of analysis and background (mean over channels), and where an arm analyses
    windows of several times, of the analyses at the last times of all windows (``last time``), when no arm
    has seen a later observation, and of the ``next background``, one step later; ``improved``, the fraction
    of analyses that are better than their background; ``drift %/day``, the slope of the analysis' ``rmse /
    std`` in per cent of its mean per day; the analysis RMSE of the headline channels; and per analysis
    ``2J/p``, ``iterations`` and ``seconds``. Columns with the numbers of failed analyses (which kept their
    background), of times without truth, of analyses whose 2J/p is far from its own past, and of backgrounds
    that no atmosphere has, are added where an arm has any.

    Args:
        scores: rows of ``scores.csv``.
        diagnostics: rows of ``diagnostics.csv`` by arm.
        spec: the C channels.
        std: [C], climatological.
        skip: number of analyses left out at the beginning.
    """
    rows, at_ends = [], ends_of_windows(scores, skip)
    for arm in diagnostics:
        mean = {
            quantity: time_mean_rmse(scores, arm, quantity, spec, skip)
            for quantity in ("analysis", "background")
        }
        analysis = normalised_series(scores, arm, "analysis", spec, std)[skip:]
        background = normalised_series(scores, arm, "background", spec, std)[skip:]
        of_arm = scores.loc[scores["arm"] == arm, "time"]
        times = pd.to_datetime(of_arm.drop_duplicates()).sort_values().to_numpy()[skip:]
        known = np.isfinite(analysis)
        analysis, background, times = analysis[known], background[known], times[known]
        slope = np.nan
        if analysis.size > 1:
            slope = np.polyfit((times - times[0]) / np.timedelta64(1, "D"), analysis, 1)[0]
        row: dict[str, Any] = {
            "arm": arm,
            "analysis rmse / std": (mean["analysis"] / std).mean(),
            "background rmse / std": (mean["background"] / std).mean(),
            "improved": float((analysis < background).mean()) if analysis.size else np.nan,
            "drift %/day": 100 * slope / analysis.mean() if analysis.size else np.nan,
        }
        row |= {
            label: (time_mean_rmse(at_ends[label], arm, quantity, spec, 0) / std).mean()
            for label, quantity in (("last time", "analysis"), ("next background", "background"))
            if label in at_ends
        }
        row |= {name: mean["analysis"][spec.index(name)] for name in HEADLINE_CHANNELS if spec.has(name)}
        settled = diagnostics[arm].iloc[skip:]
        for label, column in (("2J/p", "chi2"), ("iterations", "iterations"), ("seconds", "seconds")):
            row[label] = settled[column].mean() if column in settled else np.nan
        failed, unknown, far_off, implausible = _COUNTS
        for count, column in ((failed, FAILED), (implausible, IMPLAUSIBLE)):
            row[count] = int(diagnostics[arm][column].sum()) if column in diagnostics[arm] else 0
        row[unknown] = int((~known).sum())
        row[far_off] = int(far_from_its_past(diagnostics[arm].get("chi2", ()))[skip:].sum())
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.drop(columns=[name for name in _COUNTS if not table[name].any()])
