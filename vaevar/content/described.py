"""What an object is made of, as a flat table: its settings by name, and digests of its arrays.

It is read from the object as it is, whoever made it and however: its class, its public attributes, and those
of the objects among them.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

_PLAIN = (bool, int, float, str, type(None), np.integer, np.floating)
# Of their objects only the class is said.
_LIBRARIES = {"torch", "numpy", "onnxruntime", "xarray", "zarr", "pandas", "lightning", "builtins", "dask"}
# Properties that say what a file that was opened holds.
_SAID = ("description", "normalisation")
_BASES = (nn.Module(), L.LightningModule(), L.LightningDataModule())
_NOT_SETTINGS = {name for base in _BASES for name in vars(base)} | {"trainer"}


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
    if isinstance(value, _PLAIN):
        table[name] = value.item() if isinstance(value, np.generic) else value
    elif isinstance(value, Path | np.datetime64 | np.timedelta64 | torch.dtype | torch.device | type):
        table[name] = str(value)
    elif isinstance(value, np.ndarray | Tensor):
        table[name] = _of_array(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _add(table, f"{name}.{key}", item, above)
    elif isinstance(value, list | tuple):
        _add_sequence(table, name, value, above)
    elif inspect.isroutine(value):
        table[name] = _of_function(value)
    elif id(value) not in above:
        _add_object(table, name, value, above | {id(value)})


def _add_sequence(table: dict[str, Any], name: str, values: list | tuple, above: set[int]) -> None:
    if all(isinstance(value, _PLAIN) for value in values):
        table[name] = ", ".join(map(str, values))
        return
    for number, value in enumerate(values):
        _add(table, f"{name}.{number}", value, above)


def _add_object(table: dict[str, Any], name: str, value: Any, above: set[int]) -> None:
    cls = type(value)
    table[f"{name}.class"] = cls.__name__
    if isinstance(value, nn.Module) and (state := _weights(value)):
        table[f"{name}.weights"] = _of_tensors(state)
    if _root(cls) in _LIBRARIES:
        return
    if code := _of_class(cls):
        table[f"{name}.code"] = code
    if isinstance(value, L.LightningModule):
        # What it was made with; its networks follow from that.
        _add(table, name, dict(value.hparams), above)
        return
    left_out = {*_NOT_SETTINGS, *getattr(cls, "not_settings", ()), *getattr(cls, "without_effect", ())}
    attributes = dict(vars(value)) if hasattr(value, "__dict__") else {}
    if isinstance(value, nn.Module):
        attributes |= dict(value.named_children())
    attributes |= {said: getattr(value, said) for said in _SAID if hasattr(cls, said)}
    for key, item in attributes.items():
        computed = isinstance(getattr(cls, key, None), cached_property)
        if not key.startswith("_") and key not in left_out and not computed:
            _add(table, f"{name}.{key}", item, above)


def _root(item: Any) -> str:
    return str(getattr(item, "__module__", "")).partition(".")[0]


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those too that no checkpoint holds."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _of_class(cls: type) -> str:
    """A digest of the code of somebody's own class, which may be another under the same name; empty for one
    of this package, whose version is in the record of a run."""
    own = [base for base in cls.__mro__ if _root(base) not in {*_LIBRARIES, "vaevar", "abc", "typing"}]
    methods = [
        (name, _of_function(getattr(item, "__func__", item)))
        for base in own
        for name, item in sorted(vars(base).items())
        if inspect.isroutine(item)
    ]
    return f"sha256:{hashlib.sha256(repr(methods).encode()).hexdigest()[:16]}" if methods else ""


def _of_tensors(state: Mapping[str, Tensor]) -> str:
    """One digest of the tensors of a module."""
    digest = hashlib.sha256()
    for name, values in state.items():
        digest.update(f"{name} {_of_array(values)}\n".encode())
    return f"sha256:{digest.hexdigest()[:16]}"


def _of_array(values: np.ndarray | Tensor) -> str:
    if isinstance(values, Tensor):
        host = values.detach().cpu()
        values = (host.float() if host.dtype is torch.bfloat16 else host).numpy()
    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
    return f"{values.dtype} {list(values.shape)} sha256:{digest}"


def _of_function(function: Any, above: tuple[Any, ...] = ()) -> str:
    """Its name and a digest of its code, with what it has from around it.

    Args:
        function: any.
        above: functions that lead here.
    """
    code = getattr(function, "__code__", None)
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"
    if code is None:
        return name
    if _root(function) in _LIBRARIES or function in above:
        return name
    inner = (*above, function)
    closed = [_held(cell.cell_contents, inner) for cell in function.__closure__ or ()]
    used = {key: function.__globals__[key] for key in _names(code) if key in function.__globals__}
    around = [(key, _held(item, inner)) for key, item in sorted(used.items()) if not inspect.ismodule(item)]
    content = (*_of_code(code), closed, around, function.__defaults__)
    return f"{name} sha256:{hashlib.sha256(repr(content).encode()).hexdigest()[:16]}"


def _held(value: Any, above: tuple[Any, ...]) -> Any:
    """What a function has from around it: a number, another function, a network."""
    if inspect.isclass(value):
        return value.__qualname__
    return _of_function(value, above) if inspect.isroutine(value) else described(value)


def _names(code: CodeType) -> set[str]:
    """The names that a function and those inside it look up."""
    return set(code.co_names).union(*(_names(item) for item in code.co_consts if isinstance(item, CodeType)))


def _of_code(code: CodeType) -> tuple[Any, ...]:
    constants = [_of_code(item) if isinstance(item, CodeType) else item for item in code.co_consts]
    return code.co_code, code.co_names, constants
