"""What the figures of a report share: colours, packed numbers, buttons and sliders.

Plotly draws them: its figures are data, its sliders and buttons need no code of ours, and the library comes
as one script that a page can hold, so that a report opens without a network. (Bokeh's controls need
JavaScript of one's own, Vega draws maps point by point, and pictures of matplotlib cannot be chosen from.)
Figures are plain dictionaries; building thousands of Plotly's objects would take longer than all else.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

Figure = dict[str, Any]
Trace = dict[str, Any]

# Okabe and Ito's colours but for yellow, which is faint on white: told apart by colour-blind people too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#767676")
_SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star")
_WIDEST, _NARROWEST, _STEP = 5.0, 1.5, 0.7  # of lines, in pixels
INK, FAINT = "#1b2733", "#e4e8ec"
_HALF_LABEL = 36  # pixels: half of "31 Jan 18 UTC", which else is cut at the end of a slider
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# How quantities are told apart.
DASHES = {"analysis": "solid", "forecast": "solid", "background": "dot"}


class Arms:
    """The look of each arm, the same in all figures.

    Args:
        names: of the arms.
        prefixes: of the runs that have them, before the names in labels. An arm has its colour in all runs,
            and each run has its symbol.
    """

    def __init__(self, names: Sequence[str], prefixes: Sequence[str] = ("",)) -> None:
        self._numbers = {
            f"{prefix}{name}": number for prefix in prefixes for number, name in enumerate(names)
        }
        sets = -(-len(names) // len(COLOURS))
        self._symbols = {
            f"{prefix}{name}": run * sets + number // len(COLOURS)
            for run, prefix in enumerate(prefixes)
            for number, name in enumerate(names)
        }
        self._step = min(_STEP, (_WIDEST - _NARROWEST) / max(len(names) - 1, 1))
        self._last = len(names) - 1

    def colour(self, label: str) -> str:
        return COLOURS[self._numbers[label] % len(COLOURS)]

    def symbol(self, label: str) -> str:
        """Beyond seven arms colours repeat, with other symbols."""
        return _SYMBOLS[self._symbols[label] % len(_SYMBOLS)]

    def _width(self, label: str) -> float:
        """Of a line: later arms are drawn upon earlier ones, which would be hidden were they not wider."""
        return round(_NARROWEST + self._step * (self._last - self._numbers[label]), 2)

    def line(self, label: str, quantity: str = "analysis", points: int = 1000) -> Trace:
        """The look of a line.

        Args:
            label: of the arm.
            quantity: which of its states.
            points: how many the line has; few are marked.
        """
        repeated, width = self.symbol(label) != _SYMBOLS[0], self._width(label)
        return {
            "type": "scatter",
            "mode": "lines+markers" if points <= 30 or repeated else "lines",
            "name": label,
            "legendgroup": label,
            "line": {"color": self.colour(label), "width": width, "dash": DASHES[quantity]},
            "marker": {
                "symbol": self.symbol(label),
                "size": width + 3,
                "color": self.colour(label),
                "maxdisplayed": 30,
            },
        }


def packed(values: np.ndarray, dtype: str = "f4") -> dict[str, str]:
    """An array as Plotly's script reads it in binary form.

    Args:
        values: of any shape.
        dtype: such as ``f4`` or ``i1``.
    """
    array = np.ascontiguousarray(values, dtype=np.dtype(dtype).newbyteorder("<"))
    packed = {"dtype": dtype, "bdata": base64.b64encode(array.tobytes()).decode()}
    if array.ndim > 1:
        packed["shape"] = ", ".join(map(str, array.shape))
    return packed


def layout(height: int, **settings: Any) -> dict[str, Any]:
    """The look of every figure.

    Args:
        height: in pixels.
        settings: of Plotly's layout.
    """
    common = {
        "height": height,
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": {"l": 70, "r": 20, "t": 60, "b": 55},
        "hoverlabel": {"font": {"family": FONT, "size": 12}},
        "legend": {"itemsizing": "constant", "groupclick": "togglegroup", "tracegroupgap": 2},
    }
    return common | settings


def axis(title: str = "", **settings: Any) -> dict[str, Any]:
    """An axis with a faint grid."""
    common = {
        "title": {"text": title, "standoff": 8},
        "automargin": True,  # else wide labels run into the title
        "gridcolor": FAINT,
        "zerolinecolor": "#b8c2cc",
        "linecolor": "#b8c2cc",
        "showline": True,
        "ticks": "outside",
        "tickcolor": "#b8c2cc",
    }
    return common | settings


def heading(text: str, x: float, y: float, **settings: Any) -> dict[str, Any]:
    """A text in a figure, at a place in fractions of its plot."""
    place = {"xref": "paper", "yref": "paper", "x": x, "y": y, "text": text, "showarrow": False}
    return place | {"xanchor": "left", "yanchor": "bottom", "font": {"size": 13, "color": INK}} | settings


def buttons(entries: Sequence[Trace], x: float, y: float, active: int = 0, after: int = 0) -> dict[str, Any]:
    """A row of buttons, one of which is chosen.

    Args:
        entries: ``label``, ``method`` and ``args`` of each.
        x, y: of the left upper corner, in fractions of the plot.
        active: the one that is chosen at first.
        after: pixels of other buttons to the left of them, which are as wide in a narrow window.
    """
    return {
        "type": "buttons", "direction": "right", "buttons": list(entries), "active": active, "x": x, "y": y,
        "xanchor": "left", "yanchor": "top", "pad": {"t": 0, "l": after}, "bgcolor": "white",
        "bordercolor": "#b8c2cc", "font": {"size": 12, "color": INK}, "showactive": True,
    }  # fmt: skip


def slider(names: Sequence[str], prefix: str, y: float, active: int = 0, x: float = 0.0) -> dict[str, Any]:
    """A slider that chooses one of the frames of a figure.

    Args:
        names: of the frames, which are also its labels.
        prefix: before the label of the chosen one.
        y, x: of its left upper corner, in fractions of the plot.
        active: the one that is chosen at first.
    """
    how = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": name, "method": "animate", "args": [[name], how]} for name in names]
    return {
        "steps": steps, "active": active, "x": x, "y": y, "len": 1.0 - x, "xanchor": "left", "yanchor": "top",
        "currentvalue": {"prefix": prefix, "font": {"size": 13, "color": INK}, "offset": 8},
        "pad": {"t": 0, "b": 0, "l": _HALF_LABEL, "r": _HALF_LABEL}, "bgcolor": FAINT,
        "bordercolor": "#b8c2cc", "font": {"size": 11}, "ticklen": 4,
    }  # fmt: skip


def level_line(value: float, axis: str) -> dict[str, Any]:
    """A line to compare with, across a panel."""
    return {
        "type": "line", "xref": f"x{axis[1:]} domain", "yref": axis, "x0": 0, "x1": 1, "y0": value,
        "y1": value,
        "line": {"color": INK, "width": 1, "dash": "dash"},
    }  # fmt: skip
