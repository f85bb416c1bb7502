"""Links within the site, looked at in the pages as they are read."""

from __future__ import annotations

import os
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """The links of a page, and the places in it that a link can lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.places.add(value)
            elif name in ("href", "src") and value:
                self.links.add(value)


def broken(site: Path) -> list[str]:
    """Links that lead nowhere, each with its page. Those to elsewhere are not looked at.

    Args:
        site: the directory of the built pages.
    """
    page = cache(lambda path: _Page(Path(path).read_text(encoding="utf-8")))
    found = []
    for file in sorted(site.rglob("*.html")):
        for link in sorted(page(file).links):
            target = urlsplit(link)
            if target.scheme or target.netloc:
                continue
            path = Path(os.path.normpath(file.parent / unquote(target.path))) if target.path else file
            path = path / "index.html" if path.is_dir() else path
            place = unquote(target.fragment)
            lost = place and path.suffix == ".html" and path.is_file() and place not in page(path).places
            if lost or not path.is_file():
                found.append(f"{file.relative_to(site)}: {link}")
    return found
