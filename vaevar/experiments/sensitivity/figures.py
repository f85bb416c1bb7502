"""Figures of the sensitivity experiment."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vaevar.experiments.sensitivity.region import Region
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SHOWN = 0.998  # quantile at which a colour scale ends
COLOURS = "RdBu_r"


class Map:
    """A map with the region in the middle, so that neither edge cuts it.

    Args:
        grid: of the fields.
        region: to be drawn.
        around: degrees of longitude on either side of the region, and half as many of latitude. None: the
            whole sphere.
    """

    def __init__(self, grid: Grid, region: Region, around: float | None = None) -> None:
        middle = round(((region.west + region.width / 2 + 180) % 360 - 180) / 30) * 30.0
        self.grid, self.region, self._west = grid, region, middle - 180.0
        margin = 360.0 if around is None else around
        half = min(180.0, region.width / 2 + margin)
        self._across = (middle - half, middle + half)
        self._upright = (max(-90.0, region.south - margin / 2), min(90.0, region.north + margin / 2))
        self._order = np.argsort(self.shifted(grid.longitude))

    def shifted(self, longitude: np.ndarray) -> np.ndarray:
        """The same longitudes within the map."""
        return np.asarray((np.asarray(longitude) - self._west) % 360.0 + self._west)

    def frame(self, axis: Axes, title: str) -> None:
        """Axes, and the region as a box."""
        meridians = self._west + (60.0 if self._across[1] - self._across[0] > 240 else 30.0) * np.arange(13)
        axis.set_xticks(meridians, [_east(value) for value in meridians], fontsize=7)
        axis.set_yticks([-60, -30, 0, 30, 60], ["60S", "30S", "0", "30N", "60N"], fontsize=7)
        axis.set_xlim(*self._across)
        axis.set_ylim(*self._upright)
        axis.set_aspect(1.0)
        axis.grid(color="0.85", linewidth=0.4)
        axis.set_axisbelow(True)
        axis.set_title(title, fontsize=9)
        box, west = self.region, float(self.shifted(np.array(self.region.west)))
        corner, height = (west, box.south), box.north - box.south
        axis.add_patch(Rectangle(corner, box.width, height, fill=False, color="k", linewidth=1.4, zorder=5))

    def draw(self, axis: Axes, values: np.ndarray, title: str, colours: str, low: float, high: float) -> None:
        """A field [H, W] with a colour bar."""
        longitude = self.shifted(self.grid.longitude)[self._order]
        image = axis.pcolormesh(
            longitude,
            self.grid.latitude,
            values[:, self._order],
            cmap=colours,
            vmin=low,
            vmax=high,
            shading="nearest",
        )
        self.frame(axis, title)
        axis.figure.colorbar(image, ax=axis, shrink=0.75, aspect=18, extend="both" if low else "max")

    def contours(self, axis: Axes, values: np.ndarray) -> None:
        """Thin lines of a field [H, W], for where the weather is."""
        longitude = self.shifted(self.grid.longitude)[self._order]
        axis.contour(
            longitude,
            self.grid.latitude,
            values[:, self._order],
            levels=10,
            colors="0.45",
            linewidths=0.5,
        )


def sensitivity_figure(
    title: str,
    sensitivity: np.ndarray,
    perturbation: np.ndarray,
    weather: np.ndarray | None,
    channels: Sequence[str],
    spec: StateSpec,
    where: Map,
) -> Figure:
    """Maps of the gradient and of the most harmful analysis error, a row per channel; all channels on top.

    Args:
        title: of the figure.
        sensitivity: [C, H, W], dimensionless, of the last state.
        perturbation: [C, H, W], in climatological stds.
        weather: [H, W], drawn as contours.
        channels: to be shown.
        spec: of the C channels.
        where: the map.
    """
    figure = Figure(figsize=(13, 2.75 * (len(channels) + 1) + 0.6), layout="constrained")
    panels = figure.subplots(len(channels) + 1, 2, squeeze=False)
    names = ("σ ∂J_e/∂x per area", "correction of one std of the analysis error, in σ")
    for column, (name, fields) in enumerate(zip(names, (sensitivity, perturbation), strict=True)):
        size = np.sqrt((fields**2).mean(0))
        where.draw(panels[0, column], size, f"all channels (rms): {name}", "magma_r", 0.0, _end(size))
        for row, channel in enumerate(channels, 1):
            field = fields[spec.index(channel)]
            end = _end(np.abs(field))
            where.draw(panels[row, column], field, f"{channel}: {name}", COLOURS, -end, end)
    if weather is not None:
        for axis in panels.flat:
            where.contours(axis, weather)
    figure.suptitle(title)
    return figure


def impact_figure(title: str, impacts: pd.DataFrame, where: Map) -> Figure:
    """The total impact of each column on a map, and sums by variable, level and time.

    Args:
        title: of the figure.
        impacts: rows of ``impacts.csv`` of one forecast.
        where: the map.
    """
    times = impacts["time"].nunique()
    figure = Figure(figsize=(14, 9.5), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.6, 1]).flat
    axis = above.subplots()
    columns = impacts.groupby(["latitude", "longitude"], sort=False)["impact"].sum().reset_index()
    columns = columns.reindex(columns["impact"].abs().sort_values().index)  # the largest on top
    largest = float(columns["impact"].abs().max()) or 1.0
    where.frame(axis, f"total impact of each of {len(columns)} places (blue: the forecast became better)")
    points = axis.scatter(
        where.shifted(columns["longitude"].to_numpy()),
        columns["latitude"],
        c=columns["impact"],
        s=12 + 130 * np.sqrt(columns["impact"].abs() / largest),
        cmap=COLOURS,
        norm=SymLogNorm(largest / 100, vmin=-largest, vmax=largest),
        edgecolors="0.35",
        linewidths=0.4,
        zorder=4,
    )
    decades = 10.0 ** (math.floor(math.log10(largest)) - np.arange(2))
    ticks = [*-decades, 0.0, *decades[::-1]]
    bar = above.colorbar(points, ax=axis, shrink=0.8, label="δJ_e", ticks=ticks)
    bar.ax.set_yticklabels(f"{tick:.0e}" if tick else "0" for tick in ticks)
    panels = below.subplots(1, 3 if times > 1 else 2)
    _bars(panels[0], impacts, "variable", "by variable")
    upper = impacts[impacts["pressure"].notna()].sort_values("pressure")
    _bars(panels[1], upper.assign(pressure=upper["pressure"].map("{:g}".format)), "pressure", "by level, hPa")
    if times > 1:
        hours = impacts.sort_values("time")
        _bars(
            panels[2],
            hours.assign(time=hours["time"].str[5:13].str.replace("T", ", ") + " h"),
            "time",
            "by time",
        )
    figure.suptitle(title)
    return figure


def _bars(axis: Axes, impacts: pd.DataFrame, by: str, title: str) -> None:
    """Sums of the impact, with the per cent of observations that made the forecast better."""
    groups = impacts.groupby(by, sort=False)["impact"]
    sums, helpful = groups.sum(), groups.agg(lambda values: (values < 0).mean())
    rows = np.arange(len(sums))
    axis.barh(rows, sums, color=np.where(sums < 0, "#3b76af", "#c44e52"), height=0.7)
    axis.set_yticks(rows, [str(name) for name in sums.index], fontsize=8)
    axis.invert_yaxis()
    axis.axvline(0.0, color="k", linewidth=0.8)
    low, high = min(0.0, float(sums.min())), max(0.0, float(sums.max()))
    room = (high - low) * 0.16 or 1.0
    axis.set_xlim(low - (room if low < 0 else 0), high + (room if high > 0 or not low else room / 3))
    for row, (total, part) in enumerate(zip(sums, helpful, strict=True)):
        side = -1 if total < 0 else 1
        text, place = f"{100 * part:.0f} %", (total, row)
        axis.annotate(
            text,
            place,
            (3 * side, 0),
            textcoords="offset points",
            fontsize=7,
            va="center",
            ha="right" if side < 0 else "left",
        )
    axis.ticklabel_format(axis="x", scilimits=(-2, 2))
    axis.tick_params(axis="x", labelsize=8)
    axis.set_title(f"δJ_e {title} (and how many helped)", fontsize=9)


def _end(values: np.ndarray) -> float:
    """Where the colours of a field end, rounded to two digits."""
    end = float(np.quantile(values, SHOWN)) or float(values.max()) or 1.0
    digits = 1 - math.floor(math.log10(end))
    return round(end, digits) or end


def _east(longitude: float) -> str:
    east = (longitude + 180.0) % 360.0 - 180.0
    if east in (0.0, -180.0):
        return f"{abs(east):g}"
    return f"{abs(east):g}{'W' if east < 0 else 'E'}"
