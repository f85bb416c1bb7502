"""What has no parts of its own, as a value or a text that is the same in every process."""

from __future__ import annotations

import hashlib
import inspect
import io
import logging
import threading
from collections import deque
from collections.abc import Mapping
from datetime import date, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
import xarray as xr
from dask.base import TokenizationError, tokenize
from torch import Tensor

from vaevar.content.source import is_own
from vaevar.errors import UserError

PLAIN = (bool, int, float, str, type(None), np.integer, np.floating)
_TEXTS = (
    complex, bytes, Path, date, timedelta, np.datetime64, np.timedelta64, np.dtype, torch.dtype,
    torch.device, type(Ellipsis),
)  # fmt: skip
# They change no result.
_IDLE = (type(threading.Lock()), type(threading.RLock()), logging.Logger, io.IOBase)
_CONTAINERS = (Mapping, list, tuple, set, frozenset, deque, np.ndarray, partial, SimpleNamespace, ModuleType)
# What these hold is looked into, as into objects of one's own.
_OPEN = {"torch", "vaevar"}


def root(item: Any) -> str:
    """The library that a class or a function is from."""
    return str(getattr(item, "__module__", "")).partition(".")[0]


def leaf(value: Any, name: str) -> Any:
    """A plain value or a text for what has no parts that are looked into; None for what has.

    Args:
        value: anything but None.
        name: of the value, for messages.

    Raises:
        UserError: when nothing tells it from another one.
    """
    if isinstance(value, _TEXTS):
        return str(value)
    if isinstance(value, Enum):
        return f"{value} = {value.value}" if isinstance(value.value, PLAIN) else str(value)
    if isinstance(value, PLAIN):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype != object):
        return of_array(value)
    if isinstance(value, type):
        return None if is_own(value.__module__) else str(value)
    if inspect.isroutine(value) and bound_to(value) is None:
        return None if _is_own_function(inspect.unwrap(value)) else name_of(value)
    if isinstance(value, torch.Generator):
        return f"seed {value.initial_seed()}"
    if isinstance(value, np.random.Generator) and (seed := getattr(value.bit_generator, "seed_seq", None)):
        return f"seed {seed.entropy} {getattr(seed, 'spawn_key', '')}"
    if isinstance(value, _IDLE) or type(value) is object or root(type(value)) == "lightning":
        return type(value).__name__
    if isinstance(value, ort.InferenceSession):
        content = value._model_path or hashlib.sha256(value._model_bytes).hexdigest()
        return str(content)
    if _is_looked_into(value):
        return None
    return _token(value, name)


def _is_looked_into(value: Any) -> bool:
    cls = type(value)
    if isinstance(value, _CONTAINERS) or is_own(cls.__module__) or inspect.isroutine(value):
        return True
    return root(cls) in _OPEN and (hasattr(value, "__dict__") or hasattr(cls, "__slots__"))


def of_array(values: np.ndarray | Tensor) -> str:
    """Type, shape and a digest of the numbers."""
    if isinstance(values, Tensor):
        host = values.detach().cpu()
        values = (host.float() if host.dtype is torch.bfloat16 else host).numpy()
    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
    return f"{values.dtype} {list(values.shape)} sha256:{digest}"


def bound_to(routine: Any) -> Any:
    """The object whose method it is; None for a function."""
    owner = getattr(routine, "__self__", None)
    return None if isinstance(owner, ModuleType | type) else owner


def _is_own_function(function: Any) -> bool:
    module = getattr(function, "__module__", None)
    return is_own(module) or (module is None and hasattr(function, "__code__"))


def name_of(function: Any) -> str:
    """Its full name."""
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"


def _token(value: Any, name: str) -> str:
    """A digest of an object of a library, as dask makes it."""
    if isinstance(value, xr.Dataset | xr.DataArray) and (source := _opened(value)):
        return source
    try:
        return f"{type(value).__name__} {tokenize(value, ensure_deterministic=True)[:16]}"
    except (TokenizationError, TypeError, ValueError, RuntimeError):
        kind = f"{type(value).__module__}.{type(value).__name__}"
        raise UserError(
            f"{name}: nothing tells one {kind} from another, so a later run could not know whether it is the "
            "same; name the attribute in a class attribute, not_settings = (...), if results do not depend "
            "on it, or make it where it is used"
        ) from None


def _opened(value: xr.Dataset | xr.DataArray) -> str:
    """The file whose values have not been read; empty for values in memory."""
    dataset = value.to_dataset(name="values") if isinstance(value, xr.DataArray) else value
    lazy = [item for item in dataset.variables.values() if not item._in_memory and item.chunks is None]
    places = {str(item.encoding.get("source", "")) for item in lazy} - {""}
    return ", ".join(sorted(places))
