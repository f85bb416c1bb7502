"""Pages that are other files of the repository, and links from one to the other.

Pages link to files as they lie in the repository, so that links work there too. On the site a result, a
source file or a config has a page of its own, below ``generated``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

GENERATED = "generated"
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?\)")
_ELSEWHERE = re.compile(r"\w+:")
_LANGUAGES = {
    ".py": "python",
    ".yaml": "yaml",
    ".toml": "toml",
    ".sh": "bash",
    ".json": "json",
    ".csv": "text",
}
_WHOLE = {
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
    "weights/README.md": "weights",
}


def page_of(path: str) -> str | None:
    """The page of a file of the repository, without its ending; None for a file that has none.

    Args:
        path: from the root of the repository.
    """
    if path == "README.md":
        return "index"
    if path in _WHOLE:
        return f"{GENERATED}/{_WHOLE[path]}"
    found = Path(path)
    if found.parts[0] == "docs" and found.suffix == ".md":
        return found.relative_to("docs").with_suffix("").as_posix()
    if path.startswith("benchmarks/results/") and found.suffix == ".md":
        return f"{GENERATED}/results/{found.stem}"
    return f"{GENERATED}/source/{path}" if found.suffix in _LANGUAGES else None


def generate(docs: Path) -> None:
    """Write the pages of results, of whole files, and of every file that a page links to.

    Args:
        docs: the directory of the pages; the repository is the one above.
    """
    root, copies = docs.parent, origins(docs)
    written = [file for file in docs.rglob("*.md") if GENERATED not in file.relative_to(docs).parts]
    texts = {
        file: file.read_text(encoding="utf-8")
        for file in (*written, *(root / path for path in copies.values()))
    }
    wanted = {page: _titled(texts[root / path], Path(path).stem) for page, path in copies.items()}
    shown = {file for origin, text in texts.items() for file in _files(text, origin, root)}
    shown |= {str(file.relative_to(root)) for file in root.glob("configs/**/*.yaml")}
    for path in sorted(shown):
        if (shown_on := page_of(path)) is not None and shown_on.startswith(f"{GENERATED}/source/"):
            wanted[shown_on] = _source(path, docs / shown_on)
    for page, text in wanted.items():
        _save(docs / f"{page}.md", text)
    for old in (docs / GENERATED).rglob("*.md"):
        if old.relative_to(docs).as_posix().removesuffix(".md") not in wanted:
            old.unlink()


def linked(docs: Path, page: str, text: str) -> str:
    """The text of a page with links to other pages of the site.

    Args:
        docs: the directory of the pages.
        page: its name, without its ending.
        text: as it stands in the file.

    Raises:
        ValueError: for a link to a file that is not there.
    """
    root = docs.parent
    origin = root / origins(docs).get(page, f"docs/{page}.md")
    here = (docs / page).parent

    def replaced(link: re.Match[str]) -> str:
        head, target, anchor = link[1], link[2], link[3] or ""
        if _ELSEWHERE.match(target):
            return link[0]
        path = os.path.normpath(origin.parent / target)
        if not os.path.exists(path):
            raise ValueError(f"{origin}: links to {target}, which is not there")
        relative = os.path.relpath(path, root)
        if os.path.isdir(path):
            return head.removeprefix("[").removesuffix("](")  # the text alone
        found = None if head.startswith("!") else page_of(relative)
        return f"{head}/{found}.md{anchor})" if found else f"{head}{os.path.relpath(path, here)}{anchor})"

    return _outside_of_code(text, lambda part: _LINK.sub(replaced, part))


def origins(docs: Path) -> dict[str, str]:
    """The files that generated pages are copies of, by page."""
    root = docs.parent
    results = (str(file.relative_to(root)) for file in root.glob("benchmarks/results/*.md"))
    return {str(page_of(path)): path for path in (*_WHOLE, *results)}


def _files(text: str, origin: Path, root: Path) -> Iterator[str]:
    """The files of the repository that a page links to."""
    for link in _LINK.finditer(text):
        path = os.path.normpath(origin.parent / link[2])
        if not _ELSEWHERE.match(link[2]) and os.path.isfile(path):
            yield os.path.relpath(path, root)


def _outside_of_code(text: str, change: Callable[[str], str]) -> str:
    parts = re.split(r"(^```.*?^```[ \t]*$|(?<!\[)`[^`\n]+`)", text, flags=re.M | re.S)
    return "".join(part if number % 2 else change(part) for number, part in enumerate(parts))


def _titled(text: str, name: str) -> str:
    """A text that begins with its title: that of a result may come after the command, or be missing."""
    found = re.search(r"^# (.+)\n", text, re.M)
    if found and found.start() == 0:
        return text
    rest = text if found is None else text[: found.start()] + text[found.end() :]
    return f"# {name if found is None else found[1]}\n\n{rest}"


def _source(path: str, page: Path) -> str:
    language = _LANGUAGES[Path(path).suffix]
    way = os.path.relpath(Path(__file__).parents[2] / path, page.parent)
    return f"---\norphan: true\n---\n\n# {path}\n\n```{{literalinclude}} {way}\n:language: {language}\n```\n"


def _save(path: Path, text: str) -> None:
    """Only where it has changed, or Sphinx would read it again."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
