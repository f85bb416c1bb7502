"""Backgrounds and analyses as zarr stores that WeatherBench tools read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr

from vaevar.assim.cycle.callback import CycleCallback, Results
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.data.analysis_times import HOUR, AnalysisTime, AnalysisTimes, MissingTime
from vaevar.data.weather.writer import create_store, extend_store, write_states
from vaevar.errors import UserError
from vaevar.mistakes.words import words
from vaevar.runs.record import attributes
from vaevar.state import VARIABLES, StateSpec


class StateWriter(CycleCallback):
    """Writes ``<run>/<arm>/background.zarr`` and ``analysis.zarr``.

    Both are forecast stores: ``time`` is the initial time and ``prediction_timedelta`` the lead. An
    analysis is a 0 h forecast; a background starts one step before its valid time. In windows of several
    times it started before the window; the attribute ``background_lead`` says so.

    Args:
        states: which of the two; an empty list writes neither.
    """

    def __init__(
        self, states: Sequence[Literal["background", "analysis"]] = ("background", "analysis")
    ) -> None:
        self.states = tuple(states)

    def kept(self, module: AssimilationModule, data: AnalysisTimes, arm: str) -> int:
        """States whose files are there and, at the end, can be read. A store that is not there, because
        it was removed or not asked for so far, has none: a new one would lack the earlier states."""
        paths = [module.directory / arm / f"{kind}.zarr" for kind in self.states]
        return min([written(path, _names(data.spec)) for path in paths], default=data.times.size)

    def go_on(self, module: AssimilationModule, data: AnalysisTimes, arm: str, index: int) -> None:
        """Make room for the analyses of a longer cycle."""
        for kind, lead in self._leads(data).items():
            path = module.directory / arm / f"{kind}.zarr"
            shutil.rmtree(path.with_name(path.name + ".partial"), ignore_errors=True)
            if index and _arrays(path, _names(data.spec))[0].shape[0] < data.times.size:
                extend_store(path, data.times - lead)

    def _leads(self, data: AnalysisTimes) -> dict[str, np.timedelta64]:
        leads = {"background": np.timedelta64(data.step_hours, "h"), "analysis": 0 * HOUR}
        return {kind: leads[kind] for kind in self.states}

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime, results: Results
    ) -> None:
        self._write(module, data, time.index, results)

    def missed(
        self, module: AssimilationModule, data: AnalysisTimes, time: MissingTime, results: Results
    ) -> None:
        """The background stands for the analysis that could not be made."""
        self._write(module, data, time.index, results)

    def _write(self, module: AssimilationModule, data: AnalysisTimes, index: int, results: Results) -> None:
        leads = self._leads(data)
        for name, result in results.items():
            states = {"background": result.background, "analysis": result.analysis.state}
            for kind in self.states:
                state = states[kind]
                path = module.directory / name / f"{kind}.zarr"
                if index and not path.is_dir():
                    raise UserError(
                        f"{path}: was removed while the cycle was running; {words().again} makes "
                        f"the states of {name} again"
                    )
                if index == 0:
                    attrs = {
                        "experiment": module.directory.name,
                        "arm": name,
                        "quantity": kind,
                        "truth": data.source.description,
                        "first_background": f"a {data.lead_hours} h forecast",
                        **_lead_in_windows(data, kind, result.window),
                        **attributes(module.directory),
                    }
                    path.parent.mkdir(parents=True, exist_ok=True)
                    create_store(
                        path, data.times - leads[kind], data.spec, state.grid, attrs, lead=leads[kind]
                    )
                write_states(path, index, state.values.cpu().numpy()[None], data.spec)


def _lead_in_windows(data: AnalysisTimes, kind: str, window: int) -> dict[str, str]:
    """What a store of backgrounds says of their age where it is not that of its lead."""
    if kind != "background" or window == 1:
        return {}
    hours = data.step_hours
    return {
        "background_lead": f"{hours} to {window * hours} h: forecasts from before each window of {window} "
        f"times, valid {hours} h after `time`"
    }


def _names(spec: StateSpec) -> list[str]:
    """The variables of a store."""
    return [VARIABLES[name].long_name for name in (*spec.surface, *spec.upper)]


def _arrays(path: Path, variables: Sequence[str]) -> list[Any]:
    """The zarr arrays of a store's variables."""
    group = zarr.open_group(path, mode="r")
    return [group[name] for name in variables]


def written(path: Path, variables: Sequence[str]) -> int:
    """How many states of a store, from the first, have all their files; the last of them can be read.

    Args:
        path: of the store.
        variables: that it holds, by their long names.
    """
    try:
        arrays = _arrays(path, variables)
    except Exception:  # zarr raises many kinds; each means that nothing can be read
        return 0

    def has_files(index: int) -> bool:
        files = (
            path / array.path / array.metadata.encode_chunk_key((index, *[0] * (array.ndim - 1)))
            for array in arrays
        )
        return all(file.is_file() and file.stat().st_size for file in files)

    def readable(index: int) -> bool:
        try:
            return all(bool(np.isfinite(array[index]).all()) for array in arrays)
        except Exception:  # of a damaged file
            return False

    length = arrays[0].shape[0]
    count = next((index for index in range(length) if not has_files(index)), length)
    while count and not readable(count - 1):
        count -= 1
    return count
