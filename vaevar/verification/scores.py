"""Scores of a run: a CSV file by time, arm and channel, and a summary with a row per arm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vaevar.assim.cycle.callback import CycleCallback, Results
from vaevar.assim.cycle.module import ArmResult, AssimilationModule
from vaevar.data.analysis_times import AnalysisTime, AnalysisTimes
from vaevar.errors import UserError
from vaevar.runs.record import how_to_repeat
from vaevar.state import State, StateSpec
from vaevar.verification.metrics import bias, rmse
from vaevar.verification.tables import append_rows, cell_text, gather_rows, time_text, to_markdown

SCORE_COLUMNS = ["time", "arm", "channel", "quantity", "rmse", "bias"]


HEADLINE_CHANNELS = ("z500", "t850", "u500", "q700", "t2m", "msl")


class Scores(CycleCallback):
    """Writes ``<run>/scores.csv`` and ``<run>/summary.md``, and prints the summary.

    Each arm has its own ``<run>/<arm>/scores.csv`` and ``diagnostics.csv`` (J_b, J_o, gradient norm,
    iterations, 2J/p, seconds), so that no two ranks write to the same file. The scores are gathered at the
    end.

    Args:
        skip: analyses at the beginning, while the cycle settles, that the summary leaves out.

    Raises:
        UserError: for a negative ``skip``.
    """

    def __init__(self, skip: int = 20) -> None:
        if skip < 0:
            raise UserError(f"Scores: skip is {skip}, must not be negative")
        self.skip = skip

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime, results: Results
    ) -> None:
        for name, result in results.items():
            directory = module.directory / name
            directory.mkdir(parents=True, exist_ok=True)
            rows = score_rows(time, name, result)
            append_rows(directory / "scores.csv", rows, data.times[time.index])
            diagnostics = pd.DataFrame([{"time": time_text(time.time), **result.analysis.diagnostics}])
            append_rows(directory / "diagnostics.csv", diagnostics, data.times[time.index])

    def after_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        module.trainer.strategy.barrier()
        if not module.trainer.is_global_zero:
            return
        directory = module.directory
        scores = gather_rows(directory, list(module.arms), "scores.csv")
        scores.to_csv(directory / "scores.csv", index=False)
        table = self.table(directory, list(module.arms), data)
        first = str(data.times[self._skipped(data.times)])
        note = (
            f"Analyses {first} to {data.times[-1]}, {data.times.size - self._skipped(data.times)} of "
            f"{data.times.size}; truth: {data.source.description}. RMSE is area-weighted, its root taken "
            "after the mean over time; `rmse / std` is the mean over channels of RMSE / climatological std."
        )
        paragraphs = [f"# {directory.name}", note, to_markdown(table), how_to_repeat(directory)]
        text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
        (directory / "summary.md").write_text(f"{text}\n", encoding="utf-8")
        _print(table, directory)

    def table(self, directory: Path, arms: list[str], data: AnalysisTimes) -> pd.DataFrame:
        """The summary of a run (:func:`summarise`), from the files of its arms.

        Args:
            directory: of the run.
            arms: names.
            data: of the run.
        """
        scores = gather_rows(directory, arms, "scores.csv")
        diagnostics = {name: pd.read_csv(directory / name / "diagnostics.csv") for name in arms}
        return summarise(scores, diagnostics, data.spec, data.climatological_std, self._skipped(data.times))

    def _skipped(self, times: np.ndarray) -> int:
        # A run that is too short to settle is summarised as a whole.
        return self.skip if self.skip < times.size else 0


def score_rows(time: AnalysisTime, arm: str, result: ArmResult) -> pd.DataFrame:
    """Rows of ``scores.csv`` for one arm at one time, in physical units."""
    states = {"background": result.background, "analysis": result.analysis.state}
    frames = []
    for quantity, state in states.items():
        labels = {"time": time_text(time.time), "arm": arm, "quantity": quantity}
        frames.append(error_rows(state.values, time.truth, labels))
    return pd.concat(frames, ignore_index=True)[SCORE_COLUMNS]


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


def normalised_series(
    scores: pd.DataFrame, arm: str, quantity: str, spec: StateSpec, std: np.ndarray
) -> np.ndarray:
    """Mean over channels of RMSE / climatological std, at each time, [T]."""
    return (_matrix(scores, arm, quantity, spec) / std).mean(1)


def time_mean_rmse(scores: pd.DataFrame, arm: str, quantity: str, spec: StateSpec, skip: int) -> np.ndarray:
    """RMSE over all analyses after the first ``skip``, [C]: the root is taken after the mean over time."""
    return np.sqrt((_matrix(scores, arm, quantity, spec)[skip:] ** 2).mean(0))


def summarise(
    scores: pd.DataFrame,
    diagnostics: dict[str, pd.DataFrame],
    spec: StateSpec,
    std: np.ndarray,
    skip: int,
) -> pd.DataFrame:
    """A row per arm over the analyses after the first ``skip``.

    Columns: ``rmse / std`` of analysis and background (mean over channels); ``improved``, the fraction of
    analyses that are better than their background; ``drift %/day``, the slope of the analysis' ``rmse / std``
    in per cent of its mean per day; the analysis RMSE of the headline channels; and per analysis ``2J/p``,
    ``iterations`` and ``seconds``.

    Args:
        scores: rows of ``scores.csv``.
        diagnostics: rows of ``diagnostics.csv`` by arm.
        spec: the C channels.
        std: [C], climatological.
        skip: number of analyses left out at the beginning.
    """
    rows = []
    for arm in diagnostics:
        mean = {
            quantity: time_mean_rmse(scores, arm, quantity, spec, skip)
            for quantity in ("analysis", "background")
        }
        analysis = normalised_series(scores, arm, "analysis", spec, std)[skip:]
        background = normalised_series(scores, arm, "background", spec, std)[skip:]
        times = pd.to_datetime(scores["time"].drop_duplicates()).sort_values().to_numpy()[skip:]
        days = (times - times[0]) / np.timedelta64(1, "D")
        slope = np.polyfit(days, analysis, 1)[0] if analysis.size > 1 else np.nan
        row: dict[str, Any] = {
            "arm": arm,
            "analysis rmse / std": (mean["analysis"] / std).mean(),
            "background rmse / std": (mean["background"] / std).mean(),
            "improved": float((analysis < background).mean()),
            "drift %/day": 100 * slope / analysis.mean(),
        }
        row |= {name: mean["analysis"][spec.index(name)] for name in HEADLINE_CHANNELS if spec.has(name)}
        settled = diagnostics[arm].iloc[skip:]
        for label, column in (("2J/p", "chi2"), ("iterations", "iterations"), ("seconds", "seconds")):
            row[label] = settled[column].mean() if column in settled else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _matrix(scores: pd.DataFrame, arm: str, quantity: str, spec: StateSpec) -> np.ndarray:
    """RMSE by time and channel, [T, C], in the state's channel order."""
    chosen = scores[(scores["arm"] == arm) & (scores["quantity"] == quantity)]
    wide = chosen.pivot(index="time", columns="channel", values="rmse").sort_index()
    return wide[list(spec.names)].to_numpy()


def _print(table: pd.DataFrame, directory: Path) -> None:
    # Arms as columns: a dozen numbers fit into a narrow terminal as rows, not as columns.
    shown = Table("", *table["arm"], title=f"{directory.name}: RMSE against the truth")
    for name in table.columns.drop("arm"):
        shown.add_row(name, *[cell_text(value) for value in table[name]])
    console = Console()
    console.print(shown)
    console.print(
        f"Scores and states are in {directory}/; look at them with: tensorboard --logdir {directory}"
    )
