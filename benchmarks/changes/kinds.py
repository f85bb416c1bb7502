"""What a change is, and what may come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# What came of a change. "other": another result without a word; "crashed": an error that is no user's.
Outcome = Literal["refused", "harmless", "told", "other", "crashed", "unnamed"]
Change = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """One change of one input.

    Attributes:
        target: the input: a file or a store of the world, or something else that a cycle takes.
        change: what is changed, in words.
        apply: changes the input in a directory with a copy of the world.
        probe: the command that meets the change (:mod:`changes.probes`).
        names: a pattern of what a refusal or a warning must name.
        unknowable: why nobody can know, if that is so.
    """

    target: str
    change: str
    apply: Change
    probe: str
    names: str
    unknowable: str = ""

    @property
    def title(self) -> str:
        return f"{self.target}: {self.change}"


@dataclass(frozen=True)
class Result:
    """What came of a case.

    Attributes:
        outcome: in a word.
        line: the refusal or the warning; or what differs.
    """

    case: Case
    outcome: Outcome
    line: str

    @property
    def right(self) -> bool:
        """Whether the change did no harm, was told, or cannot be known."""
        return self.outcome in ("refused", "harmless", "told") or (
            self.outcome == "other" and bool(self.case.unknowable)
        )
