"""Maps of a report: truth, background error, increment and analysis error, by variable and time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

import numpy as np
import plotly.colors

from vaevar.sphere.coastlines import coastlines
from vaevar.state.spec import VARIABLES, Channel
from vaevar.verification.report.figures import (
    INK,
    Figure,
    Trace,
    buttons,
    heading,
    layout,
    packed,
    slider,
    unit_text,
)
from vaevar.verification.report.run import ReportedRun
from vaevar.verification.report.states import QUANTITIES, MapTime, Sample

SHOWN = ("background error", "increment", "analysis error")
_TITLES = ("background − truth", "increment: analysis − background", "analysis − truth")
_TRUTH_COLOURS = plotly.colors.make_colorscale(plotly.colors.sequential.Cividis)
# ColorBrewer's, blue for negative.
_ERROR_COLOURS = plotly.colors.make_colorscale(plotly.colors.diverging.RdBu[::-1])
_LARGEST = 127  # of a signed byte
_PLACES = 500
_TOP, _ROW, _GAP = 72, 172, 26  # pixels


@dataclass(frozen=True)
class Limits:
    """The colours of a channel, the same for all runs of a report.

    Attributes:
        truth: lowest and highest value.
        error: largest absolute value.
    """

    truth: tuple[float, float]
    error: float


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
        found[name] = Limits((float(low), float(high)), float(np.median(errors)) or 1.0)
    return found


def map_figure(run: ReportedRun, sample: Sample, units: dict[str, str], limits: dict[str, Limits]) -> Figure:
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
            axes = {"xaxis": _name("x", number), "yaxis": _name("y", number)}
            own = {"visible": position == 0, "showscale": number in (0, 1), "meta": name}
            moving.append((len(traces), [{"z": value} for value in values]))
            traces.append(_around(sample) | trace | axes | own)
            if row and column != 1:
                texts = [_rmse(run, arms[row - 1], now, name, column) for now in sample.maps]
                moving.append((len(traces), [{"text": [text]} for text in texts]))
                traces.append(_text(texts[0]) | axes | {"visible": position == 0, "meta": name})
    for number, (row, column) in enumerate(panels):
        if not row or column == 1:
            points = [_places(now) for now in sample.maps]
            moving.append((len(traces), points))
            axes = {"xaxis": _name("x", number), "yaxis": _name("y", number)}
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
            1 + 66 / plot,
        )
    ]
    settings = _axes(panels, plot) | {
        "updatemenus": menus,
        "sliders": [slider(names, "", 1 + 72 / plot, x=0.55)],
        "annotations": _headings(panels, [run.label(arm) for arm in arms], plot),
        "images": [_coast(number) for number in range(len(panels))],
        "showlegend": False,
        "margin": {"l": 30, "r": 12, "t": _TOP, "b": 20},
    }
    return {"data": traces, "layout": layout(plot + _TOP + 20, **settings), "frames": frames}


def units_of(run: ReportedRun, channels: Sequence[str]) -> dict[str, str]:
    """The units by channel."""
    found: list[Channel] = [run.spec.channels[run.spec.index(name)] for name in channels]
    return {channel.name: unit_text(VARIABLES[channel.variable].units) for channel in found}


def _field(now: MapTime, arm: str, column: int, channel: int) -> np.ndarray:
    """One field, [H, W]; without numbers at a time that an arm does not have."""
    if not arm:
        return now.truth[channel]
    if arm not in now.arms:
        return np.full_like(now.truth[channel], np.nan)
    return now.arms[arm][QUANTITIES.index(SHOWN[column]), channel]


def _heatmap(
    fields: Sequence[np.ndarray], limits: Limits, units: str, is_truth: bool, plot: int
) -> tuple[Trace, list[dict[str, str]]]:
    """A map, and its values at each time in whole steps, which fit into a byte.

    A step is 1, 2 or 5 times a power of ten, so that the value under the pointer reads well.
    """
    low, high = limits.truth if is_truth else (-limits.error, limits.error)
    step = _step((high - low) / (2 * _LARGEST))
    # Steps are counted from a multiple of a step, so that both ends fit.
    middle = round((high + low) / 2 / step)
    rounded = [np.nan_to_num(np.rint(field / step)) - middle for field in fields]
    values = [packed(np.clip(one, -_LARGEST, _LARGEST), "i1") for one in rounded]
    ticks = _ticks(low, high)
    trace = {
        "type": "heatmap",
        "z": values[0],
        "zmin": low / step - middle,
        "zmax": high / step - middle,
        "colorscale": _TRUTH_COLOURS if is_truth else _ERROR_COLOURS,
        "colorbar": _bar(is_truth, plot) | {
            "tickvals": [tick / step - middle for tick in ticks],
            "ticktext": [f"{tick:g}" for tick in ticks],
            "title": {"text": units, "side": "right" if is_truth else "bottom"},
        },
    }  # fmt: skip
    if is_truth:
        trace["hovertemplate"] = (
            f"%{{y:.1f}}°, %{{x:.1f}}°: ({middle} + %{{z}}) × {step:g} {units}<extra></extra>"
        )
        if not middle:
            trace["hovertemplate"] = trace["hovertemplate"].replace("(0 + %{z})", "%{z}")
    else:
        trace["hovertemplate"] = f"%{{y:.1f}}°, %{{x:.1f}}°: %{{z}} × {step:g} {units}<extra></extra>"
    return trace, values


def _step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _ticks(low: float, high: float) -> list[float]:
    step = _step((high - low) / 6)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _bar(is_truth: bool, plot: int) -> dict[str, Any]:
    common = {"thickness": 12, "outlinewidth": 0, "xpad": 0, "ypad": 0, "tickfont": {"size": 11}}
    if is_truth:
        top = 1 - _GAP / plot
        return common | {
            "x": 0.33, "y": top, "xanchor": "left", "yanchor": "top", "len": _ROW, "lenmode": "pixels",
        }  # fmt: skip
    return common | {
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


def _rmse(run: ReportedRun, arm: str, now: MapTime, channel: str, column: int) -> str:
    """The RMSE of a map, from ``scores.csv``."""
    rows = run.scores
    chosen = rows[
        (rows["arm"] == run.label(arm))
        & (rows["time"] == now.time)
        & (rows["channel"] == channel)
        & (rows["quantity"] == ("background" if column == 0 else "analysis"))
    ]
    return f"rmse {chosen['rmse'].iloc[0]:.3g}" if len(chosen) else ""


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
        common = {
            "showgrid": False, "zeroline": False, "showticklabels": False, "ticks": "", "showline": True,
            "mirror": True, "linecolor": "#8894a0",
        }  # fmt: skip
        axes[_name("xaxis", number)] = common | {
            "domain": [column * 0.338, column * 0.338 + 0.324], "range": [0, 360],
            "anchor": _name("y", number), "matches": "x" if number else None,
        }  # fmt: skip
        axes[_name("yaxis", number)] = common | {
            "domain": [max(0.0, top - _ROW / plot), top], "range": [-90, 90],
            "anchor": _name("x", number), "matches": "y" if number else None,
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


@cache
def _coast_source() -> str:
    """The coastlines as a picture that stays sharp, whatever its size."""
    paths = []
    for line in coastlines():
        points = np.rint(np.stack([line[:, 0], 90 - line[:, 1]], axis=1) * 10).astype(int)
        points = points[np.append(True, (points[1:] != points[:-1]).any(1))]
        if len(points) > 1:
            moves = np.diff(points, axis=0).tolist()
            paths.append(f"M{points[0][0]} {points[0][1]}l" + " ".join(f"{x} {y}" for x, y in moves))
    picture = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 3600 1800' preserveAspectRatio='none'>"
        f"<path d='{''.join(paths)}' fill='none' stroke='#27323c' stroke-width='0.8' "
        "vector-effect='non-scaling-stroke'/></svg>"
    )
    return "data:image/svg+xml;utf8," + quote(picture, safe=" '=/:;,-<>")


def _coast(number: int) -> dict[str, Any]:
    return {
        "source": _coast_source(), "xref": _name("x", number), "yref": _name("y", number), "x": 0, "y": 90,
        "sizex": 360, "sizey": 180, "sizing": "stretch", "layer": "above",
    }  # fmt: skip


def _name(axis: str, number: int) -> str:
    return axis if number == 0 else f"{axis}{number + 1}"
