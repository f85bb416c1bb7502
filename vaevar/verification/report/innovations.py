"""Innovation statistics of a report: what observations say of an arm, without the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vaevar.data.observations.points import Observations
from vaevar.verification.consistency import desroziers
from vaevar.verification.page.figures import (
    Arms,
    Figure,
    Trace,
    axis,
    heading,
    layout,
    level_line,
    packed,
)
from vaevar.verification.page.ticks import ticks
from vaevar.verification.report.run import ReportedRun
from vaevar.verification.report.states import Departures, Sample

_BINS = np.linspace(-6, 6, 49)
_PANELS = (
    "Desroziers' ratio of R: E[d_a d_b] / R",
    "Background error at the observations: E[(d_b − d_a) d_b] / R",
    "Mean innovation / σ_o",
    "All innovations / σ_o: fraction in each bin",
)


def innovations(runs: Sequence[ReportedRun], samples: Sequence[Sample], arms: Arms) -> Figure | None:
    """Statistics of innovations d_b and residuals d_a by variable, and the innovations' distribution.

    Args:
        runs: whose arms they are.
        samples: of their states, in the same order.
        arms: their looks.

    Returns:
        None where nothing was observed.
    """
    traces: list[Trace] = []
    for run, sample in zip(runs, samples, strict=True):
        for arm, found in sample.departures.items():
            observations = Observations.concatenate(found.observations)
            if len(observations):
                traces += _of_arm(run.label(arm), found, observations, arms)
    if not traces:
        return None
    settings: dict[str, Any] = {"annotations": []}
    for number, title in enumerate(_PANELS):
        suffix = "" if number == 0 else str(number + 1)
        column, row = number % 2, number // 2
        domain = [0.55, 1.0] if column else [0.0, 0.45]
        height = [0.0, 0.41] if row else [0.57, 0.98]
        settings[f"xaxis{suffix}"] = axis("", domain=domain, anchor=f"y{suffix}")
        settings[f"yaxis{suffix}"] = axis("", domain=height, anchor=f"x{suffix}")
        settings["annotations"].append(heading(f"<b>{title}</b>", domain[0], height[1] + 0.01))
    # A free run stays far from the observations.
    settings["yaxis"] |= ticks("log")
    settings["scattermode"] = "group"
    settings["yaxis2"] |= {"rangemode": "tozero"}
    settings["shapes"] = [level_line(1.0, "y"), level_line(0.0, "y3")]
    settings["xaxis4"] |= {"range": [-6, 6]}
    return {"data": traces, "layout": layout(660, **settings), "frames": []}


def _of_arm(label: str, found: Departures, observations: Observations, arms: Arms) -> list[Trace]:
    before, after = np.concatenate(found.before), np.concatenate(found.after)
    ratios = desroziers(before, after, observations)
    scaled = before / observations.error_std
    means = [float(scaled[observations.variable == name].mean()) for name in ratios]
    columns = (
        [ratio.observation for ratio in ratios.values()],
        [ratio.background for ratio in ratios.values()],
        means,
    )
    marker = {"size": 8, "symbol": arms.symbol(label), "color": arms.colour(label), "opacity": 0.9}
    common = {"name": label, "legendgroup": label, "type": "scatter", "offsetgroup": label}
    traces: list[Trace] = [
        common | {
            "mode": "markers", "marker": marker, "x": list(ratios), "y": values, "showlegend": number == 0,
            "xaxis": f"x{number + 1 if number else ''}", "yaxis": f"y{number + 1 if number else ''}",
            "hovertemplate": f"%{{x}}: %{{y:.3g}}<extra>{label}</extra>",
        }
        for number, values in enumerate(columns)
    ]  # fmt: skip
    share = np.histogram(scaled, _BINS)[0] / scaled.size
    centres = (_BINS[1:] + _BINS[:-1]) / 2
    own = {
        "x": packed(centres), "y": packed(share), "xaxis": "x4", "yaxis": "y4", "showlegend": False,
        "hovertemplate": f"%{{y:.3g}} at %{{x:.2f}}<extra>{label}</extra>", "mode": "lines",
    }  # fmt: skip
    return [*traces, arms.line(label) | own]
