"""Figures that compare samples of background errors, one for each quantity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vaevar.verification.background_errors.tables import Sources, reference_of

AROUND_DEGREES = (60.0, 30.0)  # half width and half height of a correlation map


def std_figure(sources: Sources) -> Figure:
    """Std by channel and latitude: the first source relative to its global std, the others to the first."""
    name, reference = reference_of(sources)
    spec, latitude = reference.spec, reference.grid.latitude
    figure = Figure(figsize=(4.2 * len(sources), 0.12 * len(spec) + 1.8), layout="constrained")
    for axis, (label, moments) in zip(
        figure.subplots(1, len(sources), squeeze=False)[0], sources.items(), strict=True
    ):
        below = reference.global_std[:, None] if label == name else reference.std
        ratio = (moments.std / below).log2().numpy()
        image = axis.pcolormesh(
            latitude, np.arange(len(spec)), ratio, cmap="RdBu_r", vmin=-1.5, vmax=1.5, shading="nearest"
        )
        axis.invert_yaxis()
        axis.set_yticks(np.arange(len(spec)), spec.names, fontsize=5)
        axis.set_xlabel("latitude")
        axis.set_title(f"{label} / {'its std on the sphere' if label == name else name}", fontsize=9)
        figure.colorbar(image, ax=axis, label="log2 of the ratio of standard deviations")
    return figure


def length_figure(sources: Sources) -> Figure:
    """Correlation length by level, a panel per variable."""
    _, reference = reference_of(sources)
    spec = reference.spec
    figure = Figure(figsize=(2.8 * max(len(spec.upper), 1), 4.0), layout="constrained")
    for axis, variable in zip(
        figure.subplots(1, max(len(spec.upper), 1), squeeze=False)[0], spec.upper, strict=False
    ):
        for label, moments in sources.items():
            lengths = moments.length_km[spec.variable_slice(variable)].numpy()
            axis.plot(lengths, spec.levels, ".-", label=label)
        axis.set_yscale("log")
        axis.set_yticks(spec.levels, [str(level) for level in spec.levels], fontsize=7)
        axis.minorticks_off()
        axis.invert_yaxis()
        axis.set_xlim(left=0)
        axis.set_title(variable)
        axis.set_xlabel("correlation length (km)")
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("hPa")
    figure.axes[0].legend(fontsize=7)
    return figure


def vertical_figure(sources: Sources, variables: Sequence[str]) -> Figure:
    """Correlations between levels: a row per source, a column per variable."""
    _, reference = reference_of(sources)
    levels = [str(level) for level in reference.spec.levels]
    size = (2.9 * len(variables), 2.7 * len(sources))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(sources), len(variables), squeeze=False)
    for row, (label, moments) in zip(panels, sources.items(), strict=True):
        for axis, variable in zip(row, variables, strict=True):
            correlation = moments.vertical_correlation(variable).numpy()
            image = axis.imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1)
            axis.set_xticks(range(len(levels)), levels, fontsize=5, rotation=90)
            axis.set_yticks(range(len(levels)), levels, fontsize=5)
            axis.set_title(f"{label}: {variable}", fontsize=9)
    figure.colorbar(image, ax=panels.ravel().tolist(), shrink=0.6, label="correlation")
    return figure


def cross_figure(sources: Sources, place: int) -> Figure:
    """Correlation maps around a point: a row per source, a column per channel.

    Args:
        sources: see :mod:`vaevar.verification.background_errors.tables`.
        place: number of the point, in ``around``.
    """
    _, reference = reference_of(sources)
    base, latitude = reference.around[place]
    names, (half_width, half_height) = reference.among, AROUND_DEGREES
    grid = reference.grid
    # Columns are eastward distances; reorder them from west to east of the base.
    distance = (grid.longitude - grid.longitude[0] + 180.0) % 360.0 - 180.0
    order = np.argsort(distance)
    figure = Figure(figsize=(3.6 * len(names) + 0.8, 2.3 * len(sources) + 0.4), layout="constrained")
    panels = figure.subplots(len(sources), len(names), squeeze=False, sharex=True, sharey=True)
    for row, (label, moments) in zip(panels, sources.items(), strict=True):
        for axis, name, field in zip(row, names, moments.cross_correlation[place].numpy(), strict=True):
            image = axis.contourf(
                distance[order], grid.latitude, field[:, order], levels=np.linspace(-1, 1, 21), cmap="RdBu_r"
            )
            axis.plot(0, latitude, "k+")
            axis.set_xlim(-half_width, half_width)
            axis.set_ylim(max(latitude - half_height, -88), min(latitude + half_height, 88))
            axis.set_title(f"{label}: {name}", fontsize=9)
    figure.colorbar(image, ax=panels.ravel().tolist(), shrink=0.6, label=f"correlation with {base} at +")
    return figure


def spectrum_figure(sources: Sources, channels: Sequence[str]) -> Figure:
    """Power by total wavenumber, a panel per channel."""
    _, reference = reference_of(sources)
    shown = [name for name in channels if reference.spec.has(name)] or [reference.spec.names[0]]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.9 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, name in zip(panels, shown, strict=False):
        channel = reference.spec.channels[reference.spec.index(name)]
        for label, moments in sources.items():
            power = moments.spectrum[reference.spec.index(name), 1:].numpy()
            axis.loglog(np.arange(1, power.size + 1), power, label=label)
        axis.set_title(f"{name} (({channel.units})²)", fontsize=9)
        axis.set_xlabel("total wavenumber")
        # B has no power beyond its truncation: cut off what is far below everything else.
        top = float(reference.spectrum[reference.spec.index(name), 1:].max())
        axis.set_ylim(top * 1e-6, top * 3)
        axis.grid(alpha=0.3)
    for axis in panels[len(shown) :]:
        axis.set_axis_off()
    panels[0].legend(fontsize=7)
    return figure
