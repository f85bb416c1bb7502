"""What a program says besides its results: that it falls back, or that a setting may be a mistake.

A notice is a warning of Python, told once. On the command line it is one line, and whatever is warned of
there, by whomever, is kept for the record of the run.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_KEPT_AT_MOST = 100
_NUMBER = re.compile(r"-?\d[\d.]*(e[-+]?\d+)?")
_told: list[str] = []


class Notice(UserWarning):
    """Says what happens instead of what was asked for, and what to do about it."""


def notice(text: str, instance: str = "") -> None:
    """Say something once.

    Args:
        text: one line: what is so, and the remedy.
        instance: of what is so again and again, such as the time of an analysis, with other numbers each
            time. It is said of the first alone.
    """
    if text in _told or (instance and any(_cause(said).startswith(_cause(text)) for said in _told)):
        return
    text = f"{text} ({instance})" if instance else text
    _keep(text)
    warnings.warn(text, Notice, stacklevel=3)


def told() -> list[str]:
    """What was said so far, for the record of a run."""
    return list(_told)


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

    with warnings.catch_warnings():
        # Each is told once by `notice` itself; Python's own memory would keep those of a second run quiet.
        warnings.filterwarnings("always", category=Notice)
        warnings.showwarning = kept
        try:
            yield
        finally:
            _told[:] = before


def _cause(text: str) -> str:
    return _NUMBER.sub("", text)


def _keep(text: str) -> None:
    if text not in _told and len(_told) < _KEPT_AT_MOST:
        _told.append(text)
