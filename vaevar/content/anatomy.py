"""One digest of a function, a class or an object, with all that it reaches of somebody's own code."""

from __future__ import annotations

import hashlib
import inspect
from collections import deque
from collections.abc import Iterator, Mapping
from dis import get_instructions
from functools import cached_property, partial
from types import CodeType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

import lightning as L
import numpy as np
from torch import nn

from vaevar.content.leaves import bound_to, leaf, name_of, root
from vaevar.content.source import is_own, sources

# What a class says about its settings.
_SAYINGS = ("not_settings", "without_effect", "may_grow", "independent", "outputs")
# Properties that say what a file that was opened holds.
_SAID = ("description", "normalisation")
_BASES = (nn.Module(), L.LightningModule(), L.LightningDataModule())
_SLOTS: tuple[type, ...] = (MemberDescriptorType, GetSetDescriptorType)
_NOT_SETTINGS = {name for base in _BASES for name in vars(base)} | {"trainer"}

Parts = Iterator[tuple[str, Any]]


def digest(value: Any, name: str) -> str:
    """A digest of a value and of what it reaches. Whatever is met again is numbered, as in a pickle.

    Args:
        value: any.
        name: of it, for messages.

    Raises:
        UserError: when something in it cannot be told from another of its kind.
    """
    return _digest([("", value)], name, [])


def code_of(cls: type, name: str) -> str:
    """A digest of the code of somebody's own class, which may be another under the same name; empty for one
    of a library or of this package, whose version is in the record of a run. What it keeps is not in it.

    Args:
        cls: any.
        name: of an object of the class, for messages.
    """
    own = own_classes(cls)
    methods = [(key, item) for base in own for key, item in _members(base) if _is_code(item)]
    return _digest(methods, name, own) if methods else ""


def kept_by(cls: type) -> dict[str, Any]:
    """What somebody's own class keeps for all of its objects, by name."""
    return {
        key: item for base in own_classes(cls)[::-1] for key, item in _members(base) if not _is_code(item)
    }


def own_classes(cls: type) -> list[type]:
    """Those among its bases, and itself, that are somebody's own."""
    return [base for base in cls.__mro__ if is_own(base.__module__)]


def state_of(value: Any) -> dict[str, Any]:
    """The attributes of an object that make it what it is.

    Of somebody's own class all count, those of this package's that begin with ``_`` do not: caches, opened
    files. A class says in ``not_settings`` and ``without_effect`` which others do not.
    """
    cls = type(value)
    own = bool(own_classes(cls))
    left_out = {*_NOT_SETTINGS, *getattr(cls, "not_settings", ()), *getattr(cls, "without_effect", ())}
    found = {
        slot: getattr(value, slot)
        for base in cls.__mro__
        for slot, item in vars(base).items()
        if isinstance(item, MemberDescriptorType) and hasattr(value, slot)
    }
    found |= getattr(value, "__dict__", {})
    if isinstance(value, nn.Module):
        found |= dict(value.named_children())
    found |= {said: getattr(value, said) for said in _SAID if hasattr(cls, said)}
    theirs = _private(cls) if own else set()
    return {
        key: item
        for key, item in found.items()
        if key not in left_out
        and not (key.startswith("_") and (not own or key in theirs))
        and not isinstance(getattr(cls, key, None), cached_property)
    }


def _private(cls: type) -> set[str]:
    """Private attributes that the bases from this package and from torch keep for themselves."""
    bases = [base for base in cls.__mro__ if root(base) in ("vaevar", "torch", "lightning")]
    functions = [inspect.unwrap(item) for base in bases for _, item in _members(base) if callable(item)]
    codes = [item.__code__ for item in functions if inspect.isfunction(item)]
    return {name for code in codes for name in _names(code) if name.startswith("_")}


def _digest(start: list[tuple[str, Any]], name: str, known: list[Any]) -> str:
    numbers = {id(item): number for number, item in enumerate(known)}
    found = hashlib.sha256()
    waiting, kept = deque([iter(start)]), list(known)
    while waiting:
        for key, item in waiting.popleft():
            text = None if item is not None else "None"
            if item is not None and id(item) not in numbers:
                text = leaf(item, f"{name}{'.' if key else ''}{key}")
            if text is None and id(item) not in numbers:
                numbers[id(item)] = len(kept)
                kept.append(item)  # or its number could go to another
                waiting.append(_parts(item))
            found.update(f"{key} {numbers[id(item)] if text is None else repr(text)}\n".encode())
        found.update(b"\n")
    return f"sha256:{found.hexdigest()[:16]}"


def _parts(value: Any) -> Parts:
    """What a value consists of."""
    yield "is", type(value).__qualname__
    if isinstance(value, ModuleType):
        yield "name", value.__name__
    elif isinstance(value, type):
        yield from _of_class(value)
    elif isinstance(value, partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif inspect.isroutine(value):
        yield from _of_routine(value)
    elif isinstance(value, Mapping):
        for number, (key, item) in enumerate(value.items()):
            yield from ((f"key {number}", key), (f"value {number}", item))
    elif isinstance(value, set | frozenset):
        yield from (("item", text) for text in sorted(digest(item, "an item of a set") for item in value))
    elif isinstance(value, np.ndarray):
        yield from (("shape", value.shape), ("items", value.tolist()))
    elif isinstance(value, list | tuple | deque):
        yield from (("item", item) for item in value)
    else:
        yield from _of_object(value)


def _of_object(value: Any) -> Parts:
    if is_own(type(value).__module__):
        yield "class", type(value)
    if isinstance(value, nn.Module):
        yield from value.named_parameters(recurse=False)
        yield from value.named_buffers(recurse=False)
        if root(type(value)) == "torch":
            yield "settings", value.extra_repr()
            yield from value.named_children()
            return
    yield from state_of(value).items()


def _of_class(cls: type) -> Parts:
    yield "name", f"{cls.__module__}.{cls.__qualname__}"
    yield from (("base", base) for base in cls.__bases__)
    yield from _members(cls)


def _members(cls: type) -> Parts:
    """What the body of a class has defined, in the order of names; not what Python adds to it."""
    for key, item in sorted(vars(cls).items()):
        if isinstance(item, property):
            yield from ((f"{key}.{name}", getattr(item, name)) for name in ("fget", "fset", "fdel"))
        elif isinstance(item, cached_property):
            yield key, item.func
        elif isinstance(item, staticmethod | classmethod):
            yield key, item.__func__
        elif not isinstance(item, _SLOTS) and (_is_code(item) or not _is_aside(key)):
            yield key, item


def _is_aside(key: str) -> bool:
    return key.startswith("__") or key in (*_SAYINGS, "_abc_impl")


def _is_code(item: Any) -> bool:
    return inspect.isroutine(item) or isinstance(item, type)


def _of_routine(function: Any) -> Parts:
    """Its name and its code, with what it has from around it."""
    yield "name", name_of(function)
    if (owner := bound_to(function)) is not None:
        yield "self", owner
        if (below := getattr(function, "__func__", None)) is not None:
            yield "function", below
        return
    if (inner := getattr(function, "__wrapped__", None)) is not None:
        yield "wrapped", inner
    code, around = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    for name, cell in zip(
        getattr(code, "co_freevars", ()), getattr(function, "__closure__", None) or (), strict=True
    ):
        yield name, "nothing yet" if cell == _EMPTY else cell.cell_contents
    if code is None or not is_own(around.get("__name__", "__main__")):  # a library's decorator
        return
    yield "code", _of_code(code, function.__doc__)
    yield from (("defaults", function.__defaults__), ("keywords", function.__kwdefaults__))
    yield from ((key, item) for key, item in sorted(vars(function).items()) if key != "__wrapped__")
    names = _names(code)
    for key in sorted(names & around.keys()):
        if isinstance(around[key], ModuleType):
            yield from _of_module(key, around[key], names, [])
        else:
            yield key, around[key]
    for module in sorted(_imported(code, around.get("__package__") or "")):
        yield from ((f"code of {name}", text) for name, text in sources(module).items())


def _of_module(key: str, module: ModuleType, names: set[str], above: list[ModuleType]) -> Parts:
    """The source of a module of one's own, and what a function may use of it."""
    yield key, module.__name__
    if not is_own(module.__name__) or module in above:
        return
    yield from ((f"code of {name}", text) for name, text in sources(module.__name__).items())
    for name in sorted(names & vars(module).keys()):
        item = vars(module)[name]
        if isinstance(item, ModuleType):
            yield from _of_module(f"{key}.{name}", item, names, [*above, module])
        else:
            yield f"{key}.{name}", item


_EMPTY = type((lambda value: lambda: value)(0).__closure__[0])()  # type: ignore[index]


def _inside(code: CodeType) -> Iterator[CodeType]:
    """A code and those of the functions in it."""
    yield code
    for item in code.co_consts:
        if isinstance(item, CodeType):
            yield from _inside(item)


def _names(code: CodeType) -> set[str]:
    """The names that a function and those inside it look up."""
    return set().union(*(item.co_names for item in _inside(code)))


def _imported(code: CodeType, package: str) -> set[str]:
    """Modules that a function imports when it is called."""
    found = set()
    for inner in _inside(code):
        steps = list(get_instructions(inner))
        for number, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":
                level = steps[number - 2].argval if number > 1 else 0
                above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                found.add(".".join([*above, *([step.argval] if step.argval else [])]))
            elif step.opname == "IMPORT_FROM" and found:
                found |= {f"{name}.{step.argval}" for name in list(found)}
    return found


def _of_code(code: CodeType, doc: str | None = None) -> str:
    def shown(item: Any) -> Any:
        if isinstance(item, CodeType):
            return _of_code(item)
        # The order within a set is another in each process.
        return sorted(map(repr, item)) if isinstance(item, frozenset) else item

    constants = [shown(item) for item in code.co_consts if doc is None or item != doc]
    return repr((code.co_code, code.co_names, constants))
