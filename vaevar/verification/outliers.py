"""Analyses whose 2J/p is far from its own past: gross errors of the observations show there.

2J/p is near 1 where B and R are right, and in any case changes little from one analysis to the next. Many or
large wrong observations, an R of other units or a background that went astray change it at once. Until there
is a quality control of observations, this is how they are noticed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

# How many analyses are the past, and how many it takes to know what is usual.
_PAST, _LEAST = 40, 8
# At least this factor, and this many robust standard deviations of its logarithm.
_FACTOR, _STDS = 1.3, 8.0


def usual(past: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """The range in which 2J/p is like its past; None while little of it is known.

    Args:
        past: 2J/p of the analyses before, in order; those without are NaN.
    """
    known = np.asarray(past, dtype=float)
    known = np.log(known[np.isfinite(known) & (known > 0)][-_PAST:])
    if known.size < _LEAST:
        return None
    middle = np.median(known)
    spread = 1.4826 * np.median(np.abs(known - middle))
    width = max(np.log(_FACTOR), _STDS * spread)
    return float(np.exp(middle - width)), float(np.exp(middle + width))


def far_from_its_past(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Which analyses have a 2J/p that is far from those before, [T] bool.

    Args:
        values: [T], 2J/p by analysis; NaN where there is none.
    """
    values = np.asarray(values, dtype=float)
    far = np.zeros(values.size, dtype=bool)
    for index, value in enumerate(values):
        limits = usual(values[:index])
        far[index] = limits is not None and bool(np.isfinite(value)) and not limits[0] <= value <= limits[1]
    return far


class PastAnalyses:
    """What 2J/p was in each arm of a cycle, to say at once when it is far from that."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def go_on(self, arm: str, table: Path, analyses: int) -> None:
        """Take an arm's past from its ``diagnostics.csv``.

        Args:
            arm: its name.
            table: its diagnostics; what a full disk has left is no table.
            analyses: how many it holds.
        """
        rows = pd.read_csv(table) if analyses else pd.DataFrame()
        self._values[arm] = list(rows.get("chi2", ()))

    def add(self, arm: str, time: np.datetime64, diagnostics: Mapping[str, float]) -> None:
        """Add an analysis, and print a line if it is far from those before."""
        past, value = self._values.setdefault(arm, []), diagnostics.get("chi2", np.nan)
        limits = usual(past)
        if limits is not None and np.isfinite(value) and not limits[0] <= value <= limits[1]:
            print(
                f"arm {arm} at {time}: 2J/p is {value:.3g}, far from its own past, {limits[0]:.3g} to "
                f"{limits[1]:.3g}: look for gross errors among the observations",
                flush=True,
            )
        past.append(value)
