"""Somebody's own code: which modules it is, and a digest of the source of each."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

_INSTALLED = {"site-packages", "dist-packages"}


def is_own(module: str | None) -> bool:
    """Whether a module is somebody's own: not of Python, of an installed library, or of this package.

    Args:
        module: its full name; a notebook's or a script's is ``__main__``. None: of nothing in Python.
    """
    return bool(module) and _is_own(str(module).partition(".")[0])


@cache
def _is_own(root: str) -> bool:
    if root == "__main__":
        return True
    if root == "vaevar" or root in sys.stdlib_module_names or root in sys.builtin_module_names:
        return False
    places = _places(root)
    # Of a name without a file, such as that of a class made in memory, nothing else tells.
    return not any(_INSTALLED & set(Path(place).parts) for place in places)


def _places(root: str) -> list[str]:
    module = sys.modules.get(root)
    if module is not None:
        return (
            [str(module.__file__)]
            if getattr(module, "__file__", None)
            else [*getattr(module, "__path__", [])]
        )
    spec = PathFinder.find_spec(root)
    return (
        [] if spec is None else [spec.origin] if spec.origin else [*(spec.submodule_search_locations or ())]
    )


def sources(*modules: str) -> dict[str, str]:
    """A digest of the source of each own module among these, and of those that they import, by its name.

    Comments, docstrings and the layout do not count. A script that was started has no entry of its own, nor
    has a notebook: of those, the functions and classes count.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = None if name in found or name == "__main__" or not is_own(name) else source_file(name)
        if path is None:
            continue
        content = path.read_bytes()
        tree = _tree(content) if path.suffix == ".py" else None
        kept = content if tree is None else ast.dump(tree).encode()
        found[name] = f"sha256:{hashlib.sha256(kept).hexdigest()[:16]}"
        waiting.append(name.rpartition(".")[0])
        if tree is not None:
            waiting.extend(_imports(tree, name if path.stem == "__init__" else name.rpartition(".")[0]))
    return dict(sorted(found.items()))


def source_file(module: str) -> Path | None:
    """The file of a module, which need not be imported; None where there is none."""
    loaded = getattr(sys.modules.get(module), "__file__", None)
    spec = None if loaded else _spec(module)
    path = Path(loaded or (spec.origin if spec is not None and spec.origin else ""))
    return path if path.is_file() else None


def _spec(module: str) -> ModuleSpec | None:
    """Where a module would be found. Nothing is imported, which would run its code."""
    if not module:
        return None
    parent = module.rpartition(".")[0]
    if not parent:
        return PathFinder.find_spec(module)
    outer = _spec(parent)
    if outer is None or outer.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(module, list(outer.submodule_search_locations))


def _tree(content: bytes) -> ast.Module | None:
    """The code without its docstrings; None for what is no code."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Names of what a module imports; some are those of functions and classes.

    Args:
        tree: the module.
        package: that it belongs to.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def named_code(path: str) -> dict[str, str]:
    """The :func:`sources` of the function or the class that an import path names; nothing for other texts.

    Args:
        path: such as ``my_package.steady.step``, which has been imported.
    """
    parts = path.split(".")
    if not all(part.isidentifier() for part in parts):
        return {}
    for length in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:length]))
        if module is not None:
            return sources(*_modules(module, parts[length:]))
    return {}


def _modules(item: Any, names: list[str]) -> set[str]:
    """Modules of what attributes of attributes lead to: where it was found, and where it was written."""
    found = {item.__name__}
    for name in names:
        if not hasattr(item, name):
            return set()
        item = getattr(item, name)
    bases = item.__mro__ if isinstance(item, type) else type(item).__mro__
    written = (getattr(part, "__module__", None) for part in (inspect.unwrap(item), item, *bases))
    return found | {str(name) for name in written if name}
