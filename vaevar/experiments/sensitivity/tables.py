"""Tables of the sensitivity experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vaevar.experiments.sensitivity.module import Explained
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SURFACE = "surface"


@dataclass(frozen=True)
class Row:
    """One arm's forecast from one date.

    Attributes:
        arm: its name.
        time: at which the forecast starts.
        explained: where its error comes from.
    """

    arm: str
    time: np.datetime64
    explained: Explained


def error_table(rows: Sequence[Row]) -> pd.DataFrame:
    """A row per arm and date: J_e from x_b and from x_a, and what the adjoint makes of the difference."""
    found = []
    for row in rows:
        explained = row.explained
        change = explained.analysis_error - explained.background_error
        total = float(explained.impacts.values.sum())
        found.append(
            {
                "arm": row.arm,
                "date": str(row.time),
                "J_e from x_b": explained.background_error,
                "J_e from x_a": explained.analysis_error,
                "change": change,
                "by the gradients": explained.trapezoid,
                "sum of the impacts": total,
                "sum / change": total / change if change else np.nan,
                "observations": len(explained.observed),
                "beneficial": share(explained.impacts.values < 0),
                "iterations": explained.impacts.iterations,
                "residual": explained.impacts.residual,
            }
        )
    return pd.DataFrame(found)


def perturbation_table(rows: Sequence[Row]) -> pd.DataFrame:
    """A row per arm, date and size of the most harmful analysis error, taken away from the analysis."""
    return pd.DataFrame(
        [
            {
                "arm": row.arm,
                "date": str(row.time),
                "stds": tried.size,
                "change of J_e": tried.found,
                "by the gradient": tried.predicted,
                "relative error": tried.error,
                "share of J_e": tried.found / row.explained.analysis_error
                if row.explained.analysis_error
                else np.nan,
            }
            for row in rows
            for tried in row.explained.tried
        ]
    )


def channel_table(rows: Sequence[Row], spec: StateSpec, grid: Grid) -> pd.DataFrame:
    """A row per arm, date, past state and channel: the norm of the sensitivity, and its share of the square.

    ``norm`` is the root of the area mean of (σ ∂J_e/∂x)², per area; ``hours`` is how long before the start of
    the forecast the state is, in steps.
    """
    found = []
    for row in rows:
        squares = grid.area_mean(row.explained.sensitivity.square()).cpu().numpy()
        total = float(squares.sum())
        for number, state in enumerate(squares):
            for channel, square in zip(spec.channels, state, strict=True):
                found.append(
                    {
                        "arm": row.arm,
                        "date": str(row.time),
                        "steps_before": len(squares) - 1 - number,
                        "channel": channel.name,
                        "variable": channel.variable,
                        "level": SURFACE if channel.level is None else str(channel.level),
                        "norm": float(np.sqrt(square)),
                        "share": float(square) / total if total else np.nan,
                    }
                )
    return pd.DataFrame(found)


def norm_table(channels: pd.DataFrame) -> pd.DataFrame:
    """Of one arm and date: the norm of the sensitivity by level and variable, and per cent of the square.

    Args:
        channels: rows of :func:`channel_table`.
    """
    squares = channels.assign(square=channels["norm"] ** 2)
    upper = squares[squares["level"] != SURFACE]
    table = squares.pivot_table("square", "level", "variable", "sum", sort=False)
    columns = dict.fromkeys([*upper["variable"], *squares["variable"]])
    table = table.loc[list(dict.fromkeys([*upper["level"], *squares["level"]])), list(columns)]
    table["all"] = table.sum(axis=1)
    table.loc["all"] = table.sum()
    whole = table.loc["all", "all"]
    norms = np.sqrt(table)
    norms["per cent"] = 100 * table["all"] / whole
    norms.loc["per cent"] = 100 * table.loc["all"] / whole
    return norms.rename_axis("level").rename_axis(None, axis=1).reset_index()


def impact_rows(row: Row) -> pd.DataFrame:
    """The lines of ``impacts.csv``: one for each observation of a forecast's last window."""
    explained, observed = row.explained, row.explained.observed
    first = row.time - np.timedelta64(round(explained.window_hours * 3600), "s")
    return pd.DataFrame(
        {
            "arm": row.arm,
            "date": str(row.time),
            "time": (first + (explained.hours * 3600).round().astype("timedelta64[s]")).astype(str),
            "variable": observed.variable,
            "pressure": observed.pressure,
            "latitude": observed.latitude,
            "longitude": observed.longitude,
            "value": observed.value,
            "error_std": observed.error_std,
            "departure": explained.departure,
            "impact": explained.impacts.values,
        }
    )


def impact_table(impacts: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Sum, mean and share of beneficial observations.

    Args:
        impacts: rows of ``impacts.csv``.
        by: columns to group by.
    """
    groups = impacts.groupby(list(by), sort=False, dropna=False)["impact"]
    table = groups.agg(
        **{
            "observations": "size",
            "impact": "sum",
            "per observation": "mean",
            "beneficial": lambda values: share(values < 0),
        }
    )
    totals = impacts.groupby("arm")["impact"].sum()
    table["share"] = table["impact"].to_numpy() / totals.loc[table.index.get_level_values("arm")].to_numpy()
    return table.reset_index()


def upright(errors: pd.DataFrame) -> pd.DataFrame:
    """:func:`error_table` with a column per arm and date, which fits into a narrow terminal."""
    several = errors["date"].nunique() > 1
    numbers = errors.drop(columns=["arm", "date"]).astype(object).T
    numbers.columns = pd.Index(errors["arm"] + (", " + errors["date"] if several else ""))
    return numbers.rename_axis("").reset_index()


def side_by_side(impacts: pd.DataFrame) -> pd.DataFrame:
    """The sums of :func:`impact_table` by variable, with a column per arm."""
    sums = impacts.pivot_table("impact", "variable", "arm", "sum", sort=False)
    return sums.rename_axis(None, axis=1).reset_index()


def share(of: np.ndarray | pd.Series) -> float:
    """The part that is true."""
    return float(np.mean(of)) if len(of) else float("nan")
