"""Runs docs/library.md as a notebook, and makes the pictures of that page.

    make notebook

Writes `build/library.ipynb`, with the outputs of its cells, and `docs/pictures/library_<number>.png`, one for
each cell that draws. The embedded world's truth is generated first, in `build/library`, and kept there.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
PAGE, PICTURES, BUILT = HERE / "library.md", HERE / "pictures", HERE.parent / "build"
FIRST = """%matplotlib inline
import matplotlib

matplotlib.rcParams.update({"figure.figsize": (7.2, 3.2), "figure.dpi": 80})"""


def cells_of(page: str) -> Iterator[nbformat.NotebookNode]:
    """The text of a page and its blocks of Python, in turn, as cells; its pictures are left out."""
    for number, part in enumerate(re.split(r"^```python\n(.*?)^```\n", page, flags=re.M | re.S)):
        text = part.strip() if number % 2 else re.sub(r"^!\[.*\)\n", "", part, flags=re.M).strip()
        if text:
            yield (nbformat.v4.new_code_cell if number % 2 else nbformat.v4.new_markdown_cell)(text)


def pictures_of(notebook: nbformat.NotebookNode) -> Iterator[bytes]:
    """What the cells of a notebook draw, as PNG."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                yield base64.b64decode(output["data"]["image/png"])


def main() -> None:
    notebook = nbformat.v4.new_notebook(cells=list(cells_of(PAGE.read_text(encoding="utf-8"))))
    notebook.cells.insert(1, nbformat.v4.new_code_cell(FIRST))
    place = BUILT / "library"
    place.mkdir(parents=True, exist_ok=True)
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(place)}}).execute()
    nbformat.write(notebook, BUILT / "library.ipynb")
    PICTURES.mkdir(exist_ok=True)
    for number, picture in enumerate(pictures_of(notebook), start=1):
        (PICTURES / f"library_{number}.png").write_bytes(picture)
    print(f"wrote {BUILT / 'library.ipynb'} and {number} pictures below {PICTURES}")


if __name__ == "__main__":
    main()
