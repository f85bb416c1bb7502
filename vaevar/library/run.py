"""A cycle of several arms from Python, as safe as from the command line."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from vaevar.assim.assimilator import Assimilator
from vaevar.assim.cycle.cycle import Cycle
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.assim.cycle.writer import StateWriter
from vaevar.commands.callbacks import place_of
from vaevar.commands.silence import silence_warnings
from vaevar.data.analysis_times import AnalysisTimes
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.mistakes.notices import Call
from vaevar.models.training.trainer import prepare
from vaevar.runs.directory import RunDirectory
from vaevar.runs.expansion import expand_path
from vaevar.verification.dashboards import Dashboards
from vaevar.verification.report.callback import RunReport
from vaevar.verification.results import RunResults
from vaevar.verification.scores import Scores


def run(
    forecaster: Forecaster,
    arms: Mapping[str, Assimilator],
    data: AnalysisTimes,
    directory: str | Path,
    restart: bool = False,
    callbacks: Sequence[L.Callback] = (),
    **trainer: Any,
) -> RunResults:
    """Run arms side by side over the analysis times of a twin experiment.

    What ``python main.py predict`` does with a config: states, scores and diagnostics are written, with a
    record of what made them, and at the end a report. The same call goes on with a run that was interrupted;
    one with another setting, network or forecaster is refused in the same directory.

    Args:
        forecaster: makes the backgrounds.
        arms: methods by name; names become directories.
        data: truth and observations.
        directory: of the run.
        restart: begin again; what is there is moved aside, into ``.old``.
        callbacks: besides those that write states and scores; one of a class that is there takes its place.
        trainer: arguments of Lightning's ``Trainer``, such as ``accelerator="cpu"`` or ``logger``. With the
            callback ``Dashboards`` and no ``logger``, there is one for TensorBoard.

    Raises:
        UserError: when the directory holds another run, or something does not fit together.

    Example:
        >>> results = vaevar.run(forecaster, {"free": free, "mine": mine}, data, "runs/mine")
        analysis 1/5...
        >>> results.scores.query("arm == 'mine' and channel == 'z500' and quantity == 'analysis'").shape
        (5, 8)
    """
    path = Path(expand_path(str(directory)))
    if path.resolve() == Path.cwd():
        raise UserError("the directory of a run is its own: give one below this one, such as runs/mine")
    if restart and any(isinstance(callback, Cycle) for callback in callbacks):
        raise UserError("restart begins with a Cycle of its own: give Cycle(resume=False) instead of it")
    own = [Cycle(resume=not restart), StateWriter(), Scores(), RunReport()]
    kept = [callback for callback in own if not any(isinstance(other, type(callback)) for other in callbacks)]
    settings: dict[str, Any] = {
        "logger": _loggers(path, callbacks),
        "devices": 1,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    ordered = sorted([*kept, *callbacks], key=lambda callback: place_of(type(callback)))
    ordered.append(RunDirectory(path))  # whatever directory a logger has
    # Variational analyses need gradients.
    settings |= {"default_root_dir": path, "inference_mode": False, "callbacks": ordered} | trainer
    module = AssimilationModule(forecaster, dict(arms))
    with warnings.catch_warnings(), _interruptible(), Call():
        silence_warnings()
        prepare(L.Trainer(**settings)).predict(module, datamodule=data, return_predictions=False)
    return RunResults(path)


def _loggers(path: Path, callbacks: Sequence[L.Callback]) -> TensorBoardLogger | bool:
    """What a run shows its charts in that says nothing of loggers: TensorBoard, if it has charts."""
    if not any(isinstance(callback, Dashboards) for callback in callbacks):
        return False
    return TensorBoardLogger(path.parent, path.name, version="")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lightning answers an interruption by the end of the program, and lets it ignore all later ones."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
