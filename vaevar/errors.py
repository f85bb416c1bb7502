"""What a user can fix, a mistake or a fault of the environment: shown as one line, without a traceback."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from types import TracebackType

from vaevar.mistakes.words import words


class UserError(Exception):
    """An input is wrong: the message names it, and says what was found, what was expected and what to do.

    Example:
        >>> try:
        ...     vaevar.pretrained("fengwu")
        ... except vaevar.UserError as error:
        ...     print(error)
        nothing is called 'fengwu'; choose from forecaster, ...
    """


class ForecasterFault(FloatingPointError):
    """A forecaster that cannot carry an arm of a cycle on: its forecast fails, or its gradient is not
    finite."""


_ROOM = "free some space there, or raise the quota, and give {again} again"
_RIGHT = "give another path, or get the right to use this one"
_DISK = "the disk or its server fails: look at it, and give {again} again"
_PLACE = "a file, or a link to nothing, lies where a directory is needed: give another path"
_OPEN = "too much is open at once: raise the limit (ulimit -n), and give {again} again"
# A file that is not there is missing here: that may be a fault of the program too.
_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EACCES: _RIGHT,
    errno.EPERM: _RIGHT,
    errno.EROFS: _RIGHT,
    errno.EIO: _DISK,
    errno.ESTALE: _DISK,
    errno.ETIMEDOUT: _DISK,
    errno.EREMOTEIO: _DISK,
    errno.ENAMETOOLONG: "give a shorter name or path",
    errno.EISDIR: "a directory lies where a file is needed: give another path",
    errno.ENOTDIR: _PLACE,
    errno.EEXIST: _PLACE,
    errno.ELOOP: "its links lead in a circle: mend them",
    errno.EMFILE: _OPEN,
    errno.ENFILE: _OPEN,
}


def one_line(error: BaseException) -> str:
    """What an error says, in one line; its kind when it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of what a library's error says; its kind when it says nothing."""
    return next(iter(str(error).splitlines()), "").strip() or type(error).__name__


def fault_of(error: OSError) -> UserError | None:
    """The fault of the environment that an error reports; None if it may be one of the program."""
    advice = _ADVICE.get(error.errno or 0)
    if advice is None:
        return None
    name = error.filename or _file_in(error.__traceback__) or "a file of this run"
    path = os.fsdecode(name) if isinstance(name, str | bytes) else str(name)
    # A file is written beside its place, by a name that says nothing to its user.
    path = re.sub(r"\.\d+\.partial$", "", path)
    return UserError(f"{path}: {error.strerror}; {advice.format(again=words().again)}")


def _file_in(traceback: TracebackType | None) -> str | None:
    """The file that the innermost function was busy with: writing does not say where it failed."""
    found = None
    while traceback is not None:
        for name in ("path", "filename", "filepath", "partial"):
            value = traceback.tb_frame.f_locals.get(name)
            if isinstance(value, Path | str):
                found = str(value)
        traceback = traceback.tb_next
    return found
