"""What is replaced is kept: an old run is moved aside, old weights stay beside the new ones."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from vaevar.content.digest import sha256
from vaevar.errors import UserError
from vaevar.mistakes.words import words

OLD = ".old"
# A rename that the file system refuses for a directory, but perhaps not for what is in it: a mount point.
_NOT_AS_A_WHOLE = (errno.EBUSY, errno.EXDEV)


def place_aside(directory: Path) -> Path:
    """A new directory for what is moved aside of ``directory``: ``<directory>/.old/<time>``.

    It is on the same file system, wherever links lead, so that moving is renaming.
    """
    now = datetime.now()
    for count in range(1000):
        place = directory / OLD / (f"{now:%Y-%m-%dT%H-%M-%S}" + (f".{count}" if count else ""))
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            continue
        return place
    raise UserError(f"{directory / OLD}: no room for another old run; remove some")


def move_aside(directory: Path, names: Iterable[str], place: Path) -> None:
    """Move entries of a directory away.

    What the system keeps for files that are open and deleted (``.nfs...``) stays.

    Args:
        directory: where they are.
        names: of the entries; those that are not there are left out.
        place: where they go, from :func:`place_aside`.

    Raises:
        UserError: when an entry cannot be moved.
    """
    place.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = directory / name
        if not os.path.lexists(path) or name.startswith(".nfs"):
            continue
        try:
            _move(path, place / name)
        except OSError as error:
            raise UserError(
                f"{path}: cannot be moved to {place} ({error.strerror}); nothing is lost, "
                f"and {words().again} goes on with moving"
            ) from None


def _move(path: Path, target: Path) -> None:
    if path.is_symlink():
        # The old run keeps what the link leads to, also from its new place.
        os.symlink(path.resolve(), target)
        path.unlink()
        return
    try:
        os.rename(path, target)
        return
    except OSError as error:
        # ENOTEMPTY, EEXIST: a move that was interrupted has begun with this directory.
        if not path.is_dir() or error.errno not in (*_NOT_AS_A_WHOLE, errno.ENOTEMPTY, errno.EEXIST):
            raise
    target.mkdir(exist_ok=True)
    for entry in list(path.iterdir()):
        if not entry.name.startswith(".nfs"):
            _move(entry, target / entry.name)
    try:
        path.rmdir()
    except OSError as error:
        if error.errno not in (*_NOT_AS_A_WHOLE, errno.ENOTEMPTY, errno.EEXIST):
            raise


@contextmanager
def keeping(*paths: Path) -> Iterator[None]:
    """Keep what is replaced inside, and say so: ``vae.ckpt`` stays as ``vae.<8 digits>.ckpt``.

    Args:
        paths: files that may be there already. One that stays as it was is not kept twice.
    """
    kept = {path: _kept(path) for path in paths if path.is_file()}
    try:
        yield
    finally:
        for path, copy in kept.items():
            if path.is_file() and sha256(path) == sha256(copy):
                copy.unlink()
            else:
                undo = shlex.join(["mv", str(copy), str(path)])
                print(f"{path}: replaced; what it was before is kept as {copy} (to go back: {undo})")


def _kept(path: Path) -> Path:
    copy = path.with_name(f"{path.stem}.{sha256(path)[:8]}{path.suffix}")
    if not copy.exists():
        try:
            os.link(path.resolve(), copy)
        except OSError:  # a file system without links, or a link to another one
            shutil.copy2(path, copy)
    return copy
