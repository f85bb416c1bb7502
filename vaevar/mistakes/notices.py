"""What a program says besides its results: that it falls back, or that a setting may be a mistake.

A notice is a warning of Python, told once per cause and call: each cycle, each run, each analysis that is
called for directly tells it again. On the command line the call is the whole command, a notice is one line,
and whatever is warned of there, by whomever, is kept for the record of the run.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_KEPT_AT_MOST = 100
_NUMBER = re.compile(r"-?\d[\d.]*(e[-+]?\d+)?")
# Whose lines are nobody's to change.
_INNER = {"vaevar", "torch", "lightning", "lightning_utilities", "contextlib"}


class Notice(UserWarning):
    """Says what happens instead of what was asked for, and what to do about it."""


class Call:
    """Something that is asked for as a whole: within it each cause is told once.

    It may be entered again and again, as a loop that gives its caller the word in between. Within another
    it is a part of that.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def __enter__(self) -> None:
        _calls.append(_calls[-1] if _calls else self)

    def __exit__(self, *_: object) -> None:
        _calls.pop()


_told: list[str] = []  # of a command, or outside of any call
_calls: list[Call] = []


def notice(text: str, instance: str = "") -> None:
    """Say something, once in a call.

    Args:
        text: one line: what is so, and the remedy.
        instance: of what is so again and again, such as the time of an analysis, with other numbers each
            time. It is said of the first alone.
    """
    before = _calls[-1].told if _calls else []
    if text in before or (instance and any(_cause(said).startswith(_cause(text)) for said in before)):
        return
    text = f"{text} ({instance})" if instance else text
    _keep(text)
    frame = _users(sys._getframe(1))
    # A registry of its own: Python would keep the same line of a program quiet the second time.
    warnings.warn_explicit(
        text, Notice, frame.f_code.co_filename, frame.f_lineno, frame.f_globals.get("__name__"), registry={}
    )


def told() -> list[str]:
    """What was said so far, for the record of a run."""
    return [*_told, *(_calls[-1].told if _calls else ())]


@contextmanager
def warnings_kept() -> Iterator[None]:
    """Show notices as one line each, and keep the text of every warning that is shown."""
    before, show = list(_told), warnings.showwarning
    _told.clear()

    def kept(message: Any, category: type[Warning], *where: Any, **how: Any) -> None:
        _keep(" ".join(str(message).split()))
        if issubclass(category, Notice):
            print(f"warning: {message}", file=sys.stderr, flush=True)
        else:
            show(message, category, *where, **how)

    with warnings.catch_warnings(), Call():
        warnings.filterwarnings("always", category=Notice)
        warnings.showwarning = kept
        try:
            yield
        finally:
            _told[:] = before


def _cause(text: str) -> str:
    return _NUMBER.sub("", text)


def _keep(text: str) -> None:
    kept = _calls[-1].told if _calls else _told
    if text not in kept and len(kept) < _KEPT_AT_MOST:
        kept.append(text)


def _users(frame: FrameType) -> FrameType:
    """The nearest frame that is the user's own, or else the outermost."""
    while frame.f_back and str(frame.f_globals.get("__name__")).partition(".")[0] in _INNER:
        frame = frame.f_back
    return frame
