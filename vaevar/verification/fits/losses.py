"""The losses of a fit: their curves over epochs, and the table of the best and the last."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from vaevar.models.training.history import LEARNING_RATE
from vaevar.verification.page.figures import (
    COLOURS,
    INK,
    Figure,
    Trace,
    axis,
    buttons,
    heading,
    layout,
    packed,
)
from vaevar.verification.page.names import spoken
from vaevar.verification.page.ticks import changed, scales, ticks
from vaevar.verification.tables import cell_text

_SIDES = ("train", "val")
_LOWER_IS_BETTER = re.compile(r"(loss|mse|rmse)\b|rmse_|mse_")
_BUTTONS = 8  # beyond which a menu folds
_SPREAD = 5.0  # largest over smallest from which an axis is logarithmic at first
_HEIGHT, _RATE, _GAP, _TOP, _BOTTOM = 330, 110, 70, 100, 60  # pixels


def loss_table(history: pd.DataFrame) -> tuple[list[str], list[list[tuple[str, bool]]]]:
    """Titles and cells: of each number the best with its epoch, where less is better, and the last.

    Args:
        history: rows of ``history.csv``.
    """
    rows = []
    for name in _ordered(history):
        values = history[history["name"] == name]
        finite = values[np.isfinite(values["value"])]
        best = ("", "")
        if _LOWER_IS_BETTER.search(name) and len(finite):
            least = finite.loc[finite["value"].idxmin()]
            best = (cell_text(float(least["value"])), f"{least['epoch']:.4g}")
        last = cell_text(float(values["value"].iloc[-1]))
        rows.append([(name, False), (best[0], bool(best[0])), (best[1], False), (last, False)])
    return ["quantity", "best", "in epoch", "last"], rows


def loss_figure(history: pd.DataFrame) -> Figure | None:
    """Curves over epochs, with a choice of the quantity, and the learning rate below; None without any.

    Args:
        history: rows of ``history.csv``.
    """
    groups = _groups(history)
    if not groups:
        return None
    plot = _HEIGHT + _GAP + _RATE
    traces: list[Trace] = []
    for group, names in groups.items():
        for number, (name, label) in enumerate(names.items()):
            rows = history[history["name"] == name]
            traces.append(
                _line(rows, label, COLOURS[number % len(COLOURS)])
                | {"meta": group, "visible": group == next(iter(groups))}
            )
    rates = history[history["name"] == LEARNING_RATE]
    traces.append(_line(rates, "learning rate", INK) | {"yaxis": "y2", "meta": "", "showlegend": False})
    kinds = {group: _axis_type(history, names) for group, names in groups.items()}
    choices = [
        {
            "label": spoken(group), "method": "update",
            "args": [
                {"visible": [trace["meta"] in (group, "") for trace in traces]},
                {"yaxis.title.text": spoken(group)} | changed(ticks(kinds[group])),
            ],
        }
        for group in groups
    ]  # fmt: skip
    first = next(iter(groups))
    menu = buttons(choices, 0.0, 1 + 88 / plot)
    if len(choices) > _BUTTONS:
        menu |= {"type": "dropdown", "direction": "down"}
    settings: dict[str, Any] = {
        "updatemenus": [menu, scales(kinds[first], 0.0, 1 + 46 / plot)],
        "annotations": [heading("<b>Learning rate</b>", 0.0, _RATE / plot + 4 / plot)],
        "xaxis": axis("epoch", anchor="y2", rangemode="tozero"),
        "yaxis": axis(spoken(first), domain=[(_RATE + _GAP) / plot, 1], **ticks(kinds[first])),
        "yaxis2": axis("", domain=[0, _RATE / plot], exponentformat="power", rangemode="tozero", nticks=4),
        "hovermode": "x unified",
        "margin": {"l": 80, "r": 20, "t": _TOP, "b": _BOTTOM},
    }
    return {"data": traces, "layout": layout(plot + _TOP + _BOTTOM, **settings), "frames": []}


def _groups(history: pd.DataFrame) -> dict[str, dict[str, str]]:
    """What is drawn together: names and labels by quantity, the same of training and validation together."""
    found: dict[str, dict[str, str]] = {}
    for name in _ordered(history):
        side, _, rest = name.partition("/")
        if side in _SIDES and rest:
            found.setdefault(rest, {})[name] = "training" if side == "train" else "validation"
        else:
            found.setdefault(side, {})[name] = spoken(rest or side)
    return found


def _ordered(history: pd.DataFrame) -> list[str]:
    """Names with the losses first, those of the validation before those of the training."""
    names = [name for name in dict.fromkeys(history["name"]) if name != LEARNING_RATE]
    return sorted(names, key=lambda name: (not name.endswith("/loss"), name.startswith("train"), 0))


def _axis_type(history: pd.DataFrame, names: dict[str, str]) -> str:
    values = history.loc[history["name"].isin(list(names)), "value"]
    values = values[np.isfinite(values)]
    wide = len(values) > 0 and values.min() > 0 and values.max() > _SPREAD * values.min()
    return "log" if wide else "linear"


def _line(rows: pd.DataFrame, label: str, colour: str) -> Trace:
    return {
        "type": "scatter", "mode": "lines+markers" if len(rows) <= 40 else "lines", "name": label,
        "x": packed(rows["epoch"].to_numpy()), "y": packed(rows["value"].to_numpy()),
        "customdata": rows["step"].tolist(), "line": {"color": colour, "width": 2},
        "marker": {"size": 5, "color": colour},
        "hovertemplate": "%{y:.4g} (step %{customdata})",
    }  # fmt: skip
