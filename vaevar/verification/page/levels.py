"""A figure of numbers by level, a panel for each variable of the upper air."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaevar.state import VARIABLES, StateSpec
from vaevar.verification.report.figures import Arms, Figure, axis, heading, layout, packed, unit_text


@dataclass(frozen=True)
class Profile:
    """A line in all panels.

    Attributes:
        arm: its label.
        quantity: ``analysis`` or ``background``; empty where there is one alone.
        values: [C].
    """

    arm: str
    quantity: str
    values: np.ndarray


def level_figure(spec: StateSpec, profiles: Sequence[Profile], arms: Arms) -> Figure | None:
    """Lines by level, from the top of the atmosphere down; None of a state without an upper air.

    Args:
        spec: the C channels.
        profiles: the lines.
        arms: their looks.
    """
    if not spec.upper:
        return None
    axes: dict[str, Any] = {}
    traces, notes = [], []
    width = 1 / len(spec.upper)
    for number, variable in enumerate(spec.upper):
        suffix = "" if number == 0 else str(number + 1)
        chosen = spec.variable_slice(variable)
        domain = [number * width, (number + 1) * width - 0.025]
        title = f"{variable}, {unit_text(VARIABLES[variable].units)}"
        axes[f"xaxis{suffix}"] = axis(
            title,
            domain=domain,
            anchor=f"y{suffix}",
            nticks=4,
            tickangle=0,
            rangemode="tozero",
            exponentformat="power",
            showexponent="last",  # 10⁻⁴ at each tick of q would run into the next
        )
        axes[f"yaxis{suffix}"] = axis(
            "hPa" if number == 0 else "", anchor=f"x{suffix}", type="log", autorange="reversed",
            tickvals=_ticks(spec.levels), showticklabels=number == 0, matches=None if number == 0 else "y",
        )  # fmt: skip
        notes.append(heading(f"<b>{variable}</b>", domain[0], 1.02))
        for profile in profiles:
            about = ", ".join(text for text in (profile.arm, profile.quantity) if text)
            own = {
                "x": packed(profile.values[chosen]), "y": list(spec.levels), "xaxis": f"x{suffix}",
                "yaxis": f"y{suffix}", "showlegend": number == 0 and profile.quantity != "background",
                "hovertemplate": f"%{{x:.4g}} at %{{y}} hPa<extra>{about}</extra>",
            }  # fmt: skip
            traces.append(arms.line(profile.arm, profile.quantity or "analysis", 0) | own)
    return {"data": traces, "layout": layout(520, **axes, annotations=notes), "frames": []}


def _ticks(levels: Sequence[int]) -> list[int]:
    """Levels far enough apart for their labels, from the ground up."""
    ticks: list[int] = []
    for level in reversed(levels):
        if not ticks or ticks[-1] / level > 1.12:
            ticks.append(level)
    return ticks
