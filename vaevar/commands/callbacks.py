"""The callbacks that a command runs with: nothing that it cannot do without is lost."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Sequence
from typing import cast

from jsonargparse import Namespace
from lightning.pytorch.callbacks import ProgressBar

from vaevar.assim.cycle.cycle import Cycle
from vaevar.runs.naming import class_of

# What every cycle has, whatever else its callbacks are.
CALLBACKS_OF_A_CYCLE = (
    "vaevar.assim.cycle.cycle.Cycle",
    "vaevar.assim.cycle.writer.StateWriter",
    "vaevar.verification.scores.Scores",
)
PROGRESS_OF_A_CYCLE = "vaevar.assim.cycle.progress.CycleProgress"


def complete_cycle(callbacks: Sequence[Namespace], progress_bar: bool) -> list[Namespace]:
    """The callbacks of a cycle: those that a config lists, and what no cycle can do without.

    Args:
        callbacks: ``class_path`` and ``init_args`` of each.
        progress_bar: whether there may be one.
    """
    needed = [*CALLBACKS_OF_A_CYCLE, *([PROGRESS_OF_A_CYCLE] if progress_bar else [])]
    listed = [class_of(callback) for callback in callbacks]
    added = []
    for path in needed:
        cls = cast(type, pydoc.locate(path))
        # Lightning allows one progress bar.
        kind = ProgressBar if issubclass(cls, ProgressBar) else cls
        if not any(issubclass(other, kind) for other in listed):
            defaults = {name: value.default for name, value in inspect.signature(cls).parameters.items()}
            added.append(Namespace(class_path=path, init_args=Namespace(defaults)))
    # The others look at the arms that Cycle has prepared.
    return sorted([*added, *callbacks], key=lambda callback: not issubclass(class_of(callback), Cycle))


def without_bars(callbacks: Sequence[Namespace]) -> list[Namespace]:
    """Callbacks but for progress bars, with which Lightning refuses ``enable_progress_bar: false``."""
    return [callback for callback in callbacks if not issubclass(class_of(callback), ProgressBar)]


def look_shortly(trainer: Namespace) -> None:
    """Turn Lightning's trial of a few batches into a cycle's first analyses, which the next run goes on from.

    Lightning's own has no logger and so no run directory.

    Args:
        trainer: settings; changed in place.
    """
    if trainer.fast_dev_run:
        trainer.limit_predict_batches, trainer.fast_dev_run = int(trainer.fast_dev_run), False
