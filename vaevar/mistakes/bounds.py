"""Bounds of settings: the one that lies outside is named, with what it is and what it must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from vaevar.errors import UserError

Numbers = float | Sequence[float]


def require_at_least(owner: str, smallest: int, **settings: Numbers) -> None:
    """Check that settings are large enough, and finite.

    Args:
        owner: the class whose settings they are.
        smallest: value of each.
        settings: by name; of a sequence, each entry counts.

    Raises:
        UserError: for the first that is not.
    """
    rule = "must not be negative" if smallest == 0 else f"must be at least {smallest}"
    _require(owner, settings, rule, lambda number: number >= smallest)


def require_positive(owner: str, **settings: Numbers) -> None:
    """Check that settings are positive and finite; sequences as in :func:`require_at_least`.

    Raises:
        UserError: for the first that is not.
    """
    _require(owner, settings, "must be positive", lambda number: number > 0)


def _require(owner: str, settings: dict[str, Numbers], rule: str, holds: Callable[[float], bool]) -> None:
    for name, value in settings.items():
        for number in value if isinstance(value, Sequence) else (value,):
            if not holds(number) or not math.isfinite(number):
                raise UserError(f"{owner}: {name} is {_text(value)}, {rule}")


def _text(value: Numbers) -> str:
    return str(list(value)) if isinstance(value, Sequence) else str(value)
