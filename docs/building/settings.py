"""The keys of configs, from the constructors' signatures and docstrings."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from docstring_parser import DocstringStyle, parse

import vaevar
from vaevar.assim.assimilator import Assimilator
from vaevar.assim.control.base import ControlTransform
from vaevar.data.observations.networks import Network
from vaevar.data.weather.store import Source
from vaevar.forecast import Forecaster
from vaevar.short_names import modules_of_classes
from vaevar.state import StateSpec

PLACE = "<!-- the keys of every class -->"
CONFIGS = Path(__file__).parents[2] / "configs"
# Headings, and the classes below each; a class stands below the first that fits.
GROUPS: dict[str, type] = {
    "Methods": Assimilator,
    "Control transforms": ControlTransform,
    "Forecasters": Forecaster,
    "Where truth comes from": Source,
    "Networks of observations": Network,
    "Data modules": L.LightningDataModule,
    "Models and experiments": L.LightningModule,
    "Callbacks": L.Callback,
}
OTHERS = "Parts of these"
# What no config can hold: such classes are for Python, or for the program itself.
_OBJECTS = re.compile(r"ndarray|Tensor|\bPath\b|\bSettings\b|\bMapping\b")


def filled_in(text: str) -> str:
    """A page with the tables in the place of the comment that stands for them."""
    return text.replace(PLACE, tables()) if PLACE in text else text


@cache
def tables() -> str:
    """A section for each group, a heading and a table for each class."""
    sections: dict[str, list[str]] = {heading: [] for heading in (*GROUPS, OTHERS)}
    for cls in documented():
        sections[_group(cls)].append(_section(cls))
    foreign = ", ".join(
        f"`{name}`" for name in sorted(named_by_configs()) if name not in modules_of_classes()
    )
    parts = [f"## {heading}\n\n" + "\n".join(found) for heading, found in sections.items() if found]
    return "\n".join([*parts, f"\nFrom Lightning, and documented there: {foreign}.\n"])


@cache
def documented() -> list[type]:
    """The classes that the committed configs name, and all others of their kinds that one could name."""
    named = named_by_configs()
    found = {cls for name in modules_of_classes() for cls in _classes(name) if name in named or _usable(cls)}
    found |= {part for cls in found for part in _parts(cls)} | {StateSpec}
    bases = {base for cls in found for base in cls.__mro__[1:]}
    found -= {cls for cls in bases if cls.__name__ not in named | set(vaevar.__all__)}  # what others build on
    return sorted(found, key=lambda cls: cls.__name__)


def named_by_configs() -> set[str]:
    """The short names of classes in configs."""
    names: set[str] = set()
    for path in CONFIGS.rglob("*.yaml"):
        names |= set(_names(yaml.safe_load(path.read_text(encoding="utf-8"))))
    return names


def _names(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for item in content.values():
            yield from _names(item)
    elif isinstance(content, list):
        for item in content:
            yield from _names(item)
    elif isinstance(content, str) and re.fullmatch(r"[A-Z]\w*[a-z]\w*", content):
        yield content


def _classes(name: str) -> Iterator[type]:
    for module in modules_of_classes()[name]:
        cls = getattr(importlib.import_module(module), name, None)  # a line of a docstring has none
        if isinstance(cls, type):
            yield cls


def _usable(cls: type) -> bool:
    return _group(cls) != OTHERS and _configurable(cls)


def _configurable(cls: type) -> bool:
    required = (str(key.annotation) for key in _keys(cls) if key.default is inspect.Parameter.empty)
    objects = any(_OBJECTS.search(kind) and not re.search("str|Callable", kind) for kind in required)
    return not inspect.isabstract(cls) and bool(_keys(cls)) and not objects


def _parts(cls: type) -> Iterator[type]:
    """Classes of the package that are settings themselves, with keys of their own."""
    for key in _keys(cls):
        for name in re.findall(r"\b[A-Z]\w+", str(key.annotation)):
            for part in _classes(name) if name in modules_of_classes() else ():
                if dataclasses.is_dataclass(part) and _configurable(part):
                    yield part


def _group(cls: type) -> str:
    if "Protocol" in {base.__name__ for base in cls.__bases__}:
        return OTHERS
    return next((heading for heading, kind in GROUPS.items() if kind in cls.__mro__), OTHERS)


def _keys(cls: type) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        parameters = inspect.signature(cls).parameters.values()
    except ValueError:
        return []
    return [key for key in parameters if key.kind not in kinds]


def _section(cls: type) -> str:
    """The heading, what the class is, and its keys."""
    meaning = meanings(cls)
    documentation = parse(inspect.getdoc(cls) or "", DocstringStyle.GOOGLE)
    twins = [other for other in documented() if other.__name__ == cls.__name__]
    name = cls.__name__ if len(twins) == 1 else f"{cls.__name__} ({cls.__module__})"
    lines = [f"### {name}", "", _markdown(documentation.short_description or ""), ""]
    if keys := _keys(cls):
        lines += ["| key | type | default | |", "| --- | --- | --- | --- |"]
        lines += [_row(key, meaning.get(key.name, "")) for key in keys]
    else:
        lines.append("It has no keys.")
    return "\n".join([*lines, ""])


def meanings(cls: type) -> dict[str, str]:
    """What each key means, from the docstrings of a class and those that it derives from."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        documentation = parse(inspect.cleandoc(base.__doc__ or ""), DocstringStyle.GOOGLE)
        for entry in documentation.params:
            if entry.args[0] not in ("param", "attribute"):
                continue
            for name in entry.arg_name.split(","):
                found[name.strip()] = " ".join((entry.description or "").split())
    return found


def _row(key: inspect.Parameter, meaning: str) -> str:
    given = "required" if key.default is inspect.Parameter.empty else f"`{_default(key.default)}`"
    kind = "" if key.annotation is inspect.Parameter.empty else f"`{_kind(key.annotation)}`"
    cells = (f"`{key.name}`", kind, given, _markdown(meaning))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _kind(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return str(text).replace("None", "null")


def _default(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return str(list(value))
    return str(value) if isinstance(value, str | int | float | list | dict) else type(value).__name__


def _markdown(text: str) -> str:
    text = re.sub(r":\w+:`~?([^`]*)`", lambda role: f"`{role[1].rpartition('.')[2]}`", text)
    text = re.sub(r"``(.*?)``", r"`\1`", " ".join(text.split()))
    return re.sub(r"\bNone\b", "`null`", text.replace("*", "\\*"))
