"""Files written whole or not at all, and the disk space that a store needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaevar.errors import UserError
from vaevar.runs.stopping import finishing


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file beside its place, then move it there: a reader never sees half of it.

    A write that fails leaves no trace, and an existing ``path`` stays as it was. A program that is told to
    stop meanwhile finishes the write first. The parent directory is created when it is missing.

    Args:
        path: the file to write or replace.

    Yields:
        A path in the same directory for this process alone, ``<name>.<process id>.partial``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with finishing():
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def check_disk(path: Path, size: int, contents: str) -> None:
    """Print how much will be written, and check that the disk has room for it.

    Args:
        path: the future store, in a directory that exists.
        size: at most this many bytes will be written.
        contents: what they are, such as ``700 samples``.

    Raises:
        UserError: when the disk has less free space than ``size``.
    """
    free = shutil.disk_usage(path.parent).free
    print(f"{path}: {contents}, at most {size_text(size)} to write ({size_text(free)} free)")
    if size > free:
        raise UserError(
            f"{path}: {size_text(size)} may be needed, but only {size_text(free)} are free there; free some "
            "space, or give another path, a shorter period, or a coarser grid"
        )


def size_text(size: int) -> str:
    """A number of bytes for people, such as ``4.52 MB``."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.{max(0, 3 - len(str(size // factor)))}f} {unit}"
    return f"{size} B"
