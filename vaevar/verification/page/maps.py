"""Maps of a report: values in a byte each, colours, coastlines, and axes without marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self
from urllib.parse import quote

import numpy as np
import plotly.colors

from vaevar.sphere.coastlines import coastlines
from vaevar.verification.page.figures import Trace, packed
from vaevar.verification.page.units import Units

_SEQUENTIAL = plotly.colors.make_colorscale(plotly.colors.sequential.Cividis)
# ColorBrewer's, blue for negative.
_DIVERGING = plotly.colors.make_colorscale(plotly.colors.diverging.RdBu[::-1])
_LARGEST = 127  # of a signed byte
# Of the axes of a map.
BLANK: dict[str, Any] = {
    "showgrid": False, "zeroline": False, "showticklabels": False, "ticks": "", "showline": True,
    "mirror": True, "linecolor": "#8894a0",
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """The colours of a field.

    Attributes:
        low, high: the values of the first and the last colour.
        diverging: whether 0 is white, between blue and red.
    """

    low: float
    high: float
    diverging: bool = False

    @classmethod
    def about_zero(cls, largest: float) -> Self:
        """Of errors."""
        return cls(-(largest or 1.0), largest or 1.0, True)


def heatmap(fields: Sequence[np.ndarray], scale: Scale, units: Units) -> tuple[Trace, list[dict[str, str]]]:
    """A map, and its values in each of several frames, in whole steps, which fit into a byte.

    A step is 1, 2 or 5 times a power of ten, so that the value under the pointer reads well.

    Args:
        fields: [H, W] of each frame.
        scale: its colours.
        units: of the map; fields and scale are in those of the state.
    """
    low, high = scale.low * units.factor, scale.high * units.factor
    step = _step((high - low) / (2 * _LARGEST))
    # Steps are counted from a multiple of a step, so that both ends fit.
    middle = round((high + low) / 2 / step)
    rounded = [np.nan_to_num(np.rint(field * (units.factor / step))) - middle for field in fields]
    values = [packed(np.clip(one, -_LARGEST, _LARGEST), "i1") for one in rounded]
    ticks = _ticks(low, high)
    value = f"({middle} + %{{z}})" if middle else "%{z}"
    trace = {
        "type": "heatmap",
        "z": values[0],
        "zmin": low / step - middle,
        "zmax": high / step - middle,
        "colorscale": _DIVERGING if scale.diverging else _SEQUENTIAL,
        "colorbar": {
            "thickness": 12, "outlinewidth": 0, "xpad": 0, "ypad": 0, "tickfont": {"size": 11},
            "tickvals": [tick / step - middle for tick in ticks],
            "ticktext": [f"{tick:g}" for tick in ticks],
        },
        "hovertemplate": f"%{{y:.1f}}°, %{{x:.1f}}°: {value} × {step:g} {units.text}<extra></extra>",
    }  # fmt: skip
    return trace, values


def _step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _ticks(low: float, high: float) -> list[float]:
    step = _step((high - low) / 6)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


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


def coast(number: int) -> dict[str, Any]:
    """The coastlines on a map, by the number of its axes."""
    return {
        "source": _coast_source(), "xref": axis_name("x", number), "yref": axis_name("y", number), "x": 0,
        "y": 90, "sizex": 360, "sizey": 180, "sizing": "stretch", "layer": "above",
    }  # fmt: skip


def axis_name(axis: str, number: int) -> str:
    """Plotly's name of an axis, by its number from 0."""
    return axis if number == 0 else f"{axis}{number + 1}"
