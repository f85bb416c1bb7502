"""The callback that writes the tables and figures of a sensitivity experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from vaevar.errors import UserError
from vaevar.experiments.reporting import data_of, print_table, save_figures
from vaevar.experiments.sensitivity.data import SensitivityCase, SensitivityData
from vaevar.experiments.sensitivity.figures import Map, impact_figure, sensitivity_figure
from vaevar.experiments.sensitivity.module import SensitivityModule
from vaevar.experiments.sensitivity.tables import (
    Row,
    channel_table,
    error_table,
    impact_rows,
    impact_table,
    norm_table,
    perturbation_table,
    side_by_side,
    upright,
)
from vaevar.runs.directory import run_directory
from vaevar.runs.record import how_to_repeat
from vaevar.verification.tables import to_markdown

ERRORS, PERTURBATIONS = "Forecast error", "The most harmful analysis error"
AROUND = 75.0  # degrees of longitude around the region on the maps of the sensitivity
BY_VARIABLE, BY_TIME = "Impact of observations by variable", "Impact of observations by time"


class SensitivityReport(L.Callback):
    """Writes ``summary.md``, ``sensitivity.csv``, ``impacts.csv`` and two PNGs of every arm and date.

    ``sensitivity_<arm>_<date>.png`` has maps of the gradient and of the most harmful analysis error,
    ``impact_<arm>_<date>.png`` the places of the observations by what they did. The figures go to TensorBoard
    too, and the tables are printed.

    Args:
        channels: that are mapped.
        weather: channel that is drawn on the maps as contours. None: none.

    Raises:
        UserError: at the start of a run, when the state lacks a channel.
    """

    outputs: ClassVar = ()

    def __init__(
        self,
        channels: tuple[str, ...] = ("z500", "t850", "u500", "q700", "msl"),
        weather: str | None = "z500",
    ) -> None:
        self.channels, self.weather = tuple(channels), weather
        self._rows: list[Row] = []
        self._tables: dict[str, pd.DataFrame] = {}
        self._directory: Path | None = None

    @staticmethod
    def _data(trainer: L.Trainer, pl_module: L.LightningModule) -> SensitivityData:
        return data_of(trainer, pl_module, "SensitivityReport", SensitivityModule, SensitivityData)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._directory = run_directory(trainer)
        data = self._data(trainer, pl_module)
        shown = [*self.channels, *([self.weather] if self.weather else [])]
        if missing := [name for name in dict.fromkeys(shown) if not data.spec.has(name)]:
            raise UserError(
                f"SensitivityReport: the state has no {', '.join(missing)}; set `channels` and `weather`"
            )

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._rows, self._tables = [], {}

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        case: SensitivityCase = batch
        self._rows += [Row(arm, case.time, explained) for arm, explained in outputs.items()]

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not (trainer.is_global_zero and self._rows):
            return
        data = self._data(trainer, pl_module)
        assert self._directory is not None
        self._directory.mkdir(parents=True, exist_ok=True)
        channels = channel_table(self._rows, data.spec, data.grid)
        channels.to_csv(self._directory / "sensitivity.csv", index=False)
        impacts = pd.concat([impact_rows(row) for row in self._rows], ignore_index=True)
        impacts.to_csv(self._directory / "impacts.csv", index=False)
        self._tables = {
            ERRORS: error_table(self._rows),
            BY_VARIABLE: impact_table(impacts, ["arm", "variable"]),
            BY_TIME: impact_table(impacts, ["arm", "date", "time"]).drop(columns="date"),
            PERTURBATIONS: perturbation_table(self._rows),
        }
        (self._directory / "summary.md").write_text(self._summary(data, channels), encoding="utf-8")
        for row in self._rows:
            label = f"{row.arm}_{row.time.astype('datetime64[h]')}"
            save_figures(trainer, self._directory, label, self._figures(row, data, impacts))

    # After the progress bars are gone.
    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        console = Console()
        printed = {}
        if self._tables:
            # Turned, to fit into 80 columns; summary.md has all.
            printed = {
                ERRORS: upright(self._tables[ERRORS]),
                BY_VARIABLE: side_by_side(self._tables[BY_VARIABLE]),
            }
        for title, table in printed.items():
            print_table(console, title, table, left=table.columns[:1])
        if self._tables:
            console.print(f"Figures and tables are in {self._directory}/")
        self._tables = {}

    def _figures(self, row: Row, data: SensitivityData, impacts: pd.DataFrame) -> dict[str, Figure]:
        explained = row.explained
        perturbation = explained.impacts.perturbation[-1].double().cpu().numpy() / data.std[:, None, None]
        state = None
        if self.weather:
            state = explained.analysis[data.spec.index(self.weather)].double().cpu().numpy()
        what = f"{data.lead_hours} h forecast of {row.arm} from {row.time.astype('datetime64[h]')}"
        own = impacts[(impacts["arm"] == row.arm) & (impacts["date"] == str(row.time))]
        change = float(own["impact"].sum())
        return {
            "sensitivity": sensitivity_figure(
                f"Where the error of the {what} comes from (J_e {explained.analysis_error:.3g})",
                explained.sensitivity[-1].cpu().numpy(),
                perturbation,
                state,
                self.channels,
                data.spec,
                Map(data.grid, data.region, AROUND),
            ),
            "impact": impact_figure(
                f"What the observations did to the {what}: J_e {explained.background_error:.3g} → "
                f"{explained.analysis_error:.3g}, sum of the impacts {change:+.3g}",
                own,
                Map(data.grid, data.region),
            ),
        }

    def _summary(self, data: SensitivityData, channels: pd.DataFrame) -> str:
        assert self._directory is not None
        judged = "all channels" if len(data.channels) == len(data.spec) else ", ".join(data.channels)
        notes = {
            ERRORS: (
                f"J_e: mean square error of the {data.lead_hours} h forecast over {data.region} in "
                f"climatological variances, mean over {judged}. By the gradients: "
                "½ (g_a + g_b) · (x_a − x_b), with the gradients of J_e at x_a and x_b. Sum of the impacts: "
                "the same by the adjoint of the analysis, over all observations of the last window; "
                "negative: the forecast became better. Iterations and residual: of the conjugate gradients "
                "in that adjoint."
            ),
            BY_VARIABLE: "Sum over the dates. Share: of the arm's sum. Beneficial: part of the observations.",
            BY_TIME: "",
            PERTURBATIONS: (
                "The correction of x_a that lowers J_e most, of all that are as probable by the analysis "
                "error that J implies. Sizes in standard deviations of that error. Relative error: of the "
                "change by the gradient."
            ),
        }
        parts = [f"# {self._directory.name}\n"]
        for title, table in self._tables.items():
            parts.append(
                "\n\n".join(text for text in (f"## {title}", notes[title], to_markdown(table)) if text)
            )
            parts[-1] += "\n"
        parts.append("## Sensitivity to the initial state\n")
        parts.append(
            "σ ∂J_e/∂x per area at x_a, with the climatological std σ: root of the area mean of the square, "
            "by level and variable, and how many per cent of the whole square that is; all states that the "
            "forecaster starts from together. sensitivity.csv has each. A network's gradient is rough from "
            "one point of the grid to the next; the corrections beside it on the maps are what an analysis "
            "could have made of it.\n"
        )
        for (arm, date), part in channels.groupby(["arm", "date"], sort=False):
            parts.append(f"{arm}, {date}:\n\n{to_markdown(norm_table(part))}\n")
        if repeat := how_to_repeat(self._directory):
            parts.append(f"{repeat}\n")
        return "\n".join(parts)
