"""Backgrounds and analyses as zarr stores that WeatherBench tools read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from vaevar.assim.cycle.callback import CycleCallback, Results
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.data.analysis_times import HOUR, AnalysisTime, AnalysisTimes
from vaevar.data.weather.writer import create_store, write_states
from vaevar.runs.record import attributes


class StateWriter(CycleCallback):
    """Writes ``<run>/<arm>/background.zarr`` and ``analysis.zarr``.

    Both are forecast stores: ``time`` is the initial time and ``prediction_timedelta`` the lead. An
    analysis is a 0 h forecast; a background starts one step before its valid time.

    Args:
        states: which of the two; an empty list writes neither.
    """

    def __init__(
        self, states: Sequence[Literal["background", "analysis"]] = ("background", "analysis")
    ) -> None:
        self.states = tuple(states)

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime, results: Results
    ) -> None:
        leads = {"background": np.timedelta64(data.step_hours, "h"), "analysis": 0 * HOUR}
        for name, result in results.items():
            states = {"background": result.background, "analysis": result.analysis.state}
            for kind in self.states:
                state = states[kind]
                path = module.directory / name / f"{kind}.zarr"
                if time.index == 0 or not path.is_dir():
                    attrs = {
                        "experiment": module.directory.name,
                        "arm": name,
                        "quantity": kind,
                        "truth": data.source.description,
                        "first_background": f"a {data.lead_hours} h forecast",
                        **attributes(module.directory),
                    }
                    path.parent.mkdir(parents=True, exist_ok=True)
                    create_store(
                        path, data.times - leads[kind], data.spec, state.grid, attrs, lead=leads[kind]
                    )
                write_states(path, time.index, state.values.cpu().numpy()[None], data.spec)
