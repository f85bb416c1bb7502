"""How what a message advises is done where the program was begun: on a command line, or in Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """What a user does in one of the two.

    Attributes:
        again: what is given once more.
        restart: begin a run again, with what is there moved aside.
        another: choose where else a run writes.
        name: give a run a place of its own.
    """

    again: str
    restart: str
    another: str
    name: str


_COMMAND = Words(
    again="the same command",
    restart="add `--restart`",
    another="choose another `--name`",
    name="give the run a name of its own, such as `--name my_run`",
)
_PYTHON = Words(
    again="the same call",
    restart="begin again (restart=True, or Cycle(resume=False))",
    another="choose another directory",
    name="give a directory of its own, such as default_root_dir='runs/my_run'",
)
_spoken = [_PYTHON]


def words() -> Words:
    """Those of the place where this program was begun."""
    return _spoken[-1]


@contextmanager
def words_of_commands() -> Iterator[None]:
    """A command runs."""
    _spoken.append(_COMMAND)
    try:
        yield
    finally:
        _spoken.pop()
