"""Maps of a fit: what a model has made beside what it should be, by variable and sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vaevar.models.held_out.views import Maps
from vaevar.state import StateSpec
from vaevar.verification.page.figures import (
    Figure,
    Trace,
    buttons,
    heading,
    layout,
    packed,
    slider,
)
from vaevar.verification.page.maps import BLANK, Scale, axis_name, coast, heatmap
from vaevar.verification.page.units import units_of_channels

_TOP, _ROW, _GAP, _BOTTOM = 110, 190, 30, 84  # pixels
_PER_ROW = 3


def map_figure(spec: StateSpec, maps: Maps) -> Figure:
    """A panel for each field, with buttons for the variable and a slider for the group.

    Args:
        spec: of the state, for units.
        maps: the fields.
    """
    names = list(maps.panels)
    across = min(_PER_ROW, len(names))
    rows = math.ceil(len(names) / across)
    plot = rows * (_ROW + _GAP)
    kinds = [name in maps.about_zero for name in names]
    traces: list[Trace] = []
    moving: list[list[dict[str, dict[str, str]]]] = []
    for position, channel in enumerate(maps.channels):
        units = units_of_channels(spec)[channel]
        scales = {kind: _scale(maps, position, kind) for kind in set(kinds)}
        for number, (name, kind) in enumerate(zip(names, kinds, strict=True)):
            trace, values = heatmap(list(maps.panels[name][:, position]), scales[kind], units)
            first = kinds.index(kind) == number
            trace["colorbar"] |= _bar(sorted(set(kinds)).index(kind), len(set(kinds)), plot) | {
                "title": {"text": f"{units.text}, {_of(kind, kinds)}", "side": "bottom"}
            }
            places = {"x": packed(maps.grid.longitude), "y": packed(maps.grid.latitude), "zsmooth": False}
            axes = {"xaxis": axis_name("x", number), "yaxis": axis_name("y", number)}
            traces.append(
                places | trace | axes | {"visible": position == 0, "showscale": first, "meta": channel}
            )
            moving.append([{"z": value} for value in values])
    frames = [
        {
            "name": frame,
            "data": [values[index] for values in moving],
            "traces": list(range(len(traces))),
        }
        for index, frame in enumerate(maps.frames)
    ]
    choices = [
        {
            "label": channel, "method": "restyle",
            "args": [{"visible": [trace["meta"] == channel for trace in traces]}],
        }
        for channel in maps.channels
    ]  # fmt: skip
    settings = _axes(names, across, plot) | {
        "updatemenus": [buttons(choices, 0.0, 1 + 104 / plot)],
        "sliders": [slider(list(maps.frames), "", 1 + 66 / plot)] if len(maps.frames) > 1 else [],
        "images": [coast(number) for number in range(len(names))],
        "showlegend": False,
        "margin": {"l": 30, "r": 40, "t": _TOP, "b": _BOTTOM},
    }
    return {"data": traces, "layout": layout(plot + _TOP + _BOTTOM, **settings), "frames": frames}


def _of(kind: bool, kinds: Sequence[bool]) -> str:
    """Which panels a colour bar is of."""
    return "all maps" if len(set(kinds)) == 1 else "differences" if kind else "states"


def _scale(maps: Maps, position: int, kind: bool) -> Scale:
    """One scale for all panels of a kind."""
    fields = [
        values[:, position] for name, values in maps.panels.items() if (name in maps.about_zero) == kind
    ]
    if kind:
        return Scale.about_zero(float(np.quantile(np.abs(np.stack(fields)), 0.998)))
    low, high = np.quantile(np.stack(fields), [0.002, 0.998])
    return Scale(float(low), float(high) if high > low else float(low) + 1.0)


def _bar(number: int, count: int, plot: int) -> dict[str, object]:
    """A bar below the maps; two of them side by side."""
    return {
        "orientation": "h", "x": number * 0.5, "xanchor": "left", "len": 0.9 if count == 1 else 0.45,
        "y": -8 / plot, "yanchor": "top",
    }  # fmt: skip


def _axes(names: Sequence[str], across: int, plot: int) -> dict[str, object]:
    axes: dict[str, object] = {}
    notes = []
    width = 1 / across
    for number, name in enumerate(names):
        row, column = divmod(number, across)
        top = 1 - (row * (_ROW + _GAP) + _GAP) / plot
        domain = [column * width, (column + 1) * width - 0.014 * (column + 1 < across)]
        axes[axis_name("xaxis", number)] = BLANK | {
            "domain": domain, "range": [0, 360], "anchor": axis_name("y", number),
            "matches": "x" if number else None,
        }  # fmt: skip
        axes[axis_name("yaxis", number)] = BLANK | {
            "domain": [max(0.0, top - _ROW / plot), top], "range": [-90, 90],
            "anchor": axis_name("x", number), "matches": "y" if number else None,
        }  # fmt: skip
        notes.append(heading(f"<b>{name}</b>", domain[0], top + 3 / plot))
    return axes | {"annotations": notes}
