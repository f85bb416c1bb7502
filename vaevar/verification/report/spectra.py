"""Spectra of a report: the power of analyses and errors by total wavenumber, beside the truth's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vaevar.verification.page.figures import (
    INK,
    Arms,
    Figure,
    Trace,
    axis,
    buttons,
    heading,
    layout,
    level_line,
    packed,
)
from vaevar.verification.page.ticks import ticks
from vaevar.verification.page.units import Units
from vaevar.verification.report.run import ReportedRun
from vaevar.verification.report.states import QUANTITIES, TRUTH, Sample

# Column, dash and name of what is drawn of an arm.
_DRAWN = {"analysis": (0, "solid"), "background error": (2, "dot"), "analysis error": (2, "solid")}


def spectra(
    runs: Sequence[ReportedRun], samples: Sequence[Sample], arms: Arms, units: dict[str, Units]
) -> Figure | None:
    """Power of states, that of analyses over the truth's, and that of errors; None without a transform.

    Args:
        runs: whose arms they are.
        samples: of their states, in the same order.
        arms: their looks.
        units: by channel.
    """
    known = [(run, sample) for run, sample in zip(runs, samples, strict=True) if TRUTH in sample.spectra]
    if not known:
        return None
    names = list(dict.fromkeys(name for _, sample in known for name in sample.channels))
    traces: list[Trace] = []
    for name in names:
        for run, sample in known:
            if name not in sample.channels:
                continue
            of_run = (run.prefix.rstrip("/ ") + " truth").strip()
            scale = units[name].factor ** 2
            truth = scale * np.mean(sample.spectra[TRUTH], axis=0)[sample.channels.index(name)]
            look: Trace = {
                "type": "scatter", "mode": "lines", "name": of_run, "legendgroup": of_run,
                "line": {"color": INK, "width": 7}, "opacity": 0.4,  # a band behind all arms
            }  # fmt: skip
            traces += [
                look | _placed(truth, column, name, of_run, column == 0, name == names[0])
                for column in (0, 2)
            ]
            for arm in [arm for arm in sample.spectra if arm != TRUTH]:
                mean = np.mean(sample.spectra[arm], axis=0)
                for quantity, (column, dash) in _DRAWN.items():
                    power = scale * mean[QUANTITIES.index(quantity), sample.channels.index(name)]
                    label = run.label(arm)
                    look = arms.line(label)
                    look["line"] = look["line"] | {"dash": dash}
                    shown = quantity == "analysis"
                    about = f"{label}, {quantity}"
                    traces.append(look | _placed(power, column, name, about, shown, name == names[0]))
                    if quantity == "analysis":
                        about = f"{label}, analysis / truth"
                        ratio = power / np.where(truth > 0, truth, np.nan)
                        traces.append(look | _placed(ratio, 1, name, about, False, name == names[0]))
    plot = 380
    choices = [
        {
            "label": name, "method": "update",
            "args": [
                {"visible": [trace["meta"] == name for trace in traces]},
                {"yaxis.title.text": _title(name, units)},
            ],
        }
        for name in names
    ]  # fmt: skip
    settings: dict[str, Any] = {
        "updatemenus": [buttons(choices, 0.0, 1 + 75 / plot)],
        "annotations": [
            heading("<b>Analyses</b>", 0.0, 1 + 4 / plot),
            heading("<b>Analyses / truth</b>", 0.36, 1 + 4 / plot),
            heading("<b>Errors</b>: dotted background, solid analysis", 0.72, 1 + 4 / plot),
        ],
        "shapes": [level_line(1.0, "y2")],
        "xaxis": _wavenumbers([0, 0.28], ""),
        "yaxis": axis(_title(names[0], units), **ticks("log", powers=True)),
        "xaxis2": _wavenumbers([0.36, 0.64], "2"),
        "yaxis2": axis("", anchor="x2", rangemode="tozero"),
        "xaxis3": _wavenumbers([0.72, 1], "3"),
        "yaxis3": axis("", anchor="x3", **ticks("log", powers=True)),
        "margin": {"l": 80, "r": 20, "t": 85, "b": 60},
    }
    return {"data": traces, "layout": layout(plot + 145, **settings), "frames": []}


def _wavenumbers(domain: list[float], suffix: str) -> dict[str, Any]:
    return axis("total wavenumber", domain=domain, anchor=f"y{suffix}", tickangle=0, **ticks("log"))


def _placed(
    power: np.ndarray, column: int, name: str, about: str, in_legend: bool, visible: bool
) -> dict[str, Any]:
    """A spectrum without wavenumber 0, the mean, which has no place on a logarithmic axis."""
    suffix = "" if column == 0 else str(column + 1)
    return {
        "x0": 1, "dx": 1, "y": packed(power[1:]), "xaxis": f"x{suffix}", "yaxis": f"y{suffix}",
        "visible": visible, "showlegend": in_legend, "meta": name,
        "hovertemplate": f"%{{y:.3g}} at wavenumber %{{x}}<extra>{about}</extra>",
    }  # fmt: skip


def _title(name: str, units: dict[str, Units]) -> str:
    return f"power of {name}, ({units[name].text})²"
