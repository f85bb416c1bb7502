"""Parts of a report's page, with their figures."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.io

from vaevar.verification.page.figures import Figure

# Buttons that need no network.
_CONFIG = {
    "displaylogo": False, "responsive": True, "displayModeBar": "hover",
    "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
}  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: its place, for links.
        title: above it.
        text: how to read it.
        figures: as HTML, each with a title, which may be empty.
        missing: why there is none, and how to get it.
    """

    anchor: str
    title: str
    text: str
    figures: tuple[tuple[str, str], ...]
    missing: str = ""


def section(anchor: str, title: str, text: str, *figures: Figure | None, missing: str = "") -> Section:
    """A part of the page.

    Args:
        anchor, title, text: as in :class:`Section`.
        figures: those that are None are left out.
        missing: said where all are.
    """
    pictures = tuple(
        ("", figure_html(figure, anchor, number))
        for number, figure in enumerate(figures)
        if figure is not None
    )
    return Section(anchor, title, text, pictures, "" if pictures else missing)


def figure_html(figure: Figure, anchor: str, number: int) -> str:
    """A figure as a part of a page, in an element that is named after the section and the number."""
    text = plotly.io.to_html(
        figure, config=_CONFIG, auto_play=False, include_plotlyjs=False, full_html=False,
        div_id=f"{anchor}-{number}", default_height=f"{figure['layout']['height']}px", validate=False,
    )  # fmt: skip
    # Plotly escapes slashes, of which packed numbers are full. That it escapes "<" keeps texts from ending
    # the script.
    return str(text).replace("\\u002f", "/")
