"""What an object is made of, as a flat table: its settings by name, and digests of its arrays.

It is read from the object as it is, whoever made it and however: its class, its attributes, and those of the
objects among them. What nothing tells from another of its kind is refused, not passed over.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import deque
from collections.abc import Mapping
from enum import Enum
from functools import partial
from types import ModuleType
from typing import Any

import lightning as L
import numpy as np
from torch import Tensor, nn

from vaevar.content.anatomy import code_of, digest, kept_by, own_classes, state_of
from vaevar.content.leaves import PLAIN, bound_to, leaf, of_array, root


def described(value: Any, name: str = "") -> dict[str, Any]:
    """The table of a value: plain values, and texts for everything else.

    A class keeps what is no setting out of it by naming it in its attribute ``not_settings``.

    Args:
        value: anything.
        name: of the value in the table; those of its parts begin with it.
    """
    table: dict[str, Any] = {}
    _add(table, name, value, set())
    return table


def _add(table: dict[str, Any], name: str, value: Any, above: set[int]) -> None:
    text = None if value is None else leaf(value, name)
    if text is not None or value is None:
        table[name] = text
    elif isinstance(value, Mapping):
        for key, item in value.items():
            # A key that is an object would say where in memory it lies.
            known = key if isinstance(key, (*PLAIN, tuple, Enum)) else digest(key, name)
            _add(table, f"{name}.{known}", item, above)
    elif isinstance(value, list | tuple | deque):
        _add_sequence(table, name, value, above)
    elif isinstance(value, partial):
        _add(table, name, {"function": value.func, "args": value.args} | value.keywords, above)
    elif inspect.ismethod(value) and bound_to(value) is not None:
        _add(table, name, {"method": value.__func__, "self": value.__self__}, above)
    elif isinstance(value, type | ModuleType | set | frozenset | np.ndarray) or inspect.isroutine(value):
        kind = getattr(value, "__qualname__", type(value).__name__)
        where = getattr(value, "__module__", None)
        table[name] = f"{f'{where}.' if where else ''}{kind} {digest(value, name)}"
    elif id(value) not in above:
        _add_object(table, name, value, above | {id(value)})


def _add_sequence(table: dict[str, Any], name: str, values: list | tuple | deque, above: set[int]) -> None:
    if all(isinstance(value, PLAIN) for value in values):
        table[name] = ", ".join(map(str, values))
        return
    for number, value in enumerate(values):
        _add(table, f"{name}.{number}", value, above)


def _add_object(table: dict[str, Any], name: str, value: Any, above: set[int]) -> None:
    cls = type(value)
    table[f"{name}.class"] = cls.__name__
    if isinstance(value, nn.Module):
        if state := dict(value.named_parameters()) | dict(value.named_buffers()):
            table[f"{name}.weights"] = _of_tensors(state)
        if root(cls) == "torch":
            table[f"{name}.layers"] = digest(value, name)
            return
    for key, item in kept_by(cls).items():
        _add(table, f"{name}.class.{key}", item, above)
    if code := code_of(cls, name):
        table[f"{name}.code"] = code
    if isinstance(value, L.LightningModule):
        # What it was made with; the networks of this package follow from that.
        _add(table, name, dict(value.hparams), above)
        if not own_classes(cls):
            return
    for key, item in state_of(value).items():
        _add(table, f"{name}.{key}", item, above)


def _of_tensors(state: Mapping[str, Tensor]) -> str:
    """One digest of the tensors of a module."""
    found = hashlib.sha256()
    for name, values in state.items():
        found.update(f"{name} {of_array(values)}\n".encode())
    return f"sha256:{found.hexdigest()[:16]}"
