"""The Python of README and site runs, and every block is of a kind that is looked at."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import LANGUAGES, PAGES, ROOT, Block, blocks, files_of, name_of

BLOCKS = [block for page in PAGES for block in blocks(page)]
# Run by tests of their own, on the embedded world and in a copy of the package.
ELSEWHERE = {
    ROOT / "docs" / "library.md",
    *(page for page in PAGES if any(p.endswith(".py") for p in files_of(page))),
}
RUN = [
    page
    for page in PAGES
    if page not in ELSEWHERE and any(block.language == "python" and not block.needs for block in blocks(page))
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{name_of(block.page)}: {block.text[:30]!r}")
def test_blocks_are_what_they_say(block: Block) -> None:
    if block.language.startswith("{"):
        return  # of the site, which is built with warnings as errors
    assert block.language in LANGUAGES, f"{name_of(block.page)}: give the block one of {LANGUAGES}"
    if block.language == "python":
        ast.parse(block.text)
    if block.language == "yaml":
        assert isinstance(yaml.safe_load(block.text), dict)


@pytest.mark.parametrize("page", RUN, ids=name_of)
@pytest.mark.filterwarnings("ignore")
def test_python_of_pages_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom of each page, with what a fresh clone has."""
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python" and not block.needs:
            exec(compile(block.text, name_of(page), "exec"), names)
