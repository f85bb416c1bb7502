"""Where a run writes: a directory of its own, below the place where a logger keeps its runs."""

from __future__ import annotations

import os
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger

from vaevar.errors import UserError
from vaevar.mistakes.words import words

# Where runs are kept when no logger says so.
RUNS = Path("runs")


class RunDirectory(L.Callback):
    """Tells a trainer's modules and callbacks which directory the command line has chosen for the run.

    Args:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path


def run_directory(trainer: L.Trainer) -> Path:
    """The directory of the trainer's run. Call it in ``setup`` on all ranks: asking is collective.

    Raises:
        UserError: when nothing names a directory that is the run's own.
    """
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    chosen = next((callback.path for callback in callbacks if isinstance(callback, RunDirectory)), None)
    if chosen is None:
        loggers = [logger for logger in trainer.loggers if not isinstance(logger, DummyLogger)]
        root = Path(trainer.default_root_dir)
        # Without a logger Lightning answers with the current directory, which is nobody's own.
        own_root = None if root.resolve() == Path.cwd().resolve() else root
        chosen = own_root if not loggers and own_root else directory_of(next(iter(loggers), None))
    return Path(trainer.strategy.broadcast(str(chosen)))


def directory_of(logger: Logger | None, name: str | None = None, root: Path = RUNS) -> Path:
    """The directory of a run.

    It is the logger's ``log_dir``. Loggers that have none share their ``save_dir`` among all runs, and some
    keep nothing on this machine. The run then gets ``<save_dir>/<name>``, where the name is that of the run,
    or the logger's own name and version.

    Args:
        logger: the trainer's first logger.
        name: of the run, if it has one.
        root: stands for a missing ``save_dir``.

    Raises:
        UserError: when nothing names the run, or the directory would not lie below ``save_dir``.
    """
    if logger is None:
        if name is None:
            raise UserError(f"without a logger nothing says where to write: {words().name}")
        return _below(root, root / name, "the run's name")
    kind = f"trainer.logger ({type(logger).__name__})"
    kept = Path(os.path.expanduser(logger.save_dir)) if logger.save_dir else root
    log_dir = getattr(logger, "log_dir", None)
    if log_dir is not None:
        return _below(kept, Path(os.path.expanduser(log_dir)), kind)
    if name is not None:
        return _below(kept, kept / name, kind)
    # Asking some loggers for their name begins a run on a server, so the run's own name comes first.
    parts = [str(part) for part in (logger.name, logger.version) if part not in (None, "")]
    if not parts:
        raise UserError(f"{kind} names no directory: {words().name}")
    return _below(kept, kept.joinpath(*parts), kind)


def _below(root: Path, path: Path, who: str) -> Path:
    """``path``, checked to lie below ``root``: what is not is shared with others."""
    absolute_root, absolute = os.path.abspath(root), os.path.abspath(path)
    if absolute == absolute_root:
        raise UserError(f"{who} writes into {path} itself, which all runs share: {words().name}")
    if os.path.commonpath([absolute_root, absolute]) != absolute_root:
        raise UserError(f"{who} writes to {path}, which does not lie below {root}: {words().name}")
    return path
