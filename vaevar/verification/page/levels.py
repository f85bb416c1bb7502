"""A figure of numbers by level, a panel for each variable of the upper air and of the surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaevar.state import StateSpec
from vaevar.verification.page.figures import Arms, Figure, axis, heading, layout, packed
from vaevar.verification.page.units import in_units, units_of


@dataclass(frozen=True)
class Profile:
    """A line in all panels.

    Attributes:
        arm: its label.
        quantity: ``analysis`` or ``background``; empty where there is one alone.
        values: [C], in the units of the state.
    """

    arm: str
    quantity: str
    values: np.ndarray


def level_figure(spec: StateSpec, profiles: Sequence[Profile], arms: Arms) -> Figure:
    """Lines by level, from the top of the atmosphere down, and below them dots for the surface.

    Args:
        spec: the C channels.
        profiles: the lines.
        arms: their looks.
    """
    panels = [_Panel(name, number, len(spec.upper)) for number, name in enumerate(spec.upper)]
    ground = [
        _Panel(name, number, len(spec.surface), len(panels)) for number, name in enumerate(spec.surface)
    ]
    bottom = 0.34 if ground and panels else 0.0
    axes: dict[str, Any] = {}
    traces, notes = [], []
    for panel in panels:
        chosen = spec.variable_slice(panel.variable)
        axes |= panel.axes(
            "hPa" if panel.number == 0 else "", domain=[bottom, 1.0], type="log", autorange="reversed",
            tickvals=_ticks(spec.levels), showticklabels=panel.number == 0,
            matches=None if panel.number == 0 else "y",
        )  # fmt: skip
        notes.append(panel.heading(1.02))
        for profile in profiles:
            look = arms.line(profile.arm, profile.quantity or "analysis", 0)
            own = {"x": packed(in_units(spec, profile.values)[chosen]), "y": list(spec.levels)}
            traces.append(look | own | panel.place(profile, " at %{y} hPa", legend=panel.number == 0))
    rows = list(dict.fromkeys(profile.arm for profile in profiles))
    top = 0.14 if panels else 1.0
    for panel in ground:
        axes |= panel.axes(
            "", domain=[0.0, top], range=[len(rows) - 0.5, -0.5], showticklabels=False, ticks="",
            showgrid=False, zeroline=False,
        )  # fmt: skip
        notes.append(panel.heading(top + 0.02))
        for profile in profiles:
            look = arms.line(profile.arm, profile.quantity or "analysis", 0) | {"mode": "markers"}
            symbol = arms.symbol(profile.arm) + ("-open" if profile.quantity == "background" else "")
            value = in_units(spec, profile.values)[spec.index(panel.variable)]
            own = {
                "x": [float(value)], "y": [rows.index(profile.arm)],
                "marker": look["marker"] | {"symbol": symbol, "size": 9},
            }  # fmt: skip
            legend = not panels and panel.number == 0
            traces.append(look | own | panel.place(profile, "", legend=legend))
    return {
        "data": traces,
        "layout": layout(_height(panels, ground, rows), **axes, annotations=notes),
        "frames": [],
    }


def _height(panels: Sequence[_Panel], ground: Sequence[_Panel], rows: Sequence[str]) -> int:
    """In pixels: a row of dots for each arm, below the panels by level."""
    if not ground:
        return 520
    return 620 + 16 * len(rows) if panels else 300 + 24 * len(rows)


@dataclass(frozen=True)
class _Panel:
    """A variable's place in a row of panels.

    Attributes:
        variable: its name.
        number: from the left.
        count: of the row.
        before: panels of other rows.
    """

    variable: str
    number: int
    count: int
    before: int = 0

    @property
    def suffix(self) -> str:
        """Of the axes' names."""
        place = self.before + self.number
        return "" if place == 0 else str(place + 1)

    @property
    def left(self) -> float:
        return self.number / self.count

    def axes(self, title: str, **vertical: Any) -> dict[str, Any]:
        """The two axes: numbers along the horizontal one, and a vertical one as given."""
        units = units_of(self.variable).text
        across = axis(
            f"{self.variable}, {units}", domain=[self.left, self.left + 1 / self.count - 0.025],
            anchor=f"y{self.suffix}", nticks=4, tickangle=0, rangemode="tozero", exponentformat="power",
            showexponent="last",  # 10⁻⁴ at each tick of q would run into the next
        )  # fmt: skip
        upwards = axis(title, anchor=f"x{self.suffix}", **vertical)
        return {f"xaxis{self.suffix}": across, f"yaxis{self.suffix}": upwards}

    def heading(self, y: float) -> dict[str, Any]:
        """The variable's name above it."""
        return heading(f"<b>{self.variable}</b>", self.left, y)

    def place(self, profile: Profile, where: str, legend: bool) -> dict[str, Any]:
        """What a trace needs here: its axes, the text under the pointer, its entry in the legend."""
        about = ", ".join(text for text in (profile.arm, profile.quantity) if text)
        return {
            "xaxis": f"x{self.suffix}", "yaxis": f"y{self.suffix}",
            "showlegend": legend and profile.quantity != "background",
            "hovertemplate": f"%{{x:.4g}}{where}<extra>{about}</extra>",
        }  # fmt: skip


def _ticks(levels: Sequence[int]) -> list[int]:
    """Levels far enough apart for their labels, from the ground up."""
    ticks: list[int] = []
    for level in reversed(levels):
        if not ticks or ticks[-1] / level > 1.12:
            ticks.append(level)
    return ticks
