"""What a reader sees of axes, units, controls and lines."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import numpy as np
import pytest

from vaevar.state import StateSpec
from vaevar.verification.page.channels import Line, channel_figure
from vaevar.verification.page.figures import COLOURS, Arms, slider
from vaevar.verification.page.levels import Profile, level_figure
from vaevar.verification.page.maps import Scale, heatmap
from vaevar.verification.page.ticks import changed, scales, ticks
from vaevar.verification.page.units import Units, in_units, units_of

SPEC = StateSpec(["t2m"], ["q", "z"], [500, 850])


def unpacked(packed: Any) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"])


def lines(arms: list[str], quantities: tuple[str, ...] = ("analysis", "background")) -> list[Line]:
    values = in_units(SPEC, np.full((3, len(SPEC)), 0.002))
    return [Line(arm, quantity, 0, {"x": [0, 1, 2]}, values) for arm in arms for quantity in quantities]


def test_q_is_in_grams_per_kilogram_and_the_rest_is_as_it_was() -> None:
    assert units_of("q") == Units("g kg⁻¹", 1000.0)
    assert units_of("z") == Units("m² s⁻²")
    values = np.arange(10.0).reshape(2, 5)
    for power in (1, 2):
        shown = in_units(SPEC, values, power)
        for channel in SPEC.channels:
            factor = 1000.0**power if channel.variable == "q" else 1.0
            index = SPEC.index(channel.name)
            np.testing.assert_array_equal(shown[:, index], factor * values[:, index])


def test_figures_say_the_units_that_they_have() -> None:
    arms = Arms(["one"])
    figure = channel_figure(SPEC, lines(["one"], ("analysis",)), arms, ["RMSE"], {})
    (trace,) = [trace for trace in figure["data"] if trace["meta"][0] == "q"]
    np.testing.assert_allclose(unpacked(trace["y"]), 2.0)
    (menu,) = [menu for menu in figure["layout"]["updatemenus"] if len(menu["buttons"]) == 3]
    (button,) = [button for button in menu["buttons"] if button["label"] == "q"]
    assert button["args"][1]["yaxis.title.text"] == "q, g kg⁻¹"
    by_level = level_figure(SPEC, [Profile("one", "", np.full(len(SPEC), 0.002))], arms)
    np.testing.assert_allclose(unpacked(by_level["data"][0]["x"]), 2.0)
    assert by_level["layout"]["xaxis"]["title"]["text"] == "q, g kg⁻¹"


def test_a_map_has_its_values_in_the_units_under_the_pointer() -> None:
    field = np.array([[-0.002, 0.001]])
    trace, (values,) = heatmap([field], Scale.about_zero(0.002), units_of("q"))
    step, units = trace["hovertemplate"].partition("× ")[2].removesuffix("<extra></extra>").split(" ", 1)
    assert units == "g kg⁻¹"
    np.testing.assert_allclose(unpacked(values) * float(step), [-2.0, 1.0], atol=0.51 * float(step))
    assert set(trace["colorbar"]["ticktext"]) >= {"-2", "0", "2"}


def test_both_axes_of_a_button_set_the_same_things() -> None:
    """Else labels of the one would stay with the other."""
    for powers in (False, True):
        log, linear = (button["args"][0] for button in scales("log", 0.0, 1.0, powers)["buttons"])
        assert log == changed(ticks("log", powers))
        assert (log["yaxis.type"], linear["yaxis.type"]) == ("log", "linear")
        assert set(linear) <= set(log)
        assert set(log) - set(linear) <= {"yaxis.minorloglabels"}  # which a linear axis does not have
        assert log["yaxis.tickformat"] or log["yaxis.minorloglabels"] == "complete"


@pytest.mark.parametrize("window", [600, 1300])
def test_buttons_of_a_row_do_not_cover_each_other(window: int) -> None:
    figure = channel_figure(SPEC, lines(["one", "two"]), Arms(["one", "two"]), ["RMSE"], {})
    margin, menus = figure["layout"]["margin"], figure["layout"]["updatemenus"]
    places: dict[float, list[tuple[float, float]]] = {}
    for menu in menus:
        begin = margin["l"] + menu["x"] * (window - 84 - margin["l"] - 150) + menu["pad"]["l"]
        # As Chromium draws them: 7 pixels a letter at most, and 25 around each label.
        width = sum(7 * len(button["label"]) + 25 for button in menu["buttons"])
        places.setdefault(menu["y"], []).append((begin, begin + width))
    assert sorted(map(len, places.values())) == [1, 2]
    for row in places.values():
        row.sort()
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(row))


def test_a_slider_has_room_for_its_last_label() -> None:
    names = ["3 Jan 06 UTC", "13 Jan 18 UTC"]
    pad = slider(names, "", 1.0)["pad"]
    assert min(pad["l"], pad["r"]) >= 5.5 * len(names[1]) / 2  # pixels of a letter, at that size


def test_an_arm_has_its_colour_in_all_runs_and_a_run_its_symbol() -> None:
    arms = Arms(["free", "oi", "vae"], ["a/", "b/"])
    for name in ("free", "oi", "vae"):
        assert arms.colour(f"a/{name}") == arms.colour(f"b/{name}")
    assert {arms.symbol(f"a/{name}") for name in ("free", "oi", "vae")} == {"circle"}
    assert {arms.symbol(f"b/{name}") for name in ("free", "oi", "vae")} == {"square"}
    assert "markers" in arms.line("b/oi", points=1000)["mode"]
    assert "markers" not in arms.line("a/oi", points=1000)["mode"]
    many = [f"arm{number}" for number in range(len(COLOURS) + 1)]
    arms = Arms(many, ["a/", "b/"])
    looks = {
        (arms.colour(f"{run}{name}"), arms.symbol(f"{run}{name}")) for run in ("a/", "b/") for name in many
    }
    assert len(looks) == 2 * len(many)


@pytest.mark.parametrize("count", [1, 2, 6, 14])
def test_a_line_that_lies_on_others_is_narrower_than_they_are(count: int) -> None:
    names = [f"arm{number}" for number in range(count)]
    arms = Arms(names)
    drawn = [trace["line"]["width"] for trace in map(arms.line, names)]
    assert drawn == sorted(set(drawn), reverse=True)
    assert min(drawn) >= 1.5
    assert max(drawn) <= 5.0
