"""How Sphinx makes a site of these pages: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sphinx.errors import ExtensionError

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from building import docstrings, links, pages, settings  # noqa: E402

import vaevar  # noqa: E402

project, author, copyright = "vaevar", "the authors of vaevar", "the authors of vaevar, Apache-2.0"
release = version = vaevar.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["building", "__pycache__"]
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
# Results and weights/README.md are files of their own, with headings as they like.
suppress_warnings = ["myst.header"]
highlight_language = "text"  # indented blocks are formulas and listings of files

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # those of Lightning refer to its own site
autodoc_typehints = "signature"
napoleon_use_ivar = True
toc_object_entries = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "vaevar"
html_theme_options = {"source_edit_link": "", "top_of_page_buttons": []}
html_static_path, html_css_files = ["building/static"], ["site.css"]
html_show_sphinx = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

linkcheck_timeout = 20


def setup(app: Any) -> None:
    """Pages that are other files of the repository, links to them, and what is read from the code."""
    app.connect("builder-inited", lambda app: pages.generate(HERE))
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", docstrings.as_restructured_text)
    app.connect("missing-reference", docstrings.public_name)
    app.connect("build-finished", _check_links)


def _read(app: Any, page: str, source: list[str]) -> None:
    source[0] = pages.linked(HERE, page, settings.filled_in(source[0]))


def _check_links(app: Any, failure: Exception | None) -> None:
    if failure is None and app.builder.name == "html" and (lost := links.broken(Path(app.outdir))):
        raise ExtensionError(f"{len(lost)} links lead nowhere: {'; '.join(lost)}")
