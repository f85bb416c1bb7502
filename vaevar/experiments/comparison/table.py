"""Tables of a comparison: mean over seeds ± spread over seeds, and differences paired by seed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vaevar.experiments.comparison.record import MEAN, NETWORKS, WINDOWS, at_times_of
from vaevar.verification.scores import HEADLINE_CHANNELS
from vaevar.verification.tables import to_markdown

REFERENCES = ("threedvar", "threedvar_cycle", "threedvar_published", "diffda")
DIFFERENCES = {
    "rmse / std": ("analysis", MEAN),
    "z500": ("analysis", "z500"),
    "t850": ("analysis", "t850"),
    "u500": ("analysis", "u500"),
    "t2m": ("analysis", "t2m"),
    "background": ("background", MEAN),
    "day 1": ("forecast_24h", MEAN),
    "day 3": ("forecast_72h", MEAN),
    "day 5": ("forecast_120h", MEAN),
}
Quantity = tuple[str, str]
REFERENCE_OF_WINDOWS = "threedvar_cycle"
OF_WINDOWS = {
    f"{title}{unit}": (quantity, channel)
    for channel, unit in ((MEAN, ""), ("z500", ", z500"))
    for title, quantity in (
        ("mean of the window", "analysis_window"),
        ("last time", "analysis_last"),
        ("next background", "background_next"),
    )
}
NOTE_ON_WINDOWS = (
    "rmse / std, and RMSE of z500, of arms that analyse several times at once. At the last time of a window, "
    "all its observations are past, as in a forecast centre's analysis; its mean is that of a reanalysis, "
    "which knows later observations too; the next background is the forecast to 6 h after the last time. Of "
    f"{REFERENCE_OF_WINDOWS}, which knows one time, the first two are the same, over all times; the "
    "differences below are to its numbers at the times of each arm's windows."
)


def wide(results: pd.DataFrame) -> pd.DataFrame:
    """Tidy rows as a table: a row per (network, columns, seed, arm), a column per (quantity, channel)."""
    return results.pivot(
        index=["network", "columns", "seed", "arm"], columns=["quantity", "channel"], values="value"
    )


def spread(values: pd.Series) -> tuple[float, float]:
    """Mean and sample standard deviation over seeds; the latter is NaN for a single seed."""
    return float(values.mean()), float(values.std(ddof=1))


def means(table: pd.DataFrame, arms: Sequence[str], quantities: dict[str, Quantity]) -> pd.DataFrame:
    """A row per network, number of columns and arm, with ``mean ± spread`` of each quantity.

    Args:
        table: from :func:`wide`.
        arms: in the order of the rows.
        quantities: by the title of their column.
    """
    rows = []
    for network, columns in _networks(table):
        for arm in arms:
            by_seed = _series(table, network, columns, arm)
            if not len(by_seed):
                continue
            row = {"network": network, "columns": str(columns), "arm": arm}
            for title, quantity in quantities.items():
                values = by_seed[quantity].dropna() if quantity in by_seed else pd.Series(dtype=float)
                row[title] = _cell(*spread(values)) if len(values) else "–"
            rows.append(row)
    return pd.DataFrame(rows)


def relative_differences(
    table: pd.DataFrame, network: str, columns: int, arm: str, reference: str, quantity: Quantity
) -> pd.Series:
    """arm / reference − 1 for every seed that has both, indexed by seed.

    Args:
        table: from :func:`wide`.
        network: ``fixed``, ``moving``, or ``both`` for the mean of the two, seed by seed.
        columns: size of the network.
        arm: the arm that is compared.
        reference: the arm that it is compared with.
        quantity: (quantity, channel).
    """
    if network == "both":
        parts = [relative_differences(table, name, columns, arm, reference, quantity) for name in NETWORKS]
        return ((parts[0] + parts[1]) / 2).dropna()
    if quantity not in table:
        return pd.Series(dtype=float)
    first, second = (_series(table, network, columns, name)[quantity] for name in (arm, reference))
    return (first / second - 1).dropna()


def differences(
    table: pd.DataFrame,
    arms: Sequence[str],
    reference: str,
    quantities: dict[str, Quantity] = DIFFERENCES,
    own: Mapping[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Relative differences of all arms to one, in per cent; bold where they exceed the spread over seeds.

    Args:
        table: from :func:`wide`.
        arms: in the order of the rows.
        reference: the arm that the others are compared with.
        quantities: by the title of their column.
        own: tables that take the place of ``table``, by arm.
    """
    rows = []
    places = _networks(table)
    sizes = sorted({columns for _, columns in places})
    both = [("both", size) for size in sizes if all((name, size) in places for name in NETWORKS)]
    for network, columns in places + both:
        for arm in arms:
            if arm == reference:
                continue
            row = {"network": network, "columns": str(columns), "arm": arm}
            for title, quantity in quantities.items():
                chosen = (own or {}).get(arm, table)
                by_seed = relative_differences(chosen, network, columns, arm, reference, quantity)
                row[title] = _difference(by_seed)
            if any(row[title] != "–" for title in quantities):
                rows.append(row)
    return pd.DataFrame(rows)


def report(
    table: pd.DataFrame, arms: Sequence[str], note: str, windows: Mapping[str, int] | None = None
) -> str:
    """The text of ``comparison.md``.

    Args:
        table: from :func:`wide`.
        arms: in the order of the rows.
        note: the text above the tables.
        windows: numbers of times that arms hand out together, by name; others have 1.
    """
    channels = [name for name in HEADLINE_CHANNELS if ("analysis", name) in table]

    def rmse(quantity: str) -> dict[str, Quantity]:
        return {"rmse / std": (quantity, MEAN)} | {name: (quantity, name) for name in channels}

    days = {"24": "day 1", "72": "day 3", "120": "day 5"}
    leads = [str(lead) for lead in lead_hours(table)]
    forecast = {
        f"{title}, {days.get(lead, lead + ' h')}": (f"forecast_{lead}h", channel)
        for title, channel in (("rmse / std", MEAN), ("z500", "z500"))
        for lead in leads
    }
    costs = {
        "seconds": ("seconds", ""), "evaluations": ("evaluations", ""), "iterations": ("iterations", ""),
        "2J/p": ("2J/p", ""), "improved": ("improved", ""), "drift %/day": ("drift %/day", ""),
    }  # fmt: skip
    parts = ["# Comparison", note]
    for title, quantities in (
        ("Analyses", rmse("analysis")),
        ("Backgrounds", rmse("background")),
        ("Forecasts from the analyses", forecast),
        (_costs_title(table), costs),
    ):
        parts += [f"## {title}", to_markdown(means(table, arms, quantities))]
    present = set(table.index.get_level_values("arm"))
    own = {arm: with_one_time(table, length) for arm, length in (windows or {}).items() if length > 1}
    for reference in REFERENCES:
        if reference in present and len(present) > 1:
            compared = differences(table, arms, reference, own=own)
            parts += [f"## Differences to {reference}, %", to_markdown(compared)]
    return "\n\n".join(parts + _windows(table, arms, windows or {})) + "\n"


def _windows(table: pd.DataFrame, arms: Sequence[str], windows: Mapping[str, int]) -> list[str]:
    """The section of arms that analyse several times at once, beside the one that they are compared with."""
    if ("analysis_last", MEAN) not in table:
        return []
    known = table["analysis_last", MEAN].notna()
    with_windows = set(table.index[known].get_level_values("arm"))
    chosen = [arm for arm in arms if arm in with_windows or arm == REFERENCE_OF_WINDOWS]
    table = table[known.groupby(level=["network", "columns"]).transform("any")]
    whole = with_one_time(table)
    parts = ["## Windows", NOTE_ON_WINDOWS, to_markdown(means(whole, chosen, OF_WINDOWS))]
    own = {arm: with_one_time(table, windows.get(arm, 1)) for arm in chosen}
    compared = differences(whole, chosen, REFERENCE_OF_WINDOWS, OF_WINDOWS, own)
    if len(compared):
        parts += [f"## Windows: differences to {REFERENCE_OF_WINDOWS}, %", to_markdown(compared)]
    return parts


def lead_hours(table: pd.DataFrame) -> list[int]:
    """The leads of the forecasts of a table, ascending."""
    found = (re.fullmatch(r"forecast_(\d+)h", name) for name, _ in table)
    return sorted({int(match[1]) for match in found if match})


def with_one_time(table: pd.DataFrame, window: int = 1) -> pd.DataFrame:
    """The table with ``WINDOWS`` of all arms; where an arm analyses one time, they are that time's.

    Args:
        table: from :func:`wide`.
        window: 1: over all times. Else those at the times of windows of so many, and the forecasts from
            there, where they are recorded.
    """
    whole = table.copy()
    if window > 1 and ("analysis_last", MEAN) in table:
        of_one_time = table["analysis_last", MEAN].isna()
        forecasts = {f"forecast_{lead}h" for lead in lead_hours(table)}
        for quantity, channel in table:
            if quantity in forecasts:
                there = table.get((at_times_of(quantity, window), channel), np.nan)
                whole[quantity, channel] = table[quantity, channel].mask(of_one_time, there)
    for name, of_one in WINDOWS.items():
        recorded = of_one if window == 1 else at_times_of(name, window)
        for quantity, channel in table:
            if quantity == of_one:
                known = table.get((name, channel), pd.Series(np.nan, table.index))
                whole[name, channel] = known.fillna(table.get((recorded, channel), np.nan))
    return whole


def summary(table: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """What ``comparison.csv`` holds: mean and sample std over seeds of the mean over channels of RMSE / std.

    Args:
        table: from :func:`wide`.
        arms: in the order of the rows.
    """
    whole, rows = with_one_time(table), []
    recorded = [
        name for start in WINDOWS for name in sorted({name for name, _ in whole}) if name.startswith(start)
    ]
    for network, columns in _networks(table):
        for arm in arms:
            by_seed = _series(whole, network, columns, arm)
            for quantity in recorded:
                values = by_seed[quantity, MEAN].dropna()
                if len(values):
                    rows.append((network, columns, arm, quantity, *spread(values), len(values)))
    return pd.DataFrame(rows, columns=["network", "columns", "arm", "quantity", "mean", "std", "seeds"])


def _costs_title(table: pd.DataFrame) -> str:
    threads = sorted({int(count) for count in table["threads", ""].dropna()})
    return f"Per analysis, on {' or '.join(map(str, threads))} CPU threads"


def _networks(table: pd.DataFrame) -> list[tuple[str, int]]:
    return sorted({(network, int(columns)) for network, columns, *_ in table.index})


def _series(table: pd.DataFrame, network: str, columns: int, arm: str) -> pd.DataFrame:
    """The rows of one arm, by seed."""
    levels = table.index.get_level_values
    chosen = (levels("network") == network) & (levels("columns") == columns) & (levels("arm") == arm)
    return table[chosen].droplevel(["network", "columns", "arm"])


def _cell(mean: float, std: float) -> str:
    # What has no part in chance, as a free run, differs between seeds by rounding at most.
    return f"{mean:.4g}" if np.isnan(std) or std < 1e-12 * abs(mean) else f"{mean:.4g} ± {std:.2g}"


def _difference(by_seed: pd.Series) -> str:
    if not len(by_seed):
        return "–"
    mean, std = spread(100 * by_seed)
    if np.isnan(std):
        return f"{mean:+.1f}"
    text = f"{mean:+.1f} ± {std:.1f}"
    return f"**{text}**" if abs(mean) > std else text
