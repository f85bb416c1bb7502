"""Types and values as people read them."""

from __future__ import annotations

import inspect
import types
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import Namespace

_PLAIN: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}
_CONTAINERS = ((dict, "a mapping"), (list, "a list"), (tuple, "a list"))
_SHOWN = 60


def type_text(hint: Any) -> str:
    """What a setting of a type may be, such as ``a whole number or null``."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        # Two lists of choices may share some.
        texts = " or ".join(type_text(part) for part in get_args(hint)).split(" or ")
        return " or ".join(dict.fromkeys(texts))
    if origin is Literal:
        return " or ".join(dict.fromkeys(_literal(choice) for choice in get_args(hint)))
    kind = origin or hint
    if inspect.isclass(kind):
        for container, text in _CONTAINERS:
            if issubclass(kind, container):
                return f"{text} of {_many(get_args(hint)[-1])}" if get_args(hint) else text
        return object_text(kind)
    return str(hint).replace("typing.", "")


def object_text(cls: type) -> str:
    """Such as ``an Assimilator``."""
    return f"{'an' if cls.__name__[0] in 'AEIO' else 'a'} {cls.__name__}"


def value_text(value: Any) -> str:
    """A value, shortened; an object by its class."""
    if isinstance(value, Namespace):
        value = value.get("class_path", value.as_dict())
    elif isinstance(value, dict) and "class_path" in value:
        value = value["class_path"]
    text = _value(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def class_in(hint: Any) -> type | None:
    """The class that a type stands for, also as one of several or as a container's element."""
    parts = get_args(hint) if get_origin(hint) is not Literal else ()
    for part in (hint, *parts):
        if inspect.isclass(part) and part not in _PLAIN and get_origin(part) is None:
            return part
    return next((found for part in parts if (found := class_in(part))), None)


def _many(hint: Any) -> str:
    return {int: "whole numbers", float: "numbers", str: "texts"}.get(hint, _kind(hint))


def _kind(hint: Any) -> str:
    plain = inspect.isclass(hint) and get_origin(hint) is None
    return f"the kind {hint.__name__}" if plain else type_text(hint)


def _literal(choice: Any) -> str:
    return choice if isinstance(choice, str) else _value(choice)


def _value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)
