"""Diagnostics of a report: what each analysis cost, and how its minimisation ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from vaevar.errors import UserError
from vaevar.verification.page.figures import Arms, Figure, Trace, axis, buttons, layout, packed
from vaevar.verification.page.names import KNOWN, spoken
from vaevar.verification.page.ticks import changed, ticks
from vaevar.verification.report.curves import along, thinning
from vaevar.verification.report.run import ReportedRun

_LOGARITHMIC = ("grad_norm", "initial_grad_norm", "seconds")
# Counted in the summary.
_LEFT_OUT = ("time", "failed", "implausible")


def minimisation(runs: Sequence[ReportedRun], arms: Arms) -> Figure | None:
    """The columns of ``diagnostics.csv`` in time, one of them at a time; None where there are none."""
    tables: dict[str, pd.DataFrame] = {}
    for run in runs:
        for arm in run.arms:
            try:
                table = run.results[arm].diagnostics
            except UserError as error:
                run.faults.append(str(error))
                continue
            tables[run.label(arm)] = table[table["time"].isin(run.times(arm))].iloc[
                :: thinning(len(table), runs)
            ]
    found = list(dict.fromkeys(name for table in tables.values() for name in _numbers(table)))
    names = [name for name in KNOWN if name in found] + [name for name in found if name not in KNOWN]
    if not names:
        return None
    traces: list[Trace] = []
    for name in names:
        for label, table in tables.items():
            if name not in table or not table[name].notna().any():
                continue
            own = along(table["time"].to_numpy()) | {
                "y": packed(table[name].to_numpy(float)), "visible": name == names[0], "meta": name,
                "hovertemplate": f"%{{y:.4g}}<extra>{label}</extra>",
            }  # fmt: skip
            traces.append(arms.line(label, points=len(table)) | own)
    plot = 320
    choices = [
        {
            "label": spoken(name), "method": "update",
            "args": [
                {"visible": [trace["meta"] == name for trace in traces]},
                {"yaxis.title.text": spoken(name)} | changed(ticks(_kind(name))),
            ],
        }
        for name in names
    ]  # fmt: skip
    settings: dict[str, Any] = {
        "updatemenus": [buttons(choices, 0.0, 1 + 55 / plot)],
        "xaxis": axis(type="date"),
        "yaxis": axis(spoken(names[0]), **ticks(_kind(names[0]))),
        "hovermode": "x unified",
        "margin": {"l": 80, "r": 20, "t": 65, "b": 50},
    }
    return {"data": traces, "layout": layout(plot + 115, **settings), "frames": []}


def _numbers(table: pd.DataFrame) -> list[str]:
    names = [name for name in table.columns if name not in _LEFT_OUT]
    return [
        name for name in names if pd.api.types.is_numeric_dtype(table[name]) and table[name].notna().any()
    ]


def _kind(name: str) -> str:
    return "log" if name in _LOGARITHMIC else "linear"
