"""The cyclic callback: analysis -> forecaster -> next background, with a restart after each.

An arm's next background is forecast from its own last analyses, as many as the forecaster's ``history``
asks for (two for FengWu). Everything an arm needs to continue is written after each analysis, so a run
that was killed resumes to the same numbers.
"""

from __future__ import annotations

import re
import time as clock
from typing import ClassVar, Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor

from vaevar.assim.cycle.callback import CycleCallback, Results
from vaevar.assim.cycle.faults import ArmResult, IncrementLimit
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.assim.cycle.own_run import OwnRun
from vaevar.assim.cycle.restart import LATEST, RestartFiles, mean_of
from vaevar.assim.cycle.standing import Standing
from vaevar.assim.cycle.stopped import Stop, forget_stop, runaway
from vaevar.data.analysis_times import AnalysisTime, AnalysisTimes, MissingTime
from vaevar.data.observations.coverage import no_coverage
from vaevar.data.observations.points import Points
from vaevar.data.weather.holes import holes
from vaevar.errors import UserError
from vaevar.forecast import Forecaster, named, rollout
from vaevar.mistakes.words import setting
from vaevar.sphere.difference import family_hint
from vaevar.state import difference

# Seconds between restarts that are forced to the disk, and the least ratio of that time to what it takes.
_SETTLE_EVERY, _SETTLE_RATIO = 30.0, 100.0


class Cycle(CycleCallback):
    """Carries every arm from one analysis time to the next.

    An arm stops, while the others go on, when its forecast is not finite or runs away, or when too many of
    its analyses in a row have failed. It keeps the restart of the analysis before, so that the same command
    tries again from there.

    Args:
        resume: continue from the restart files in the run directory, if there are any. False: start
            again and overwrite them.
        new_cycle_every: number of analyses after which every arm starts again with a forecast from the
            truth, as at the first one: many short cycles in one run. None: never.
        largest_increment: in climatological standard deviations. An analysis with a larger increment
            anywhere counts as failed, as does one whose minimisation fails: its arm keeps the background.
            None: no limit.
        failures_in_a_row: an arm with this many failed analyses in succession stops, and one of which no
            analysis succeeds. The analysis of a window of several times is one.
        on_missing_truth: what to do about a time of which the truth is missing or cannot be read. ``stop``:
            nothing is begun if the store lacks one, and a damaged one ends the run there. ``skip``: nothing
            is observed then, the backgrounds go on, and there are no scores for that time.

    Raises:
        UserError: when a number is not positive.
    """

    without_effect: ClassVar = ("resume", "failures_in_a_row", "on_missing_truth")

    def __init__(
        self,
        resume: bool = True,
        new_cycle_every: int | None = None,
        largest_increment: float | None = 25.0,
        failures_in_a_row: int = 8,
        on_missing_truth: Literal["stop", "skip"] = "stop",
    ) -> None:
        counts = {"new_cycle_every": new_cycle_every, "failures_in_a_row": failures_in_a_row}
        for name, number in (counts | {"largest_increment": largest_increment}).items():
            if number is not None and not number > 0:
                raise UserError(f"Cycle: {name} is {number}, must be positive")
        self.resume, self.new_cycle_every = resume, new_cycle_every
        self.largest_increment, self.failures_in_a_row = largest_increment, failures_in_a_row
        self.on_missing_truth = on_missing_truth
        self._run = OwnRun()
        self._files: dict[str, RestartFiles] = {}
        self._failures: dict[str, int] = {}
        self._asked = 0
        self._unsaved: set[str] = set()
        self._truth: float | None = None
        self._settle_at = 0.0

    def before_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        """Give every arm its first background, or the one at which a killed run stopped.

        Raises:
            UserError: when forecaster and truth do not belong together, the truth lacks a time, or a restart
                file is damaged.
        """
        if (count := sum(isinstance(callback, Cycle) for callback in _callbacks(module))) > 1:
            raise UserError(
                f"trainer.callbacks: Cycle is there {count} times, and each would go on; leave one"
            )
        require_same_states(module.forecaster, data)
        self._check_arms(module, data)
        self._run.begin(module, data, {"cycle": self}, not self.resume)
        data.skip_missing = self.on_missing_truth == "skip"
        self._check_truth(module, data)
        # An arm none of whose analyses succeeds has stopped, however short the cycle is.
        self._asked = min(data.times.size, *map(int, module.trainer.num_predict_batches))
        if self.largest_increment is not None:
            module.increment_limit = IncrementLimit(self.largest_increment, data.climatological_std)
        self._settle_at = clock.monotonic() + _SETTLE_EVERY
        first: Tensor | None = None
        for name in module.local_arms():
            directory = module.directory / name
            self._files[name] = RestartFiles(directory, data, module.forecaster.history)
            if not self.resume:
                self._files[name].remove()
            restart = self._where_it_stands(module, data, name)
            if restart is None:
                if first is None:
                    first = self._first_trajectory(module, data, 0)
                restart = Standing(0, first.clone(), no_coverage(data.store.grid))
            module.standing[name] = restart.to(module.device)
            for callback in _callbacks(module):
                callback.go_on(module, data, name, restart.next_index)
            forget_stop(directory)
            # What killed processes left. Only this run writes here.
            for path in directory.glob("*.partial"):
                if path.is_file() and re.search(r"\.\d+\.partial$", path.name):
                    path.unlink()

    def _check_arms(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        """Check that every arm can work with the forecaster, and that its cycles consist of whole windows."""
        for name, arm in module.arms.items():
            try:
                arm.require_forecaster(module.forecaster)
            except UserError as error:
                raise UserError(f"arm {name}: {error}") from None
            counts = {"data.init_args.analyses": data.times.size, "new_cycle_every": self.new_cycle_every}
            for path, count in counts.items():
                if count is not None and count % arm.stride:
                    whole = count - count % arm.stride
                    least = f"{whole} or {whole + arm.stride}" if whole else str(arm.stride)
                    raise UserError(
                        f"{setting(path)} is {count}, and arm {name} has a new window every {arm.stride} "
                        f"times: give whole ones, {least}"
                    )

    def _check_truth(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        """Look for holes in the truth before the first analysis, not hours later."""
        starts = range(0, data.times.size, self.new_cycle_every or data.times.size)
        history = module.forecaster.history
        needed = [data.initial_times(history, index) for index in starts]
        missing = holes(data.store, np.unique(np.concatenate(needed)))
        if missing:
            raise UserError(f"{_first_of(missing)}; a first forecast starts from there")
        if not np.isin(data.times, data.store.times).any():
            raise UserError(
                f"{data.source.description}: holds none of the {data.times.size} analysis times, from "
                f"{data.times[0]} to {data.times[-1]}: no arm would analyse anything"
            )
        if self.on_missing_truth == "stop" and (missing := holes(data.store, data.times)):
            raise UserError(
                f"{_first_of(missing)}; the cycle needs it: repair the store, or set on_missing_truth of "
                "Cycle to skip"
            )

    def _where_it_stands(self, module: AssimilationModule, data: AnalysisTimes, name: str) -> Standing | None:
        """The latest restart of which nothing is lost, or None: from the beginning."""
        restarts = self._files[name].read()
        if not restarts:
            return None
        kept = {type(callback).__name__: callback.kept(module, data, name) for callback in _callbacks(module)}
        whole = min(kept.values(), default=data.times.size)
        usable = next((restart for restart in restarts if restart.next_index <= whole), None)
        if usable is not restarts[0]:
            loser = min(kept, key=lambda kind: kept[kind])
            beginning = "the beginning" if usable is None else f"analysis {usable.next_index}"
            print(
                f"{module.directory / name}: {LATEST} counts {restarts[0].next_index} analyses, but {loser} "
                f"has only {whole} whole ones: the arm goes on from {beginning}",
                flush=True,
            )
        return usable

    def _first_trajectory(self, module: AssimilationModule, data: AnalysisTimes, index: int) -> Tensor:
        """The last states of a forecast from the truth, [history, C, H, W], up to the background of
        analysis number ``index``.

        Raises:
            UserError: when that forecast is not finite or runs away.
        """
        history = module.forecaster.history
        states = data.initial_states(history, index).to(module.device)
        for forecast in rollout(module.forecaster, states[None], data.lead_hours // data.step_hours):
            states = torch.cat([states, forecast])[-history:]
        cause = runaway(states[-1], data.spec, data.store.grid)
        if cause:
            raise UserError(
                f"the {data.lead_hours} h forecast from the truth that is the background of "
                f"{data.times[index]}: {cause}; check the forecaster ({named(module.forecaster)}) and its "
                "mean and std files"
            )
        return states

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime, results: Results
    ) -> None:
        """Forecast the next background of every arm."""
        self._truth = mean_of(time.truth)
        self._advance(module, data, time, results, time.observations)

    def missed(
        self, module: AssimilationModule, data: AnalysisTimes, time: MissingTime, results: Results
    ) -> None:
        """Forecast the next background from this one."""
        if results:
            print(f"{time.time}: nothing is observed, the backgrounds go on: {time.cause}", flush=True)
        self._truth = None
        self._advance(module, data, time, results, Points.concatenate([]))

    def _advance(
        self,
        module: AssimilationModule,
        data: AnalysisTimes,
        time: AnalysisTime | MissingTime,
        results: Results,
        observed: Points,
    ) -> None:
        following_index = time.index + 1
        advanced = []
        for name, result in results.items():
            cause, following = self._why_it_stops(name, result), None
            if not cause:
                cause, following = module.standing[name].after(
                    module.forecaster, result.analysis.state, observed, f"arm {name} at {time.time}"
                )
            if following is None:
                stop = module.stopped[name] = Stop(time.index, str(time.time), cause)
                stop.write(module.directory / name)
                print(
                    f"arm {name} stops at {time.time}, after {following_index} analyses: {cause}", flush=True
                )
                continue
            module.standing[name] = following
            advanced.append(name)
        self._unsaved.update(advanced)
        if len(module.stopped) == len(module.arms):
            data.ended = True  # in one process; several walk through the times together
        if (
            self.new_cycle_every
            and following_index % self.new_cycle_every == 0
            and following_index < len(data.times)
        ):
            first = self._first_trajectory(module, data, following_index)
            for name in advanced:
                again = Standing(following_index, first.clone(), no_coverage(data.store.grid))
                module.standing[name] = again.to(module.device)

    def _why_it_stops(self, name: str, result: ArmResult) -> str:
        """Why an arm has to stop after an analysis; empty if it does not."""
        if result.ends:
            return result.failure
        if result.position == 0:  # a window fails as a whole
            self._failures[name] = self._failures.get(name, 0) + 1 if result.failure else 0
        allowed = max(1, min(self.failures_in_a_row, self._asked // result.window))
        if self._failures[name] < allowed:
            return ""
        return f"{allowed} analyses in a row failed, the last because {result.failure}"

    # A restart is written only when every other callback has finished with that analysis. A kill at any
    # moment then loses no score and no state: the analysis is repeated.
    def before_analysis(self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime) -> None:
        """Write the restart files of the analysis before."""
        self._save(module, settle=clock.monotonic() >= self._settle_at)

    def after_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        """Write the last restart files."""
        self._save(module, settle=True)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Everything is written."""
        self._run.end()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._run.end(exception)

    def _save(self, module: AssimilationModule, settle: bool) -> None:
        began = clock.monotonic()
        for name in sorted(self._unsaved):
            # Within a window the analyses to come are in memory alone: a killed arm makes them again.
            if not module.standing[name].results:
                self._files[name].write(module.standing[name], settle, self._truth)
        self._unsaved.clear()
        if settle:
            now = clock.monotonic()
            self._settle_at = now + max(_SETTLE_EVERY, _SETTLE_RATIO * (now - began))


def require_same_states(forecaster: Forecaster, data: AnalysisTimes) -> None:
    """Check that forecaster and truth belong together.

    Raises:
        UserError: when their states or their steps differ.
    """
    fault = difference(forecaster.spec, forecaster.grid, data.spec, data.store.grid)
    if fault:
        raise UserError(
            f"the forecaster ({named(forecaster)}) works on other states than the truth "
            f"({data.source.description}), {fault}: bring a forecaster and a store that belong together"
            f"{family_hint(forecaster.grid, data.store.grid)}"
        )
    if forecaster.step_hours != data.step_hours:
        raise UserError(
            f"the forecaster's step is {forecaster.step_hours} h, the cycle's {data.step_hours} h: set "
            f"{setting('data.init_args.step_hours')} to {forecaster.step_hours}"
        )


def _callbacks(module: AssimilationModule) -> list[CycleCallback]:
    """Those that follow the cycle, Cycle itself among them."""
    callbacks = module.trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, CycleCallback)]


def _first_of(missing: dict[np.datetime64, str]) -> str:
    text = next(iter(missing.values()))
    return text if len(missing) == 1 else f"{text} (and {len(missing) - 1} more times)"
