"""The arms of a run directory: also those that the last command did not run, and how far each has come."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from vaevar.runs.record import NAME
from vaevar.verification.tables import complete_times


def earlier_arms(
    directory: Path, arms: Collection[str], times: np.ndarray, keys: pd.DataFrame
) -> dict[str, np.ndarray]:
    """Arms that only earlier commands ran, with the times of which all their rows are whole.

    Args:
        directory: of the run.
        arms: of the command that runs now; they are left out, as are runs below this one.
        times: [T], of the cycle.
        keys: the rows of ``scores.csv`` for one time.
    """
    found = {}
    for table in sorted(directory.glob("*/diagnostics.csv")):
        path = table.parent
        scores = path / "scores.csv"
        if path.name in arms or (path / NAME).exists() or not scores.is_file():
            continue
        count = min(
            complete_times(scores, times, keys, numbers=["rmse", "bias"]),
            complete_times(table, times, pd.DataFrame(index=[0])),
        )
        if count:
            found[path.name] = times[:count]
    return found


def lengths(scores: pd.DataFrame) -> dict[str, int]:
    """How many analyses each arm has.

    Args:
        scores: rows of ``scores.csv``.
    """
    return {
        str(arm): int(count) for arm, count in scores.groupby("arm", sort=False)["time"].nunique().items()
    }


def compared(counts: Mapping[str, int], arms: Collection[str], stopped: Collection[str]) -> int:
    """How many analyses, from the first, a summary is over: those that all arms of a command have.

    An arm that had to stop does not make it shorter, and one of an earlier command neither.

    Args:
        counts: the analyses that each arm has.
        arms: of the command.
        stopped: those that had to stop.
    """
    going = [counts[arm] for arm in arms if arm not in stopped]
    return min(going) if going else max(counts[arm] for arm in arms)


def remarks(counts: Mapping[str, int], over: int, earlier: Collection[str], stopped: Collection[str]) -> str:
    """What a reader must know who compares the arms; empty if all are of one command and one length.

    Args:
        counts: the analyses that each arm has.
        over: how many the summary is over.
        earlier: arms that only earlier commands ran.
        stopped: arms that had to stop.
    """
    others = {arm: count for arm, count in counts.items() if count != over and arm not in stopped}
    texts = []
    if earlier:
        texts.append(f"Not part of the last command: {', '.join(earlier)}.")
    if others:
        listed = ", ".join(f"{arm} has {count}" for arm, count in others.items())
        texts.append(
            f"Of other lengths: {listed}; all are compared over the first {over}, and an arm that has fewer "
            "has no averages."
        )
    return " ".join(texts)
