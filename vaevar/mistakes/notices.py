"""What a program says besides its results: that it falls back, or that a setting may be a mistake.

A notice is a warning of Python, told once. On the command line it is one line, and whatever is warned of
there, by whomever, is kept for the record of the run.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_KEPT_AT_MOST = 100
_told: list[str] = []


class Notice(UserWarning):
    """Says what happens instead of what was asked for, and what to do about it."""


def notice(text: str) -> None:
    """Say something once.

    Args:
        text: one line: what is so, and the remedy.
    """
    if text not in _told:
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


def _keep(text: str) -> None:
    if text not in _told and len(_told) < _KEPT_AT_MOST:
        _told.append(text)
