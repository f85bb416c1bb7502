"""Draws what a model shows of itself; how is registered by the class of the content."""

from __future__ import annotations

from functools import singledispatch

from vaevar.models.held_out.views import Curves, HeldOut, Levels, Maps
from vaevar.state import VARIABLES, StateSpec
from vaevar.verification.fits.maps import map_figure
from vaevar.verification.page.channels import Line, channel_figure
from vaevar.verification.page.figures import Arms, Figure, packed
from vaevar.verification.page.levels import Profile, level_figure
from vaevar.verification.page.sections import Section, section
from vaevar.verification.page.ticks import ticks
from vaevar.verification.page.units import in_units, units_of


def sections_of(shown: HeldOut) -> list[Section]:
    """A section for each view of a model."""
    return [
        section(
            view.anchor, view.title, view.text, draw(view.content, shown.spec),
        )
        for view in shown.views
    ]  # fmt: skip


@singledispatch
def draw(content: object, spec: StateSpec) -> Figure | None:
    """A figure of what a view contains; None where there is nothing to draw.

    Args:
        content: of a view.
        spec: the channels.

    Raises:
        TypeError: for a content that no figure is known for.
    """
    raise TypeError(f"a view of {type(content).__name__}: no figure is known for it")


@draw.register
def _(content: Maps, spec: StateSpec) -> Figure | None:
    return map_figure(spec, content)


@draw.register
def _(content: Levels, spec: StateSpec) -> Figure:
    profiles = [Profile(name, "", values) for name, values in content.values.items()]
    return level_figure(spec, profiles, Arms(list(content.values)))


@draw.register
def _(content: Curves, spec: StateSpec) -> Figure | None:
    along_axis = {"title": content.axis} | ticks("log" if content.logarithmic else "linear")
    along = {"x": packed(content.places)}
    lines = [
        Line(name, "", 0, along, in_units(spec, values, content.power))
        for name, values in content.lines.items()
    ]
    lines += [Line(name, "", 0, along, None, mean) for name, mean in content.means.items()]
    names = list(dict.fromkeys([*content.lines, *content.means]))

    def title(variable: str) -> str:
        if variable not in VARIABLES:
            return content.values
        units = units_of(variable).text
        return f"{variable}, {units}" if content.power == 1 else f"power of {variable}, ({units})²"

    return channel_figure(
        spec if content.lines else None, lines, Arms(names), [""], along_axis,
        content.logarithmic, title, content.power != 1,
    )  # fmt: skip
