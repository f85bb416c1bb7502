"""The callbacks that a command runs with: nothing that it cannot do without is lost."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Sequence
from typing import cast

from jsonargparse import Namespace
from lightning.pytorch.callbacks import Checkpoint, DeviceStatsMonitor, LearningRateMonitor, ProgressBar

from vaevar.assim.cycle.cycle import Cycle
from vaevar.runs.naming import class_of
from vaevar.runs.settings import changes_results
from vaevar.verification.report.callback import RunReport

# What every cycle has, whatever else its callbacks are.
CALLBACKS_OF_A_CYCLE = (
    "vaevar.assim.cycle.cycle.Cycle",
    "vaevar.assim.cycle.writer.StateWriter",
    "vaevar.verification.scores.Scores",
    "vaevar.verification.report.callback.RunReport",
)
# Likewise of a fit. They stand behind the others: the report tells of the weights that those have written.
CALLBACKS_OF_A_FIT = (
    "vaevar.models.training.history.FitHistory",
    "vaevar.verification.fits.callback.FitReport",
)
PROGRESS_OF_A_CYCLE = "vaevar.assim.cycle.progress.CycleProgress"

_NEED_A_LOGGER = (LearningRateMonitor, DeviceStatsMonitor)


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
            added.append(_complete(Namespace(class_path=path)))
    return sorted([*added, *callbacks], key=lambda callback: place_of(class_of(callback)))


def complete_fit(callbacks: Sequence[Namespace]) -> list[Namespace]:
    """The callbacks of a fit: those that a config lists, then what every fit has.

    Args:
        callbacks: ``class_path`` and ``init_args`` of each.
    """
    needed = [cast(type, pydoc.locate(path)) for path in CALLBACKS_OF_A_FIT]
    listed = [class_of(callback) for callback in callbacks]
    added = [
        _complete(Namespace(class_path=path))
        for path, cls in zip(CALLBACKS_OF_A_FIT, needed, strict=True)
        if not any(issubclass(other, cls) for other in listed)
    ]
    complete = [*callbacks, *added]
    return sorted(complete, key=lambda callback: issubclass(class_of(callback), tuple(needed)))


def without_a_logger(callbacks: Sequence[Namespace]) -> list[Namespace]:
    """Callbacks but for those that Lightning refuses where there is no logger, which they log to alone."""
    return [callback for callback in callbacks if not issubclass(class_of(callback), _NEED_A_LOGGER)]


def place_of(cls: type) -> int:
    """Where a callback of a class stands among those of a cycle.

    The others look at the arms that Cycle has prepared, and the report at what all of them have written.
    """
    return 0 if issubclass(cls, Cycle) else 2 if issubclass(cls, RunReport) else 1


def keep_needed(
    callbacks: Sequence[Namespace], listed: Sequence[Sequence[Namespace]]
) -> tuple[list[Namespace], str]:
    """Callbacks, and those of earlier configs whose place they took although the run needs them.

    A later list takes the place of an earlier one. A monitor in it was not meant to drop what exports the
    weights, chooses the best of them, averages them, records samples or makes the cycle what it is.

    Args:
        callbacks: that the command would run with.
        listed: that each of its configs names, the later ones last.

    Returns:
        The callbacks, and what is said of those that were kept once the command runs; else empty.
    """
    classes = [class_of(callback) for callback in callbacks]
    kept: dict[type, list[Namespace]] = {}
    for names in listed:
        found = [(class_of(callback), callback) for callback in names]
        needed = [(_kind(cls), _complete(callback)) for cls, callback in found if _is_needed(cls)]
        for kind in dict.fromkeys(kind for kind, _ in needed):
            if any(issubclass(cls, kind) for cls in classes):
                continue
            kept[kind] = [callback for other, callback in needed if other is kind]
    said = (
        f"trainer.callbacks: {' and '.join(kind.__name__ for kind in kept)} of an earlier config is kept, "
        "because the run needs it; to change it, list it with other settings"
    )
    return [*callbacks, *(callback for group in kept.values() for callback in group)], said if kept else ""


def _kind(cls: type) -> type:
    return Checkpoint if issubclass(cls, Checkpoint) else cls


def _is_needed(cls: type) -> bool:
    path = f"{cls.__module__}.{cls.__name__}"
    writes = hasattr(cls, "outputs") or issubclass(cls, Checkpoint)
    return writes or changes_results(cls) or path in CALLBACKS_OF_A_CYCLE


def _complete(callback: Namespace) -> Namespace:
    """A callback as a config names it, with its defaults."""
    cls, given = class_of(callback), callback.get("init_args") or Namespace()
    parameters = inspect.signature(cls).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return Namespace(class_path=callback.class_path, init_args=Namespace(defaults | vars(given)))


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
