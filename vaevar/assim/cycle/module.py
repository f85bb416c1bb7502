"""The LightningModule whose predict step analyses one time with every experiment arm."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import ClassVar

import lightning as L
from torch import nn

from vaevar.assim.assimilator import Analysis, Assimilator, check_method
from vaevar.assim.cycle.faults import ArmResult, IncrementLimit
from vaevar.assim.cycle.standing import Standing
from vaevar.assim.cycle.stopped import Stop, stop_of
from vaevar.data.analysis_times import AnalysisTime, MissingTime
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.forecast import Forecaster, check_forecaster
from vaevar.mistakes.notices import notice
from vaevar.mistakes.trainer_settings import require_single_precision
from vaevar.mistakes.words import setting, words
from vaevar.runs.directory import run_directory
from vaevar.runs.naming import fault_of_name
from vaevar.runs.threads import limit_threads

# What else a run keeps in its directory.
_TAKEN = ("checkpoints", "lightning_logs")


class AssimilationModule(L.LightningModule):
    """Experiment arms side by side: each a named assimilator with its own cycle.

    :class:`vaevar.assim.cycle.cycle.Cycle` fills the attributes below and advances them.

    Args:
        forecaster: makes the backgrounds.
        arms: assimilators by name; names become directories.

    Attributes:
        standing: where each arm of this rank stands.
        stopped: the arms of this rank that had to stop, and where.
        increment_limit: beyond it an analysis counts as failed.
        directory: of the run, such as ``runs/cycle_sparse``.

    Raises:
        UserError: for no arms, a name that cannot be a directory, or a forecaster that lacks an attribute.
    """

    independent: ClassVar = ("arms",)

    def __init__(self, forecaster: Forecaster, arms: dict[str, Assimilator]) -> None:
        super().__init__()
        check_arms(arms)
        check_forecaster(forecaster)
        self.forecaster = forecaster
        self.arms: dict[str, Assimilator] = arms
        self._modules_of_arms = nn.ModuleList(arms.values())
        self.standing: dict[str, Standing] = {}
        self.stopped: dict[str, Stop] = {}
        self.increment_limit: IncrementLimit | None = None
        self._observed: dict[int, Observations] = {}
        self.directory: Path

    def setup(self, stage: str) -> None:
        """Ask for the run directory.

        Raises:
            UserError: when the trainer has none, works in another precision than single or in inference
                mode, or is to run no analysis.
        """
        require_single_precision(self.trainer)
        require_gradients(self.trainer)
        limit_threads(prod(self.forecaster.grid.shape))
        require_analyses(self.trainer)
        # They are written; in memory those of a long cycle would not fit.
        self.trainer.predict_loop.return_predictions = False
        if self.trainer.is_global_zero and self.trainer.world_size > len(self.arms):
            notice(
                f"{self.trainer.world_size} processes share {len(self.arms)} arms, and some have none: set "
                f"{setting('trainer.devices')} to {len(self.arms)}"
            )
        self.directory = run_directory(self.trainer)
        self._observed = {}

    def local_arms(self) -> list[str]:
        """The arms of this rank. Arms are dealt out to the ranks in turn."""
        return list(self.arms)[self.global_rank :: self.trainer.world_size]

    def on_predict_start(self) -> None:
        """Check that the cycle can start; the callbacks' own hooks have run by now.

        Raises:
            UserError: when no ``Cycle`` among them has made the first backgrounds.
        """
        if not all(name in self.standing for name in self.local_arms()):
            raise UserError(
                "no arm has a background: add vaevar.assim.cycle.cycle.Cycle to the callbacks of the trainer"
            )

    def predict_step(self, batch: AnalysisTime | MissingTime, batch_idx: int) -> dict[str, ArmResult]:
        """Analyse one time with every arm of this rank that has not stopped and is not past it already.

        An analysis that fails, and one of a missing time, is its background. An arm that analyses windows
        does so at the first of a window's times, and gives the analyses out one time after the other.

        Raises:
            UserError: when an assimilator breaks its contract.
        """
        results = {}
        going = {name: where for name, where in self.standing.items() if name not in self.stopped}
        oldest = min((standing.begin.next_index for standing in going.values()), default=batch.index)
        self._observed = {index: seen for index, seen in self._observed.items() if index >= oldest}
        for name, standing in going.items():
            if standing.next_index > batch.index:
                continue
            if not standing.results:
                standing = self.standing[name] = self._analysed(name, standing, batch)
            results[name] = standing.results[0]
        return results

    def _analysed(self, name: str, standing: Standing, batch: AnalysisTime | MissingTime) -> Standing:
        """Where an arm stands when its window has been analysed of which a time is the first handed out."""
        arm = self.arms[name]
        if arm.window == 1 and isinstance(batch, MissingTime):
            background = standing.background(self.forecaster)
            return replace(standing, results=(ArmResult(background, Analysis(background, {})),))
        begin = standing.begin.next_index
        window = range(begin, batch.index + arm.stride)
        observed = [self._observations(number, batch) for number in window]
        time = self.trainer.datamodule.times[begin]  # type: ignore[attr-defined]
        where, limit = f"arm {name} at {batch.time}", self.increment_limit
        return standing.analysed(where, arm, observed, self.forecaster, time, limit)

    def _observations(self, index: int, batch: AnalysisTime | MissingTime) -> Observations:
        """What is observed at a time; kept, since other windows that it lies in ask for it again."""
        if index not in self._observed:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            time: AnalysisTime | MissingTime = batch if index == batch.index else data.time_or_gap(index)
            nothing = Observations.concatenate([])
            self._observed[index] = nothing if isinstance(time, MissingTime) else time.observations
        return self._observed[index]

    def on_predict_end(self) -> None:
        """Make sure that nobody takes a run for whole in which an arm had to stop.

        The callbacks' own hooks have run by now, so everything is written.

        Raises:
            UserError: on the first rank, when an arm has stopped.
        """
        self.trainer.strategy.barrier()  # the stops of the other ranks are on the disk
        if not self.trainer.is_global_zero:
            return
        stops = {name: stop for name in self.arms if (stop := stop_of(self.directory / name))}
        if stops:
            listed = "; ".join(f"{name} at {stop.time}: {stop.cause}" for name, stop in stops.items())
            raise UserError(
                f"{self.directory}: {len(stops)} of {len(self.arms)} arms had to stop: {listed}. What the "
                f"others did is complete; {words().again} tries again from there"
            )


def require_gradients(trainer: L.Trainer) -> None:
    """Check that a trainer's predict allows gradients, before anything is begun.

    Raises:
        UserError: in inference mode.
    """
    if trainer.predict_loop.inference_mode:
        raise UserError(f"variational analyses need gradients: {words().gradients}")


def require_analyses(trainer: L.Trainer) -> None:
    """Check that a cycle has an analysis to run; Lightning would call nothing, and end without an error.

    Raises:
        UserError: when ``limit_predict_batches`` leaves none.
    """
    limit, times = trainer.limit_predict_batches, getattr(trainer.datamodule, "times", None)  # type: ignore[attr-defined]
    share = isinstance(limit, float) and times is not None and int(limit * len(times)) == 0
    if limit == 0 or share:
        raise UserError(
            f"{setting('trainer.limit_predict_batches')} is {limit}: the cycle has no analysis to run; "
            "give 1 or more, a whole number"
        )


def check_arms(arms: dict[str, Assimilator]) -> None:
    """Check the names of experiment arms: directories and files are named after them.

    Raises:
        UserError: for no arms, something else than a method, a name that cannot be a directory of its own on
            every system, or two names that would be one.
    """
    where = setting("model.arms")
    if not arms:
        raise UserError(f"{where}: name at least one experiment arm")
    seen: dict[str, str] = {}
    for name, arm in arms.items():
        check_method(arm, f"{where}: {name!r}")
        if not name.replace("_", "").replace("-", "").isalnum():
            raise UserError(f"{where}: {name!r} must be made of letters, digits, - and _")
        if fault := fault_of_name(name):
            raise UserError(f"{where}: {name[:40]!r}: {fault}")
        if name in _TAKEN:
            raise UserError(f"{where}: {name!r} is a directory of every run; give the arm another name")
        if (other := seen.setdefault(name.casefold(), name)) != name:
            raise UserError(f"{where}: {other!r} and {name!r} are one directory on some systems; rename one")
