"""Tables of a comparison: mean over seeds ± spread over seeds, and differences paired by seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vaevar.experiments.comparison.record import MEAN, NETWORKS
from vaevar.verification.scores import HEADLINE_CHANNELS
from vaevar.verification.tables import to_markdown

REFERENCES = ("threedvar", "diffda")
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


def differences(table: pd.DataFrame, arms: Sequence[str], reference: str) -> pd.DataFrame:
    """Relative differences of all arms to one, in per cent; bold where they exceed the spread over seeds.

    Args:
        table: from :func:`wide`.
        arms: in the order of the rows.
        reference: the arm that the others are compared with.
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
            for title, quantity in DIFFERENCES.items():
                by_seed = relative_differences(table, network, columns, arm, reference, quantity)
                row[title] = _difference(by_seed)
            if any(row[title] != "–" for title in DIFFERENCES):
                rows.append(row)
    return pd.DataFrame(rows)


def report(table: pd.DataFrame, arms: Sequence[str], note: str) -> str:
    """The text of ``comparison.md``.

    Args:
        table: from :func:`wide`.
        arms: in the order of the rows.
        note: the text above the tables.
    """
    channels = [name for name in HEADLINE_CHANNELS if ("analysis", name) in table]

    def rmse(quantity: str) -> dict[str, Quantity]:
        return {"rmse / std": (quantity, MEAN)} | {name: (quantity, name) for name in channels}

    days = {"24": "day 1", "72": "day 3", "120": "day 5"}
    hours = {name.removeprefix("forecast_").removesuffix("h") for name, _ in table if "forecast_" in name}
    leads = sorted(hours, key=int)
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
    for reference in REFERENCES:
        if reference in present and len(present) > 1:
            parts += [f"## Differences to {reference}, %", to_markdown(differences(table, arms, reference))]
    return "\n\n".join(parts) + "\n"


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
    return f"{mean:.4g}" if np.isnan(std) else f"{mean:.4g} ± {std:.2g}"


def _difference(by_seed: pd.Series) -> str:
    if not len(by_seed):
        return "–"
    mean, std = spread(100 * by_seed)
    if np.isnan(std):
        return f"{mean:+.1f}"
    text = f"{mean:+.1f} ± {std:.1f}"
    return f"**{text}**" if abs(mean) > std else text
