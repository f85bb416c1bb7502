"""How what a message advises is done where the program was begun: on a command line, or in Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Words:
    """What a user does in one of the two.

    Attributes:
        again: what is given once more.
        mended: what to do when the cause of an error is mended.
        gradients: let a trainer keep gradients.
        restart: begin a run again, with what is there moved aside.
        another: choose where else a run writes.
        name: give a run a place of its own.
    """

    again: str
    mended: str
    gradients: str
    restart: str
    another: str
    name: str


_COMMAND = Words(
    again="the same command",
    mended="once that is mended, the same command goes on from here",
    gradients="set `trainer.inference_mode: false`",
    restart="add `--restart`",
    another="choose another `--name`",
    name="give the run a name of its own, such as `--name my_run`",
)
_PYTHON = Words(
    again="the same call",
    mended="once that is mended, the same call goes on from here",
    gradients="give Trainer(inference_mode=False)",
    restart="begin again (restart=True, or Cycle(resume=False))",
    another="choose another directory",
    name="give a directory of its own, such as default_root_dir='runs/my_run'",
)
_LOOP = replace(_PYTHON, mended="once that is mended, begin the loop anew")
_spoken = [_PYTHON]


def words() -> Words:
    """Those of the place where this program was begun."""
    return _spoken[-1]


def setting(path: str) -> str:
    """The name of a setting, such as ``data.init_args.analyses``: in Python that of the argument alone."""
    return path if words() is _COMMAND else path.rpartition(".")[2]


def words_of_commands() -> AbstractContextManager[None]:
    """A command runs."""
    return _speaking(_COMMAND)


def words_of_loops() -> AbstractContextManager[None]:
    """A loop of its user's own runs, of which nothing is kept."""
    return _speaking(_LOOP)


@contextmanager
def _speaking(spoken: Words) -> Iterator[None]:
    _spoken.append(spoken)
    try:
        yield
    finally:
        _spoken.pop()
