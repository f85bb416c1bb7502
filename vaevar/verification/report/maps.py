"""Maps of a report: truth, background error, increment and analysis error, by variable and time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaevar.verification.page.figures import (
    INK,
    Figure,
    Trace,
    buttons,
    heading,
    layout,
    packed,
    slider,
)
from vaevar.verification.page.maps import BLANK, Scale, axis_name, coast, heatmap
from vaevar.verification.page.units import Units
from vaevar.verification.report.run import ReportedRun
from vaevar.verification.report.states import QUANTITIES, MapTime, Sample

SHOWN = ("background error", "increment", "analysis error")
_TITLES = ("background − truth", "increment: analysis − background", "analysis − truth")
_PLACES = 500
_TOP, _ROW, _GAP = 46, 172, 26  # pixels


@dataclass(frozen=True)
class Limits:
    """The colours of a channel, the same for all runs of a report."""

    truth: Scale
    error: Scale


def limits_of(samples: Sequence[Sample]) -> dict[str, Limits]:
    """The colours by channel. Errors have those of the median arm: with a free run's, others look pale."""
    found = {}
    for name in dict.fromkeys(name for sample in samples for name in sample.channels):
        truths, errors = [], []
        for sample in samples:
            if name not in sample.channels:
                continue
            index = sample.channels.index(name)
            truths += [now.truth[index] for now in sample.maps]
            for arm in dict.fromkeys(arm for now in sample.maps for arm in now.arms):
                of_arm = [np.abs(now.arms[arm][1:, index]) for now in sample.maps if arm in now.arms]
                errors.append(np.quantile(np.stack(of_arm), 0.998))
        low, high = np.quantile(np.stack(truths), [0.002, 0.998])
        found[name] = Limits(Scale(float(low), float(high)), Scale.about_zero(float(np.median(errors))))
    return found


def map_figure(
    run: ReportedRun, sample: Sample, units: dict[str, Units], limits: dict[str, Limits]
) -> Figure:
    """The maps of one run, with buttons for the variable and a slider for the time.

    Args:
        run: whose arms they are.
        sample: of its states.
        units: by channel.
        limits: by channel.
    """
    arms = list(dict.fromkeys(arm for now in sample.maps for arm in now.arms))
    plot = (_ROW + _GAP) * (1 + len(arms))
    panels = [(row, column) for row in range(1 + len(arms)) for column in range(3) if row or not column]
    traces: list[Trace] = []
    # What the slider changes: of each trace its key and, at each time, its value.
    moving: list[tuple[int, list[Trace]]] = []
    for position, name in enumerate(sample.channels):
        for number, (row, column) in enumerate(panels):
            fields = [_field(now, arms[row - 1] if row else "", column, position) for now in sample.maps]
            trace, values = _heatmap(fields, limits[name], units[name], row == 0, plot)
            axes = {"xaxis": axis_name("x", number), "yaxis": axis_name("y", number)}
            own = {"visible": position == 0, "showscale": number in (0, 1), "meta": name}
            moving.append((len(traces), [{"z": value} for value in values]))
            traces.append(_around(sample) | trace | axes | own)
            if row and column != 1:
                texts = [_rmse(run, arms[row - 1], now, name, column, units[name]) for now in sample.maps]
                moving.append((len(traces), [{"text": [text]} for text in texts]))
                traces.append(_text(texts[0]) | axes | {"visible": position == 0, "meta": name})
    for number, (row, column) in enumerate(panels):
        if not row or column == 1:
            points = [_places(now) for now in sample.maps]
            moving.append((len(traces), points))
            axes = {"xaxis": axis_name("x", number), "yaxis": axis_name("y", number)}
            traces.append(_dots() | points[0] | axes)
    names = [f"{now.time.item():%-d %b %H} UTC" for now in sample.maps]
    frames = [
        {
            "name": name,
            "data": [values[index] for _, values in moving],
            "traces": [number for number, _ in moving],
        }
        for index, name in enumerate(names)
    ]
    menus = [
        buttons(
            [
                {"label": name, "method": "restyle", "args": [{"visible": _shown(traces, name)}]}
                for name in sample.channels
            ],
            0.0,
            1 + 40 / plot,
        )
    ]
    settings = _axes(panels, plot) | {
        "updatemenus": menus,
        "sliders": [slider(names, "", 1 - _GAP / plot, x=0.47)],  # beside the truth
        "annotations": _headings(panels, [run.label(arm) for arm in arms], plot),
        "images": [coast(number) for number in range(len(panels))],
        "showlegend": False,
        "margin": {"l": 30, "r": 12, "t": _TOP, "b": 20},
    }
    return {"data": traces, "layout": layout(plot + _TOP + 20, **settings), "frames": frames}


def _field(now: MapTime, arm: str, column: int, channel: int) -> np.ndarray:
    """One field, [H, W]; without numbers at a time that an arm does not have."""
    if not arm:
        return now.truth[channel]
    if arm not in now.arms:
        return np.full_like(now.truth[channel], np.nan)
    return now.arms[arm][QUANTITIES.index(SHOWN[column]), channel]


def _heatmap(
    fields: Sequence[np.ndarray], limits: Limits, units: Units, is_truth: bool, plot: int
) -> tuple[Trace, list[dict[str, str]]]:
    """A map, and its values at each time."""
    trace, values = heatmap(fields, limits.truth if is_truth else limits.error, units)
    title = {"text": units.text, "side": "right" if is_truth else "bottom"}
    trace["colorbar"] |= _bar(is_truth, plot) | {"title": title}
    return trace, values


def _bar(is_truth: bool, plot: int) -> dict[str, Any]:
    if is_truth:
        top = 1 - _GAP / plot
        return {
            "x": 0.33, "y": top, "xanchor": "left", "yanchor": "top", "len": _ROW, "lenmode": "pixels",
        }  # fmt: skip
    return {
        "orientation": "h", "x": 1.0, "xanchor": "right", "len": 0.55, "y": 1 - (_GAP + 95) / plot,
        "yanchor": "top",
    }  # fmt: skip


def _around(sample: Sample) -> Trace:
    return {
        "x": packed(sample.grid.longitude),
        "y": packed(sample.grid.latitude),
        "zsmooth": False,
    }


def _text(text: str) -> Trace:
    return {
        "type": "scatter", "mode": "text", "x": [4], "y": [-79], "text": [text], "hoverinfo": "skip",
        "textposition": "middle right", "textfont": {"size": 11, "color": INK, "weight": "bold"},
    }  # fmt: skip


def _rmse(run: ReportedRun, arm: str, now: MapTime, channel: str, column: int, units: Units) -> str:
    """The RMSE of a map, from ``scores.csv``."""
    rows = run.scores
    chosen = rows[
        (rows["arm"] == run.label(arm))
        & (rows["time"] == now.time)
        & (rows["channel"] == channel)
        & (rows["quantity"] == ("background" if column == 0 else "analysis"))
    ]
    return f"rmse {units.factor * chosen['rmse'].iloc[0]:.3g}" if len(chosen) else ""


def _places(now: MapTime) -> Trace:
    step = max(1, math.ceil(now.longitude.size / _PLACES))
    return {"x": packed(now.longitude[::step]), "y": packed(now.latitude[::step])}


def _dots() -> Trace:
    return {
        "type": "scatter", "mode": "markers", "hoverinfo": "skip",
        "marker": {"size": 3, "color": INK, "opacity": 0.75},
    }  # fmt: skip


def _shown(traces: Sequence[Trace], name: str) -> list[bool]:
    return [trace.get("meta", name) == name for trace in traces]


def _axes(panels: Sequence[tuple[int, int]], plot: int) -> dict[str, Any]:
    axes: dict[str, Any] = {}
    for number, (row, column) in enumerate(panels):
        top = 1 - (row * (_ROW + _GAP) + _GAP) / plot
        axes[axis_name("xaxis", number)] = BLANK | {
            "domain": [column * 0.338, column * 0.338 + 0.324], "range": [0, 360],
            "anchor": axis_name("y", number), "matches": "x" if number else None,
        }  # fmt: skip
        axes[axis_name("yaxis", number)] = BLANK | {
            "domain": [max(0.0, top - _ROW / plot), top], "range": [-90, 90],
            "anchor": axis_name("x", number), "matches": "y" if number else None,
        }  # fmt: skip
    return axes


def _headings(panels: Sequence[tuple[int, int]], arms: Sequence[str], plot: int) -> list[dict[str, Any]]:
    notes = []
    for row, column in panels:
        text = (
            f"<b>{arms[row - 1]}</b>: {_TITLES[column]}" if row else "<b>truth</b>, with the observed places"
        )
        y = 1 - (row * (_ROW + _GAP) + _GAP - 3) / plot
        notes.append(heading(text, column * 0.338, y, font={"size": 12, "color": INK}))
    notes.append(heading("Errors and increments of all arms:", 1.0, 1 - (_GAP + 90) / plot, xanchor="right"))
    return notes
