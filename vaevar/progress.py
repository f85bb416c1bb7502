"""How far a long piece of work is: a bar in a terminal, a line every now and then in a file."""

from __future__ import annotations

import datetime
import time as clock
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS, _PARTS = 30.0, 10


def shows_bars() -> bool:
    """Whether the output is a terminal that can draw; a file and a dumb terminal cannot."""
    return Console().is_interactive


def time_left(elapsed: float, done: int, left: int) -> str:
    """Such as ``0:12:05 left``.

    Args:
        elapsed: seconds that what is done took.
        done, left: numbers of equal parts.
    """
    return f"{datetime.timedelta(seconds=round(elapsed / max(done, 1) * left))} left"


class LogTimes:
    """When a line is due: at the beginning and the end, every 30 s, and every tenth of the whole.

    Args:
        total: number of parts; infinite when there is no end.
    """

    def __init__(self, total: float) -> None:
        self._total, self._last, self._at = total, 0, -float("inf")

    def due(self, done: int) -> bool:
        """Whether to say that ``done`` parts are done; if so, the next line is due later."""
        now = clock.monotonic()
        apart = now - self._at >= _SECONDS or (done - self._last) * _PARTS >= self._total
        if not apart and done < self._total:
            return False
        self._last, self._at = done, now
        return True


class Advance(Protocol):
    """Says how far the work is."""

    def __call__(self, done: int, description: str | None = None, /) -> None:
        """``done`` parts are done; from here on the work is called ``description``."""


@contextmanager
def progress(description: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Follow a piece of work.

    Args:
        description: what it is.
        total: number of its parts.
        done: of these, by an earlier run.
    """
    if shows_bars():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as bar:
            task = bar.add_task(description, total=total, completed=done)

            def draw(done: int, description: str | None = None) -> None:
                bar.update(task, completed=done, description=description)

            yield draw
        return
    times, began, before = LogTimes(total), clock.monotonic(), done
    print(f"{description}: {done}/{total}", flush=True)

    def write(done: int, description_now: str | None = None) -> None:
        nonlocal description
        description = description_now or description
        if done > before and times.due(done):
            left = time_left(clock.monotonic() - began, done - before, total - done)
            print(f"{description}: {done}/{total}, {left}", flush=True)

    yield write
