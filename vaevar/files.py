"""Files written whole or not at all, tried before the work; locks; and the disk space that a store needs."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import BaseFileLock, FileLock, SoftFileLease

from vaevar.content.seal import sealed
from vaevar.errors import UserError
from vaevar.runs.stopping import finishing

_LEASE_SECONDS = 60.0  # after which a holder on another machine that no longer refreshes its lock is gone


def _places(path: Path) -> tuple[Path, Path]:
    """The file that a path leads to, in a directory that is made, and this process's partial file for it."""
    target = path.resolve() if path.is_symlink() else path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target, target.with_name(f"{target.name}.{os.getpid()}.partial")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file beside its place, then move it there: a reader never sees half of it.

    A write that fails leaves no trace, and an existing ``path`` stays as it was. A program that is told to
    stop meanwhile finishes the write first. The parent directory is created when it is missing. A link stays:
    the file that it leads to is replaced.

    Args:
        path: the file to write or replace.

    Yields:
        A path in the same directory for this process alone, ``<name>.<process id>.partial``.
    """
    target, partial = _places(path)
    with finishing():
        try:
            yield partial
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)


def save_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def save_array(path: Path, values: np.ndarray) -> None:
    """Write a small array as a ``.npy`` file of exactly this name, whole or not at all."""
    content = io.BytesIO()  # numpy's own writing to a file that does not fit says neither why nor where
    np.save(content, values)
    with replacing(path) as partial:
        partial.write_bytes(content.getbuffer())


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of ``torch.save``, whole or not at all, with a digest of its content.

    Raises:
        OSError: when it cannot be written, such as to a full disk.
    """
    with replacing(path) as partial, partial.open("wb") as file:
        try:
            torch.save(sealed(content), file)
        except RuntimeError as error:
            # torch reports the unfinished archive that a failed write leaves, not the write.
            if isinstance(error.__context__, OSError):
                cause = error.__context__
                raise OSError(cause.errno, cause.strerror, str(path)) from None
            raise


def require_writable(path: Path) -> None:
    """Try before a long computation whether its result can be written.

    The parent directory is created when it is missing.

    Args:
        path: the file that :func:`replacing` will write.

    Raises:
        UserError: when it is a directory, or lies where nothing can be written.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a directory; give the name of the file to write, as {path}/NAME")
        _, partial = _places(path)
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); give another path") from None


def place_of_store(path: Path) -> Path:
    """Where the directory of a store lies or is to be made: a link to it, also one to nothing yet, stays.

    Raises:
        UserError: when a file lies there.
    """
    target = path.resolve() if path.is_symlink() else path
    if target.exists() and not target.is_dir():
        raise UserError(f"{path}: is a file, where the directory of a store is expected; give another path")
    return target


def file_lock(path: Path) -> BaseFileLock:
    """A lock between processes, which a process that was killed no longer holds.

    Where the file system has no locks, a file that its holder refreshes stands for one. It lapses with a
    process of this machine, and a minute after the last refresh from another.

    Args:
        path: the lock file, in a directory that exists and can be written to.
    """
    if _has_locks(path.parent):
        return FileLock(path)
    # A name of its own: real locks leave an empty file behind, which says nothing about a holder.
    return SoftFileLease(path.with_name(f"{path.name}.held"), lease_duration=_LEASE_SECONDS)


def _has_locks(directory: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows has others
        return True
    with tempfile.TemporaryFile(dir=directory) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # ENOLCK, ENOSYS, EOPNOTSUPP and others
            return False
    return True


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
