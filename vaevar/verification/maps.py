"""Maps: one analysis in four panels, and the errors of all arms side by side."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import torch.distributed
from matplotlib.figure import Figure

from vaevar.assim.cycle.faults import ArmResult
from vaevar.data.analysis_times import AnalysisTime
from vaevar.sphere.coastlines import coastline_gaps
from vaevar.sphere.grid import Grid

T = TypeVar("T")


def error_maps(channel: str, time: AnalysisTime, errors: dict[str, np.ndarray]) -> Figure:
    """Analysis minus truth of every arm on one colour scale, with observed columns as dots.

    Args:
        channel: name of the field.
        time: truth and observations of the analyses.
        errors: [H, W] by arm, physical units.
    """
    grid = time.truth.grid
    # The scale of the median arm: with that of a free run, the other arms would look pale.
    largest = float(np.median([np.quantile(np.abs(error), 0.998) for error in errors.values()])) or 1.0
    columns = 2 if len(errors) == 4 else min(3, len(errors))
    rows = math.ceil(len(errors) / columns)
    figure = Figure(figsize=(5 * columns, 2.7 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    weights = grid.area_weights.numpy()[:, None]
    for axis in axes.flat[len(errors) :]:
        axis.set_axis_off()
    for axis, (name, error) in zip(axes.flat, errors.items(), strict=False):
        rmse = math.sqrt(float((error.astype(np.float64) ** 2 * weights).mean()))
        limits = {"vmin": -largest, "vmax": largest}
        image = draw_field(axis, error, grid, f"{name}: rmse {rmse:.3g}", "RdBu_r", **limits)
        axis.plot(time.observations.longitude, time.observations.latitude, "k.", markersize=1)
    units = time.truth.spec.channels[time.truth.spec.index(channel)].units
    figure.colorbar(image, ax=axes, shrink=0.8, extend="both", label=units)
    figure.suptitle(f"{channel}, analysis − truth at {time.time.astype('datetime64[h]')}")
    return figure


def draw_map(axis: Any, values: np.ndarray, grid: Grid, title: str, colours: str, **limits: float) -> None:
    """Draw a field [H, W] on a latitude × longitude map, with a colour bar."""
    axis.figure.colorbar(draw_field(axis, values, grid, title, colours, **limits), ax=axis, shrink=0.8)


def draw_field(axis: Any, values: np.ndarray, grid: Grid, title: str, colours: str, **limits: float) -> Any:
    """The same without a colour bar, with coastlines; returns the image to make a colour bar for."""
    image = axis.pcolormesh(grid.longitude, grid.latitude, values, cmap=colours, shading="nearest", **limits)
    axis.plot(*coastline_gaps().T, color="0.25", linewidth=0.5)
    axis.set_title(title)
    axis.set_xlim(0, 360)
    axis.set_ylim(-90, 90)
    return image


def gather(values: dict[str, T]) -> dict[str, T]:
    """What is known of the arms of all ranks, by arm: a collective operation, which every rank must call."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, values)
    return {name: value for part in parts for name, value in part.items()}


def analysis_maps(channel: str, time: AnalysisTime, result: ArmResult) -> Figure:
    """Truth, background error, increment (with observed columns dotted) and analysis error of a channel."""
    fields = {
        "truth": time.truth.channel(channel),
        "background − truth": result.background.channel(channel) - time.truth.channel(channel),
        "increment": result.analysis.state.channel(channel) - result.background.channel(channel),
        "analysis − truth": result.analysis.state.channel(channel) - time.truth.channel(channel),
    }
    largest = float(fields["background − truth"].abs().max()) or 1.0
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    axes = figure.subplots(2, 2)
    for axis, (title, field) in zip(axes.flat, fields.items(), strict=True):
        values = field.cpu().numpy()
        limits = {} if title == "truth" else {"vmin": -largest, "vmax": largest}
        colours = "viridis" if title == "truth" else "RdBu_r"
        draw_map(axis, values, time.truth.grid, title, colours, **limits)
        if title == "increment":
            axis.plot(time.observations.longitude, time.observations.latitude, "k.", markersize=1)
    figure.suptitle(f"{channel} at {time.time.astype('datetime64[h]')}")
    return figure
