"""Reads a report as a browser does."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Picture:
    """A figure of a report."""

    data: list[dict[str, Any]]
    layout: dict[str, Any]
    frames: list[dict[str, Any]]


def picture(path: Path, name: str) -> Picture:
    """A figure by the name of its element."""
    text = path.read_text(encoding="utf-8")
    call = re.search(rf'Plotly\.newPlot\(\s*"{name}",\s*', text)
    assert call, f"{path} has no figure {name}"
    decoder = json.JSONDecoder()
    data, end = decoder.raw_decode(text, call.end())
    layout, end = decoder.raw_decode(text, re.compile(r",\s*").match(text, end).end())  # type: ignore[union-attr]
    added = re.compile(rf"Plotly\.addFrames\('{name}', ").search(text, end)
    frames = decoder.raw_decode(text, added.end())[0] if added else []
    return Picture(data, layout, frames)


def numbers(packed: Any) -> np.ndarray:
    """An array as it was packed."""
    if not isinstance(packed, dict):
        return np.asarray(packed)
    values = np.frombuffer(base64.b64decode(packed["bdata"]), np.dtype(packed["dtype"]).newbyteorder("<"))
    shape = [int(size) for size in str(packed.get("shape", values.size)).split(",")]
    return values.reshape(shape)


class _Tables(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[tuple[str, bool]]]] = []
        self._cell: str | None = None
        self._best = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell, self._best = "", ("class", "best") in attrs

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1][-1].append((self._cell.strip(), self._best))
            self._cell = None


def summary(path: Path) -> list[list[tuple[str, bool]]]:
    """The cells of the first table, with whether each is marked."""
    text = path.read_text(encoding="utf-8")
    reader = _Tables()
    reader.feed(text[text.index('<section id="summary">') : text.index('<section id="errors">')])
    return reader.tables[0] if reader.tables else []


def section(path: Path, name: str) -> str:
    """The text of a section; empty where there is none."""
    text = path.read_text(encoding="utf-8")
    begin = text.find(f'<section id="{name}">')
    return text[begin : text.index("</section>", begin)] if begin >= 0 else ""
