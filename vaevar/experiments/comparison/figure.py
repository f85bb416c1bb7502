"""The figure of a comparison: error against the size of the network, and against the forecast's lead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

from vaevar.experiments.comparison.record import MEAN


def comparison_figure(table: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """A panel for each kind of network, one line per arm, and a panel of forecast error by lead.

    Error bars are the spread (std) over seeds. The last panel shows the network closest to 250 columns, the
    fixed one if there are two.

    Args:
        table: of :func:`vaevar.experiments.comparison.table.wide`.
        arms: in the order of the legend.
    """
    networks = sorted(set(table.index.get_level_values("network")))
    sizes = sorted(set(table.index.get_level_values("columns")))
    figure = Figure(figsize=(4.6 * (len(networks) + 1), 4.6), layout="constrained")
    axes = figure.subplots(1, len(networks) + 1)
    for axis in axes[1:-1]:
        axis.sharey(axes[0])
    for axis, network in zip(axes[:-1], networks, strict=True):
        axis.set_xlim(min(sizes) / 1.15, max(sizes) * 1.15)
        by_size = table.xs(network, level="network")["analysis", MEAN].dropna()
        for number, arm in enumerate(arms):
            _line(axis, by_size.groupby(["arm", "columns"]), number, arm)
        axis.set(xscale="log", yscale="log", xlabel="observed columns", title=f"{network} networks")
        axis.xaxis.set_major_locator(FixedLocator([float(size) for size in sizes]))
        axis.xaxis.set_minor_formatter(NullFormatter())
        for ruler in (axis.xaxis, axis.yaxis):
            ruler.set_major_formatter(ScalarFormatter())
        axis.yaxis.set_minor_formatter(ScalarFormatter())
    axes[0].set_ylabel("analysis rmse / std, mean over channels")
    axes[0].legend()
    _forecasts(axes[-1], table, arms)
    return figure


def _forecasts(axis: Axes, table: pd.DataFrame, arms: Sequence[str]) -> None:
    places = {(network, columns) for network, columns, *_ in table.index}
    network, columns = min(places, key=lambda place: (abs(np.log(place[1] / 250)), place[0]))
    errors = table.xs((network, columns), level=("network", "columns"))
    leads = {0: "analysis"}
    for quantity, channel in table:
        if quantity.startswith("forecast_") and channel == MEAN:
            leads[int(quantity.removeprefix("forecast_").removesuffix("h"))] = quantity
    series = pd.concat({lead: errors[name, MEAN] for lead, name in sorted(leads.items())}, names=["lead"])
    for number, arm in enumerate(arms):
        _line(axis, series.dropna().groupby(["arm", "lead"]), number, arm)
    axis.set(
        xlabel="hours from the analysis", ylabel="rmse / std", title=f"forecasts, {columns} {network} columns"
    )
    axis.set_xticks(sorted(leads))
    axis.set_ylim(bottom=0)


def _line(axis: Axes, groups: pd.api.typing.SeriesGroupBy, number: int, arm: str) -> None:
    """Mean over seeds of one arm, with bars where there are several seeds."""
    mean, std = groups.mean(), groups.std(ddof=1)
    if arm not in mean.index.get_level_values("arm"):
        return
    values, bars = mean.xs(arm, level="arm"), std.xs(arm, level="arm").fillna(0.0)
    axis.errorbar(
        values.index.to_numpy(float), values.to_numpy(), bars.to_numpy(), label=arm, marker="o", markersize=4,
        capsize=3, color=f"C{number}",
    )  # fmt: skip
