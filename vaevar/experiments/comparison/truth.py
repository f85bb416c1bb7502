"""One truth for all runs of a comparison: errors of other weather are no rivals.

A generated truth is not the same everywhere: after a few weeks, SPEEDY's weather depends on how a machine
rounds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from vaevar.data.analysis_times import AnalysisTimes
from vaevar.errors import UserError

TRUTH = "truth"
_SAME = 1e-5  # relative; of two weathers of SPEEDY it is some 1e-2, of rounding in a record 5e-6 at most


def truth_number(data: AnalysisTimes) -> float:
    """A number that tells one truth from another: its standard deviation over the grid, of the last state.

    Divided by the climatological one, mean over channels. The last state, because two chaotic runs have
    become different weather by then.

    Args:
        data: of the run; the truth must be there.
    """
    values = data.source.open(data.spec).state(data.times[-1]).values
    spread = values.double().flatten(1).std(dim=1).numpy()
    return float((spread / data.climatological_std).mean())


def require_one_truth(rows: pd.DataFrame, results: Path, here: float | None = None) -> None:
    """Refuse records of several truths.

    Args:
        rows: of records.
        results: their directory, for the message.
        here: the truth of a run that is to stand beside them.

    Raises:
        UserError: when they are of several truths, or some do not say.
    """
    of_run = rows[["case", "arm"]].drop_duplicates()
    told = rows.loc[rows["quantity"] == TRUTH, ["case", "arm", "value"]]
    runs = of_run.merge(told, how="left").sort_values("value")
    numbers = runs["value"].to_numpy(dtype=float)
    # Sorted, so that a gap is where one truth ends and the next begins; a run that does not say is its own.
    group = np.cumsum(np.diff(numbers, prepend=numbers[:1]) > _SAME * np.abs(numbers))
    untold = np.isnan(numbers)
    group[untold] = len(group)
    kinds = [_kind(of_one) for _, of_one in runs.groupby(group)]
    if here is not None and not all(np.isclose(numbers, here, rtol=_SAME)):
        kinds.append(f"this machine's ({here:.6g})")
    elif len(kinds) < 2 and not untold.any():
        return
    raise UserError(
        f"{results}: the truth of a comparison must be one, found {' and '.join(kinds)}; SPEEDY's weather "
        "differs between machines. Take --results DIRECTORY for a comparison of this machine's own, or "
        "delete the records of one truth and run it again"
    )


def _kind(runs: pd.DataFrame) -> str:
    """Runs of one truth, in words."""
    number = runs["value"].iloc[0]
    arms = ", ".join(sorted(set(runs["arm"])))
    said = "not told" if np.isnan(number) else f"{number:.6g}"
    plural = "" if len(runs) == 1 else "s"
    return f"that of {len(runs)} run{plural} of {arms} ({said})"
