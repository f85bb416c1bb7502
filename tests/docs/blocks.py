"""The code blocks and the commands of README and site."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if "generated" not in path.parts),
)
LANGUAGES = ("python", "bash", "sh", "yaml", "text")
_FENCE = re.compile(r"^(?:<!-- not run: (.+) -->\n)?```([^\n]*)\n(.*?)^```[ \t]*$", re.M | re.S)
_INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.M)
_INLINE = re.compile(r"`((?:python|make|vaevar) [^`]+)`")
_PROGRAMS = ("python", "make", "vaevar", "source", "git", "pip")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: where it stands.
        language: what follows the fence; a directive of the site is in braces.
        text: its lines.
        needs: why it is not run, by the comment before it; empty for one that is.
    """

    page: Path
    language: str
    text: str
    needs: str


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(page, found[2], found[3], found[1] or "") for found in _FENCE.finditer(text)]


def files_of(page: Path) -> dict[str, Block]:
    """The files that a reader of a page writes, by the path in the first line of a block."""
    found = {}
    for block in blocks(page):
        path = re.match(r"# (\S+\.(?:py|yaml))\n", block.text)
        if path and block.language in ("python", "yaml"):
            found[path[1]] = block
    return found


def commands(page: Path) -> Iterator[tuple[str, bool]]:
    """The commands of a page, from blocks, indented lines and the text.

    Yields:
        a command, and whether it stands there to be run, without more than is here.
    """
    for block in blocks(page):
        if block.language in ("bash", "sh"):
            yield from ((line, not block.needs) for line in lines_of(block.text))
    rest = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for indented in _INDENTED.findall(rest):
        lines = lines_of(re.sub(r"^ {4}", "", indented, flags=re.M))
        yield from ((line, True) for line in lines if line.split()[0] in _PROGRAMS)
    yield from ((found, True) for found in _INLINE.findall(_INDENTED.sub("", rest)) if "..." not in found)


def lines_of(script: str) -> Iterator[str]:
    """The simple commands of a script: continued lines joined, comments left out, lists taken apart."""
    for line in re.sub(r"\\\n\s*", " ", script).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield from (part.strip() for part in line.split("&&"))


def words_of(command: str) -> list[str]:
    """A command's words, without what it sets in the environment and what starts it on a cluster."""
    words = shlex.split(command, comments=True)
    while words and (re.match(r"\w+=", words[0]) or words[0] == "srun"):
        words.pop(0)
    return words
