"""Short names of classes in configs: ``class_path: ThreeDVar``, or ``ThreeDVar`` alone.

Which module defines which class is read from the package's own source, so a class in a new file has a short
name at once, and nothing is imported that no config asks for. A ``class_path`` becomes the full path as the
config is read. A bare name may stand for a class where the parser expects an object; jsonargparse knows it
once its module is imported, which happens as the config is read too.
"""

from __future__ import annotations

import difflib
import importlib
import re
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from vaevar.mistakes.place import place_of
from vaevar.runs.expansion import expand_paths

_ROOT = Path(__file__).parent
_CLASS = re.compile(r"^class ([A-Za-z]\w*)", re.MULTILINE)
_NO_SUCH_PART = re.compile(r"Unexpected import path format: (\S+\.ya?ml)\s*$")
_NO_SUCH_CLASS = re.compile(r"Expected a dot import path string: (\w+)\s*$")


@cache
def modules_of_classes() -> dict[str, tuple[str, ...]]:
    """The modules of the package that define a public class of each name."""
    modules: dict[str, tuple[str, ...]] = {}
    for path in sorted(_ROOT.rglob("*.py")):
        module = ".".join((_ROOT.name, *path.relative_to(_ROOT).with_suffix("").parts))
        for name in _CLASS.findall(path.read_text(encoding="utf-8")):
            modules[name] = (*modules.get(name, ()), module)
    return modules


def resolve_names(content: Any) -> Any:
    """A config with full class paths; the modules of all classes that it names are imported.

    Args:
        content: mappings, lists and scalars. A string that happens to be the name of a class does no harm.
    """
    if isinstance(content, dict):
        return {
            key: _full_path(item) if key == "class_path" else resolve_names(item)
            for key, item in content.items()
        }
    if isinstance(content, list):
        return [resolve_names(item) for item in content]
    if isinstance(content, str):
        _import(content)
    return content


def _full_path(name: Any) -> Any:
    modules = modules_of_classes().get(name, ()) if isinstance(name, str) else ()
    _import(name)
    # Of several classes with one name, the parser takes the one that fits.
    return f"{modules[0]}.{name}" if len(modules) == 1 else name


def _import(name: str) -> None:
    for module in modules_of_classes().get(name, ()):
        importlib.import_module(module)


@cache
def accept_short_names() -> None:
    """Let every jsonargparse parser of this process, now and later, know the package's classes by name.

    What it reads passes here, config files and options alike, so paths are expanded here too.
    """
    load = get_loader("yaml")

    def read(text: str) -> Any:
        refuse_repeated_keys(text)
        return resolve_names(expand_paths(load(text)))

    # A text of the command line that is no YAML is a text.
    set_loader("yaml", read, exceptions=(yaml.YAMLError,))


def refuse_repeated_keys(text: str) -> None:
    """Check that no mapping of a YAML text has a key twice: the second would win without a word.

    Raises:
        YAMLError: when one has, and for a text that is no YAML.
    """
    if ":" in text:
        _refuse_repeated(yaml.compose(text, Loader=yaml.SafeLoader))


def _refuse_repeated(node: yaml.Node | None, path: str = "") -> None:
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _refuse_repeated(item, f"{path}{number}.")
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if key.value in lines and key.value != "<<":
                first = lines[key.value]
                problem = f"{path}{key.value} is given twice, first in line {first}; leave one of them"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            lines[str(key.value)] = line
            _refuse_repeated(item, f"{path}{key.value}.")


def misspelt(error: BaseException) -> str | None:
    """One line for an unknown short name, with the names nearest to it, or for a part file that is missing.
    None for any other error.

    Args:
        error: what the parser raised; those it came from are looked at too.
    """
    line = None
    cause: BaseException | None = error
    while cause is not None:
        if part := _NO_SUCH_PART.search(str(cause)):
            line = f"{part[1]}: no such file; the path of a part starts at the config that names it"
        match = _NO_SUCH_CLASS.search(str(cause))
        # The innermost error is the one that knows which class was expected.
        if match and (expected := _expected_class(cause)):
            nearest = nearest_classes(match[1], expected)
            hint = f"did you mean {' or '.join(nearest)}?" if nearest else "give its full path"
            line = f"{match[1]}: no {expected.__name__} has this name; {hint}"
        cause = cause.__cause__ or cause.__context__
    file = place_of(error).file if line else None
    return f"{file}: {line}" if file else line


def _expected_class(error: BaseException) -> type | None:
    """The class that the parser wanted a subclass of. Only the parser's own stack frames tell."""
    expected = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        hint = frame.f_locals.get("typehint")
        expected = hint if isinstance(hint, type) else expected
    return expected


def nearest_classes(name: str, expected: type) -> list[str]:
    """Short names like a misspelt one.

    Args:
        name: without its module.
        expected: the class that they are subclasses of.
    """
    lower = {name.lower(): name for name in modules_of_classes()}
    for near in difflib.get_close_matches(name.lower(), lower, n=10):
        _import(lower[near])
    fitting = {cls.__name__.lower(): cls.__name__ for cls in _subclasses(expected)}
    return [fitting[near] for near in difflib.get_close_matches(name.lower(), fitting)]


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
