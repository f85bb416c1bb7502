"""Every channel has its place in the figure by level, those of the surface too."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from vaevar.state import StateSpec
from vaevar.verification.page.figures import Arms
from vaevar.verification.page.levels import Profile, level_figure


def drawn(figure: dict[str, Any]) -> dict[tuple[str, str, str], list[float]]:
    """Numbers by variable, arm and quantity: full markers and lines are analyses."""
    found = {}
    for trace in figure["data"]:
        title = figure["layout"]["xaxis" + trace["xaxis"][1:]]["title"]["text"]
        packed = isinstance(trace["x"], dict)
        x = np.frombuffer(base64.b64decode(trace["x"]["bdata"]), "f4") if packed else trace["x"]
        hidden = trace["line"]["dash"] == "dot" if packed else trace["marker"]["symbol"].endswith("-open")
        found[title.partition(",")[0], trace["name"], "background" if hidden else "analysis"] = list(x)
    return found


@pytest.mark.parametrize(
    ("surface", "upper"),
    [
        (["u10"], []),
        (["u10", "t2m", "msl"], []),
        ([], ["z", "t"]),
        (["u10"], ["z", "t"]),
        (["u10", "t2m", "msl"], ["z", "t"]),
    ],
)
def test_all_channels_are_drawn(surface: list[str], upper: list[str]) -> None:
    spec = StateSpec(surface, upper, [300, 500, 850])
    values = {
        (arm, quantity): 10.0 * number + np.arange(len(spec))
        for number, (arm, quantity) in enumerate(
            (arm, quantity) for arm in ("one", "two") for quantity in ("analysis", "background")
        )
    }
    profiles = [Profile(arm, quantity, array) for (arm, quantity), array in values.items()]
    figure = level_figure(spec, profiles, Arms(["one", "two"]))
    expected = {}
    for (arm, quantity), array in values.items():
        for name in surface:
            expected[name, arm, quantity] = [array[spec.index(name)]]
        for name in upper:
            expected[name, arm, quantity] = list(array[spec.variable_slice(name)])
    assert drawn(figure) == expected
    entries = [trace["name"] for trace in figure["data"] if trace["showlegend"]]
    assert entries == ["one", "two"]
    domains = [axis["domain"] for name, axis in figure["layout"].items() if name.startswith("yaxis")]
    assert all(0 <= low < high <= 1 for low, high in domains)
