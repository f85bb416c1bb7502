"""The page of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from vaevar import __version__
from vaevar.runs.record import now
from vaevar.verification.page.names import clock
from vaevar.verification.page.sections import Section


@dataclass(frozen=True)
class Page:
    """What is on the page.

    Attributes:
        title: names of the runs.
        about: of each run, what it was in a sentence, and the command that makes it again.
        runs: of each, its name, facts about it (name and value) and its config.
        head, table: of the summary: titles of the columns, and cells with whether each is marked.
        notes: paragraphs beside it, the last below the table.
        sections: in order.
        faults: what is missing, in a line each.
        settings: of arms: name, method and settings.
    """

    title: str
    about: Sequence[tuple[str, str]]
    runs: Sequence[tuple[str, Sequence[tuple[str, str]], str]]
    head: Sequence[str]
    table: Sequence[Sequence[tuple[str, bool]]]
    notes: Sequence[str]
    sections: Sequence[Section]
    faults: Sequence[str]
    settings: Sequence[tuple[str, str, str]] = ()


def render(page: Page) -> str:
    """The page as HTML, complete in itself."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = _code
    return environment.from_string(_template()).render(
        vars(page), script=get_plotlyjs(), written=clock(now()), version=__version__
    )


def config_text(directory: Path) -> str:
    """The resolved config of a run; empty without one."""
    path = directory / "config.yaml"
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _code(text: str) -> Markup:
    """A text in which `this` is code, as in Markdown."""
    parts = [
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


@cache
def _template() -> str:
    return Path(__file__).with_name("page.html").read_text(encoding="utf-8")
