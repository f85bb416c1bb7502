"""The site says everything that there is: settings, public names, variables of the environment, results."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import vaevar
from tests.docs.blocks import PAGES, ROOT
from vaevar.cli import VaevarCLI, main

DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def module_of(path: Path) -> ModuleType:
    """A file of the site that is no part of a package."""
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def settings() -> ModuleType:
    return module_of(DOCS / "building" / "settings.py")


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return module_of(DOCS / "building" / "pages.py")


def test_every_public_name_is_in_the_reference() -> None:
    assert sorted(re.findall(r"^\.\. auto\w+:: vaevar\.(\w+)$", page("api"), re.M)) == vaevar.__all__


def test_every_class_of_the_configs_has_its_keys(settings: ModuleType) -> None:
    tables = settings.tables()
    for name in settings.named_by_configs():
        assert f"### {name}\n" in tables or f"`{name}`" in tables.splitlines()[-1], name
    assert "| `lambda_` | `float \\| null` | `1.0` | λ." in tables
    assert "| `count` | `int` | required |" in tables


def test_every_key_has_a_meaning(settings: ModuleType) -> None:
    without = {
        f"{cls.__name__}.{key.name}"
        for cls in settings.documented()
        for key in settings._keys(cls)
        if not settings.meanings(cls).get(key.name)
    }
    assert not without


def test_no_heading_of_the_settings_comes_twice(settings: ModuleType) -> None:
    headings = re.findall(r"^### (.+)$", settings.tables(), re.M)
    assert sorted(set(headings)) == sorted(headings)


@pytest.mark.parametrize("command", ["fit", "predict"])
def test_the_keys_of_the_top_level(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsers = []

    def remember(self: VaevarCLI, parser: object, args: object) -> None:
        parsers.append(self._parser(command))
        raise SystemExit

    monkeypatch.setattr(VaevarCLI, "parse_arguments", remember)
    with pytest.raises(SystemExit):
        main([command])
    keys = {action.dest.split(".")[0] for action in parsers[0]._actions} - {"help", "config", "print_config"}
    if command != "fit":
        keys -= {"optimizer", "lr_scheduler"}  # which are refused
    rows = re.findall(r"^\| (`.+`) \| (.+) \|", page("settings"), re.M)
    listed = {key for names, of in rows if command in of for key in re.findall(r"`(\w+)`", names)}
    assert listed == keys


def test_every_variable_of_the_environment_is_named() -> None:
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "vaevar").rglob("*.py"))
    read = {name for text in texts for name in re.findall(r"\bVAEVAR_[A-Z_]+\b", text)}
    assert read <= set(re.findall(r"`(\w+)`", page("settings")))


def test_every_result_has_its_command() -> None:
    table = page("numbers")
    for path in (ROOT / "benchmarks" / "results").iterdir():
        if path.suffix in (".md", ".json"):
            assert f"(../benchmarks/results/{path.name})" in table, path.name


def headings(text: str) -> Iterator[str]:
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.match(r"\w+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = path if not file else path.parent / file
        if "generated/" not in target:
            assert found.exists(), target
        if anchor and found != DOCS / "settings.md":  # whose headings are made
            assert anchor in set(headings(found.read_text(encoding="utf-8"))), target


def test_links_between_files_become_links_between_pages(pages: ModuleType) -> None:
    text = "[a](../benchmarks/results/comparison.md#windows) [b](../vaevar/assim/cost.py) [c](https://x.y)"
    assert pages.linked(DOCS, "windows", text) == (
        "[a](/generated/results/comparison.md#windows) [b](/generated/source/vaevar/assim/cost.py.md) [c](https://x.y)"
    )
    assert pages.linked(DOCS, "generated/weights", "[d](../docs/windows.md)") == "[d](/windows.md)"
    assert pages.linked(DOCS, "index", "![e](../benchmarks/results/comparison.png), `[f](g)`") == (
        "![e](../benchmarks/results/comparison.png), `[f](g)`"
    )
    with pytest.raises(ValueError, match=r"index\.md: links to gone\.md, which is not there"):
        pages.linked(DOCS, "index", "[h](gone.md)")


def test_links_of_the_built_site_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(
        '<p id="top"><a href="sub/b.html#x y">1</a><a href="#top">2</a><a href="https://x.y/gone">3</a>'
        '<a href="sub/c.html">4</a><a href="sub/b.html#z">5</a><img src="gone.png"><a href="#gone">6</a>'
    )
    (tmp_path / "sub" / "b.html").write_text('<p id="x y"><a href="../a.html#top">1</a>')
    assert module_of(DOCS / "building" / "links.py").broken(tmp_path) == [
        "a.html: #gone", "a.html: gone.png", "a.html: sub/b.html#z", "a.html: sub/c.html"
    ]  # fmt: skip


def test_all_pages_are_in_a_table_of_contents() -> None:
    listed = set()
    for text in (page("index"), page("numbers")):
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", text, re.S):
            lines = [line for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {re.sub(r".*<(.+)>", r"\1", line) for line in lines}
    names = {path.relative_to(DOCS).with_suffix("").as_posix() for path in PAGES if path.is_relative_to(DOCS)}
    assert names - {"index"} == {name for name in listed if not name.startswith("generated/")}


def test_the_page_becomes_a_notebook() -> None:
    pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    module = module_of(DOCS / "notebook.py")
    cells = list(module.cells_of("# T\n\ntext\n\n```python\nx = 1\n```\n\n![p](pictures/p.png)\n\n## U\n"))
    assert [(cell.cell_type, cell.source) for cell in cells] == [
        ("markdown", "# T\n\ntext"), ("code", "x = 1"), ("markdown", "## U")
    ]  # fmt: skip
