"""Docstrings as reStructuredText: formulas stand in them as they are read, not as Sphinx would have them."""

from __future__ import annotations

import re
from typing import Any

import vaevar

# A name that ends in an underscore would be a link, and bars a substitution.
_SPECIAL = re.compile(r"(?<=[\w)])_(?=\W|$)|(?<!\w)\*(?=\S)|\*(?=[^\w\s])|\|")
_CODE = re.compile(r"(``.*?``|:\w+:`[^`]*`|`[^`]*`)")


def as_restructured_text(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Change a docstring in place, after napoleon: escape what has a meaning, and set formulas apart.

    An indented paragraph after text that does not end in a colon is a formula.
    """
    changed: list[str] = []
    formula = code = example = False
    for number, line in enumerate(lines):
        indented = line.startswith("    ") and not line.lstrip().startswith((":", "-", ">>>", "..."))
        before = lines[number - 1] if number else ""
        text_before = next((old for old in reversed(lines[:number]) if old.strip()), "")
        if indented and not before.strip() and not formula:
            formula = not text_before.startswith((":", "..", "    ")) and not code
            if formula:
                changed += [".. code-block:: text", ""]
        elif line.strip() and not line.startswith("    "):
            formula = False
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        code = line.startswith(".. ") or (code and (not line.strip() or line.startswith(" ")))
        verbatim = formula or example or code
        changed.append(line if verbatim else _escaped(line, line.lstrip().startswith(":")))
    lines[:] = changed


def _escaped(line: str, directive: bool) -> str:
    head = ""
    if directive and (field := re.match(r"\s*:[^:`]+:(?!`)", line)):
        head, line = field[0], line[field.end() :]
    parts = _CODE.split(line)
    return head + "".join(
        part if number % 2 else _SPECIAL.sub(lambda found: "\\" + found[0], part)
        for number, part in enumerate(parts)
    )


def public_name(app: Any, environment: Any, node: Any, content: Any) -> Any:
    """A reference to the module where a public class is defined leads to its public name."""
    name = str(node.get("reftarget", "")).rpartition(".")[2]
    if node.get("refdomain") != "py" or name not in vaevar.__all__ or "." not in node["reftarget"]:
        return None
    if node["reftarget"] == f"vaevar.{name}":
        return None
    domain = environment.get_domain("py")
    return domain.resolve_xref(
        environment, node["refdoc"], app.builder, node["reftype"], f"vaevar.{name}", node, content
    )
