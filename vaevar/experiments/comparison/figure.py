"""The figure of a comparison: errors against those of one arm, by size of the network and by lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, PercentFormatter, ScalarFormatter

from vaevar.experiments.comparison.record import MEAN
from vaevar.experiments.comparison.table import REFERENCE_OF_WINDOWS, lead_hours, with_one_time
from vaevar.verification.page.figures import COLOURS

_LARGEST, _MARGIN = 60.0, 3.0  # per cent: a free run is off the scale


def comparison_figure(
    table: pd.DataFrame, arms: Sequence[str], windows: Mapping[str, int] | None = None
) -> Figure:
    """A panel for each kind of network, one line per arm, and a panel of forecasts by lead.

    Differences to 3DVar with a cycle's B, or to the first arm where that is none of them, in per cent, seed
    by seed; error bars are their spread (std) over seeds. Of a method of several times the last time of each
    window counts, which has seen no later observation; the mean over its windows, which has, is dotted. The
    last panel shows the network closest to 250 columns, the fixed one if there are two.

    Args:
        table: of :func:`vaevar.experiments.comparison.table.wide`.
        arms: in the order of the legend.
        windows: numbers of times that arms hand out together, by name; they are compared at the same times.
    """
    reference = REFERENCE_OF_WINDOWS if REFERENCE_OF_WINDOWS in arms else arms[0]
    networks = sorted(set(table.index.get_level_values("network")))
    sizes = sorted(set(table.index.get_level_values("columns")))
    figure = Figure(figsize=(4.6 * (len(networks) + 1), 5.2), layout="constrained")
    axes = figure.subplots(1, len(networks) + 1, sharey=True)
    differences = _differences(table, "analysis_last", reference, windows or {})
    of_windows = _differences(table, "analysis_window", reference, windows or {})
    with_windows = [arm for arm in of_windows if not of_windows[arm].equals(differences[arm])]
    for axis, network in zip(axes[:-1], networks, strict=True):
        axis.set_xlim(min(sizes) / 1.15, max(sizes) * 1.15)
        _lines(axis, differences.xs(network, level="network"), "columns", arms)
        _lines(axis, of_windows[with_windows].xs(network, level="network"), "columns", arms, of_windows=True)
        axis.set(xscale="log", xlabel="observed columns", title=f"analyses, {network} networks")
        axis.xaxis.set_major_locator(FixedLocator([float(size) for size in sizes]))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_major_formatter(ScalarFormatter())
    axes[0].yaxis.set_major_formatter(PercentFormatter(decimals=0))
    axes[0].set_ylabel(f"rmse / std, mean over channels, against {reference}")
    _forecasts(axes[-1], table, reference, arms, windows or {})
    values = pd.concat([differences, of_windows]).to_numpy()
    shown = values[np.isfinite(values) & (values <= _LARGEST)]
    if shown.size:
        axes[0].set_ylim(shown.min() - _MARGIN, shown.max() + _MARGIN)
    for axis in axes:
        axis.grid(alpha=0.3)
    named = (zip(*axis.get_legend_handles_labels(), strict=True) for axis in axes)
    handles = {label: line for pairs in named for line, label in pairs}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6)
    return figure


def _differences(
    table: pd.DataFrame, quantity: str, reference: str, windows: Mapping[str, int]
) -> pd.DataFrame:
    """In per cent to one arm, a column per arm; nothing where that arm is not there."""
    by_arm = {
        length: with_one_time(table, length)[quantity, MEAN].unstack("arm")
        for length in {1, *windows.values()}
    }
    if reference not in by_arm[1]:
        return by_arm[1].iloc[:, :0]
    columns = {
        arm: by_arm[length][arm] / by_arm[length][reference]
        for arm in by_arm[1]
        for length in [windows.get(str(arm), 1)]
    }
    return 100 * (pd.DataFrame(columns) - 1).rename_axis(columns="arm")


def _forecasts(
    axis: Axes, table: pd.DataFrame, reference: str, arms: Sequence[str], windows: Mapping[str, int]
) -> None:
    places = {(network, columns) for network, columns, *_ in table.index}
    network, columns = min(places, key=lambda place: (abs(np.log(place[1] / 250)), place[0]))
    errors = table.xs((network, columns), level=("network", "columns"))
    leads = {0: "analysis_last"} | {lead: f"forecast_{lead}h" for lead in lead_hours(table)}
    parts = {lead: _differences(errors, name, reference, windows) for lead, name in sorted(leads.items())}
    _lines(axis, pd.concat(parts, names=["lead"]), "lead", arms)
    axis.set(xlabel="hours from the analysis", title=f"forecasts, {columns} {network} columns")
    axis.set_xticks(sorted(leads))


def _lines(
    axis: Axes, differences: pd.DataFrame, level: str, arms: Sequence[str], of_windows: bool = False
) -> None:
    """The mean over seeds of each arm, with error bars where there are several seeds."""
    for number, arm in enumerate(arms):
        if arm not in differences or differences[arm].dropna().empty:
            continue
        groups = differences[arm].dropna().groupby(level)
        mean, std = groups.mean(), groups.std(ddof=1).fillna(0.0)
        look: dict[str, Any] = {"linestyle": "-" if number < len(COLOURS) else "--", "label": arm}
        if of_windows:
            look = {"linestyle": ":", "markerfacecolor": "white", "label": f"{arm}, mean of the window"}
        axis.errorbar(
            mean.index.to_numpy(float), mean.to_numpy(), std.to_numpy(), marker="osD^v"[number % 5],
            markersize=4, capsize=3, color=COLOURS[number % len(COLOURS)], **look,
        )  # fmt: skip
