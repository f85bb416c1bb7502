"""A figure of lines of which a reader chooses variable and level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaevar.state import StateSpec
from vaevar.verification.page.figures import (
    Arms,
    Figure,
    Trace,
    axis,
    buttons,
    heading,
    layout,
    packed,
    slider,
)
from vaevar.verification.page.ticks import scales, ticks
from vaevar.verification.page.units import units_of

# Shown first, where a state has it.
_LEVEL = 500
_ALL = "all"
_PLURALS = {"analysis": "analyses", "background": "backgrounds", "both": "both"}
_CHOICES = 248  # width of the buttons for analyses and backgrounds, in pixels
_TOP, _BOTTOM, _PANEL, _GAP = 138, 130, 270, 60  # pixels


@dataclass(frozen=True)
class Line:
    """A line for each channel.

    Attributes:
        arm: its label.
        quantity: ``analysis``, ``background`` or ``forecast``; empty where there is one alone.
        panel: number of the panel, from the top.
        x: ``x``, or ``x0`` and ``dx``, of Plotly's traces.
        values: [X, C], in the units of figures; None where only means are shown.
        mean: [X], over all channels of values / climatological std, if that is known.
    """

    arm: str
    quantity: str
    panel: int
    x: dict[str, Any]
    values: np.ndarray | None
    mean: np.ndarray | None = None


def channel_figure(
    spec: StateSpec | None,
    lines: Sequence[Line],
    arms: Arms,
    panels: Sequence[str],
    x_axis: dict[str, Any],
    logarithmic: bool = True,
    title: Callable[[str], str] | None = None,
    powers: bool = False,
) -> Figure:
    """Lines by arm, with buttons for the variable and a slider for the level.

    Args:
        spec: the C channels; None for means alone.
        lines: of all arms.
        arms: their looks.
        panels: what each panel shows, from the top.
        x_axis: settings of the axis that the panels share.
        logarithmic: whether the first panel's axis is so at first.
        title: of the axes, from a variable or ``all``; None: the units, and those of the mean RMSE.
        powers: whether the first panel has numbers that read better as powers of ten.
    """
    title = title or _title
    means = any(line.mean is not None for line in lines)
    variables = () if spec is None else (*spec.upper, *spec.surface)
    levels = () if spec is None else spec.levels
    names = [*([_ALL] if means else []), *variables]
    first = levels.index(_LEVEL) if _LEVEL in levels else len(levels) // 2
    level = levels[first] if levels else None
    traces: list[Trace] = []
    for variable in names:
        for position, line in enumerate(lines):
            values = line.mean if variable == _ALL or spec is None else _values(spec, line, variable, level)
            if values is None:
                continue
            about = ", ".join(text for text in (line.arm, line.quantity) if text)
            own = {
                "y": packed(values),
                "yaxis": _name("y", line.panel),
                "visible": variable == names[0],
                "showlegend": line.panel == 0 and line.quantity != "background",
                "hovertemplate": f"%{{y:.4g}}<extra>{about}</extra>",
                "meta": [variable, position],
            }
            traces.append(arms.line(line.arm, line.quantity or "analysis", len(values)) | line.x | own)
    top, bottom = (_TOP if len(names) > 1 else _TOP - 42), (_BOTTOM if levels else _BOTTOM - 75)
    plot = len(panels) * (_PANEL + _GAP) - _GAP
    menus = _second_row(lines, traces, logarithmic, powers, 1 + 68 / plot)
    if len(names) > 1:
        menus.append(buttons([_choice(name, traces, title(name)) for name in names], 0.0, 1 + 110 / plot))
    share = _PANEL / plot
    axes: dict[str, Any] = {"xaxis": axis(**x_axis, domain=[0, 1], anchor=_name("y", len(panels) - 1))}
    notes = []
    for number, panel in enumerate(panels):
        highest = 1 - number * (_PANEL + _GAP) / plot
        kind = "log" if logarithmic and number == 0 else "linear"
        key = _name("yaxis", number)
        axes[key] = axis("", domain=[max(0.0, highest - share), highest], anchor="x", **ticks(kind, powers))
        axes[key]["title"]["text"] = title(names[0])
        notes.append(heading(f"<b>{panel}</b>", 0.0, highest + 4 / plot))
    settings = axes | {
        "updatemenus": menus,
        "annotations": notes,
        "hovermode": "x unified" if len(lines) <= 40 else "closest",
        "margin": {"l": 80, "r": 20, "t": top, "b": bottom},
    }
    frames = []
    if spec is not None and levels:
        frames = [_frame(spec, lines, traces, one) for one in levels]
        settings["sliders"] = [slider([f"{one} hPa" for one in levels], "Level: ", -62 / plot, first)]
    return {"data": traces, "layout": layout(plot + top + bottom, **settings), "frames": frames}


def _values(spec: StateSpec, line: Line, variable: str, level: int | None) -> np.ndarray | None:
    if line.values is None:
        return None
    channels = [channel for channel in spec.channels if channel.variable == variable]
    chosen = next((one for one in channels if one.level == level), channels[0])
    return line.values[:, spec.index(chosen.name)]


def _frame(spec: StateSpec, lines: Sequence[Line], traces: Sequence[Trace], level: int) -> dict[str, Any]:
    """What the slider changes: the lines of all variables in the upper air, shown or not."""
    changed = [number for number, trace in enumerate(traces) if trace["meta"][0] in spec.upper]
    data = []
    for number in changed:
        variable, line = traces[number]["meta"]
        values = _values(spec, lines[line], variable, level)
        data.append({} if values is None else {"y": packed(values)})
    return {"name": f"{level} hPa", "data": data, "traces": changed}


def _choice(variable: str, traces: Sequence[Trace], title: str) -> Trace:
    shown = [trace["meta"][0] == variable for trace in traces]
    axes = dict.fromkeys(trace["yaxis"].replace("y", "yaxis") for trace in traces)
    titles = {f"{name}.title.text": title for name in axes}
    label = "all channels" if variable == _ALL else variable
    return {"label": label, "method": "update", "args": [{"visible": shown}, titles]}


def _second_row(
    lines: Sequence[Line], traces: Sequence[Trace], logarithmic: bool, powers: bool, y: float
) -> list[dict[str, Any]]:
    """Buttons for what is shown of each arm, and for the axis."""
    kinds = list(dict.fromkeys(line.quantity for line in lines))
    choices = [*kinds, "both"] if len(kinds) == 2 else []
    rows = []
    if choices:
        entries: list[Trace] = []
        for kind in choices:
            shown = [kind in ("both", lines[trace["meta"][1]].quantity) for trace in traces]
            change = {
                "opacity": [1.0 if one else 0.0 for one in shown],
                "hoverinfo": ["all" if one else "skip" for one in shown],
            }
            entries.append({"label": _PLURALS[kind], "method": "restyle", "args": [change]})
        rows.append(buttons(entries, 0.0, y, active=2))
    kind = "log" if logarithmic else "linear"
    rows.append(scales(kind, 0.0, y, powers, after=_CHOICES if choices else 0))
    return rows


def _title(variable: str) -> str:
    return "rmse / std" if variable == _ALL else f"{variable}, {units_of(variable).text}"


def _name(axis: str, number: int) -> str:
    return axis if number == 0 else f"{axis}{number + 1}"
