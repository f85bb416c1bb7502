"""The callback that writes the figures and tables of a single-observation experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from vaevar.errors import UserError
from vaevar.experiments.reporting import data_of, print_table, save_figures
from vaevar.experiments.single_observation.data import Place, SingleObservation, SingleObservations
from vaevar.experiments.single_observation.figures import (
    along_latitude,
    date_maps,
    departure_maps,
    increment_maps,
    sections,
    view,
)
from vaevar.experiments.single_observation.module import Response, SingleObservationModule
from vaevar.experiments.single_observation.scores import (
    Case,
    date_table,
    departure_table,
    main_table,
    make_case,
)
from vaevar.runs.directory import run_directory
from vaevar.runs.record import how_to_repeat
from vaevar.verification.tables import to_markdown


class SingleObservationReport(L.Callback):
    """Writes ``cases.csv``, ``summary.md`` and the PNGs of every place into the run directory.

    The PNGs are ``increment_<place>.png`` (z, u and v around the observation, z on the whole sphere),
    ``section_<place>.png`` (pressure × longitude), ``dates_<place>.png`` and ``departures_<place>.png``. The
    same figures go to TensorBoard, and the tables are printed.

    Args:
        level: hPa, of the maps and of the comparison with the geostrophic wind.
        radius_km: of the local maps and of that comparison.

    Raises:
        UserError: for a radius outside (0, 20000); at the start of a run, when the state lacks z, u or v at
            ``level``.
    """

    outputs: ClassVar = ()

    def __init__(self, level: int = 500, radius_km: float = 2000.0) -> None:
        if not 0 < radius_km < 20000:
            raise UserError(f"SingleObservationReport: radius_km is {radius_km}, must be within (0, 20000)")
        self.level, self.radius_km = level, radius_km
        self._cases: list[Case] = []
        self._sections: dict[tuple[Place, str], np.ndarray] = {}
        self._tables: dict[str, pd.DataFrame] = {}
        self._directory: Path | None = None

    @staticmethod
    def _data(trainer: L.Trainer, pl_module: L.LightningModule) -> SingleObservations:
        return data_of(
            trainer, pl_module, "SingleObservationReport", SingleObservationModule, SingleObservations
        )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._directory = run_directory(trainer)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data = self._data(trainer, pl_module)
        missing = [f"{name}{self.level}" for name in "zuv" if not data.spec.has(f"{name}{self.level}")]
        if missing:
            raise UserError(f"SingleObservationReport: the state has no {', '.join(missing)}; set `level`")
        self._cases, self._sections, self._tables = [], {}, {}

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        case: SingleObservation = batch
        responses: dict[str, Response] = outputs
        for arm, response in responses.items():
            self._cases.append(make_case(arm, case, response, self.level, self.radius_km))
            # Whole increments are large at 0.25°: keep only a section of the first one at each place.
            if (case.place, arm) not in self._sections:
                increment = response.increment.double().cpu().numpy()
                self._sections[case.place, arm] = along_latitude(
                    increment, case.background.grid, case.place.latitude
                )

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not (trainer.is_global_zero and self._cases):
            return
        data = self._data(trainer, pl_module)
        assert self._directory is not None
        self._tables = {
            "Increments": main_table(self._cases),
            "Background date": date_table(self._cases),
            "Sign and size of the departure": departure_table(self._cases, data.grid),
        }
        self._directory.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame([case.row for case in self._cases])
        table.to_csv(self._directory / "cases.csv", index=False)
        (self._directory / "summary.md").write_text(self._summary(data), encoding="utf-8")
        for place in data.places:
            save_figures(trainer, self._directory, place.label, self._figures(place, data))

    # After the progress bars are gone.
    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        console = Console()
        for title, table in self._tables.items():
            texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
            print_table(console, title, table, left=texts)
        if self._tables:
            console.print(
                f"Figures and tables are in {self._directory}/; "
                f"look at them with: tensorboard --logdir {self._directory}"
            )
        self._tables = {}

    def _figures(self, place: Place, data: SingleObservations) -> dict[str, Figure]:
        first = self._cases[0]
        cases = [case for case in self._cases if case.place == place]
        dates = [case for case in cases if case.departure == first.departure]
        departures = [case for case in cases if case.time == first.time]
        main = [case for case in dates if case.time == first.time]
        slices = {case.arm: self._sections[place, case.arm] for case in main}
        half_width = 1.5 * view(place, self.radius_km)[0]
        return {
            "increment": increment_maps(main, data.grid, self.level, self.radius_km),
            "section": sections(main, slices, data.spec, data.grid, min(half_width, 180.0)),
            "dates": date_maps(dates, data.grid, self.level, self.radius_km),
            "departures": departure_maps(departures, data.grid, self.level, self.radius_km),
        }

    def _summary(self, data: SingleObservations) -> str:
        assert self._directory is not None
        notes = {
            "Increments": (
                f"One observation of {data.observed} (error {data.error_std:g}) that departs by "
                f"{data.departures[0]:+g} from the background of {data.times[0]}. B/(B+R): the scalar "
                "optimal analysis, with the variance B at the point that the arm's control transform and λ "
                "imply (for a nonlinear transform: for small increments). Correlation: of the wind increment "
                f"with the geostrophic wind of the height increment at {self.level} hPa, within "
                f"{self.radius_km:g} km and more than 5° from the equator. Rotation: its sign."
            ),
            "Background date": (
                f"Largest difference at {self.level} hPa between the increments for {data.times.size} "
                f"backgrounds ({', '.join(str(time) for time in data.times)}) and that for the first one; "
                f"departure {data.departures[0]:+g}. A decoder that is not conditioned on the background "
                "gives the same increment on every date, as 3DVar does. Backgrounds are states of the "
                f"source: {data.source.description}."
            ),
            "Sign and size of the departure": (
                f"Nonlinearity: ‖D(d)/d − D(d₀)/d₀‖ / ‖D(d₀)/d₀‖ at {self.level} hPa over the sphere, with "
                "the smallest departure d₀; 0 for a linear method."
            ),
        }
        parts = [f"# {self._directory.name}\n"]
        for title, table in self._tables.items():
            parts.append(f"## {title}\n\n{notes[title]}\n\n{to_markdown(table)}\n")
        if repeat := how_to_repeat(self._directory):
            parts.append(f"{repeat}\n")
        return "\n".join(parts)
