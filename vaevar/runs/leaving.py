"""What a command leaves in a run directory that has done nothing there: all as it was before."""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from vaevar.errors import UserError
from vaevar.files import replacing
from vaevar.mistakes.words import words
from vaevar.runs.aside import OLD
from vaevar.runs.lock import NAME as LOCK
from vaevar.runs.record import NAME, write_record

CONFIG = "config.yaml"
OF_AN_ARM = ("restart*.pt", "diagnostics.csv", "scores.csv")
# Written before the first result, and worthless without one.
PREPARATIONS = (CONFIG, NAME, "hparams.yaml", "events.out.tfevents.*", "history.csv", "report.html")


def is_arm(path: Path) -> bool:
    """Whether an arm of a run has written there."""
    return path.is_dir() and any(True for name in OF_AN_ARM for _ in path.glob(name))


def refuse_arms(directory: Path) -> None:
    """An arm of a run is no place for another run.

    Raises:
        UserError: when the directory lies in that of an arm.
    """
    for path in (directory, *directory.parents):
        if (path.parent / NAME).exists() and not (path / NAME).exists() and is_arm(path):
            raise UserError(f"{directory}: belongs to an arm of the run {path.parent}; {words().another}")


def put_back(directory: Path, record: Mapping[str, Any], config: bytes, there: set[str]) -> None:
    """Write the record and the config as they were, before a command with which nothing was done.

    Args:
        directory: of the run.
        record: as it was; what lies in the directory by now is added.
        config: as it was.
        there: entries of the directory before the command.
    """
    _remove_preparations(directory, entries(directory) - there - {CONFIG, NAME})
    with replacing(directory / CONFIG) as partial:
        partial.write_bytes(config)
    write_record(directory, {**record, "made": made_by_now(directory, record, there)})


def withdraw(directory: Path, there: set[str]) -> None:
    """Remove what was prepared for results that never came.

    Args:
        directory: of the run.
        there: entries of the directory before the command.
    """
    _remove_preparations(directory, entries(directory) - there | {CONFIG, NAME})


def _remove_preparations(directory: Path, names: set[str]) -> None:
    for name in names:
        path = directory / name
        if path.is_dir():
            # Of an arm whose charts were begun.
            if all(matches(entry, PREPARATIONS) for entry in entries(path)):
                shutil.rmtree(path)
        elif matches(name, PREPARATIONS):
            path.unlink(missing_ok=True)


def remove_empty(directories: list[Path]) -> None:
    """Remove directories that were made for nothing, up to the first that holds something.

    Args:
        directories: each the parent of the one before.
    """
    for path in directories:
        if not path.is_dir() or any(path.iterdir()):
            return
        path.rmdir()


def made_by_now(directory: Path, record: Mapping[str, Any], there: set[str]) -> list[str]:
    """What the runs in a directory have made: what its record lists, and what is new."""
    new = {name for name in entries(directory) - there if not is_ours(name)}
    return sorted({*record.get("made", ()), *new})


def entries(directory: Path) -> set[str]:
    """Names in a directory."""
    return {path.name for path in directory.iterdir()}


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name has one of these forms."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def is_ours(name: str) -> bool:
    """Whether an entry is no result: old runs, and the lock."""
    return name == OLD or name.startswith(LOCK)


def keep_metrics(directory: Path) -> None:
    """Keep the table of an earlier command: a CSVLogger begins by deleting it."""
    table = directory / "metrics.csv"
    if table.is_file():
        names = (directory / f"metrics.{number}.csv" for number in count(1))
        table.rename(next(name for name in names if not name.exists()))
