"""Defaults and constants that recorded results depend on, against those kept beside this test.

A changed default is another experiment of the same name: recorded runs, committed weights and stores were
made with the old one. When a change is meant, write the new numbers and say so in the changelog:
``python tests/test_settled_numbers.py``.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import vaevar

SETTLED = Path(__file__).with_name("settled_numbers.json")
ROOMS = ("constants", "state", "moments", "sphere", "data", "models", "assim", "verification", "experiments")


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(vaevar.__path__, "vaevar."):
        if found.name.split(".")[1] in ROOMS and not found.ispkg:
            yield importlib.import_module(found.name)


def plain(value: object) -> Any:
    """A value as JSON has it; None for what is not made of numbers, strings and truth values."""
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, tuple | list):
        parts = [plain(part) for part in value]
        return None if None in parts else parts
    return None


def numbers() -> dict[str, Any]:
    """Numeric constants by module and name, and defaults by class or function and parameter."""
    found: dict[str, Any] = {}
    for module in modules():
        source = inspect.getsource(module)
        for name, value in vars(module).items():
            place = f"{module.__name__.removeprefix('vaevar.')}.{name}"
            constant = plain(value)
            numeric = constant is not None and not any(isinstance(part, str) for part in np.ravel(constant))
            assigned = re.search(rf"^[A-Z_, ]*\b{name}\b[^=(]*=", source, re.MULTILINE)
            if name.isupper() and numeric and assigned:
                found[place] = constant
            if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
                continue
            with contextlib.suppress(TypeError, ValueError):  # no signature
                for entry in inspect.signature(value).parameters.values():
                    if (default := plain(entry.default)) is not None:
                        found[f"{place}({entry.name})"] = default
    return found


def test_no_default_and_no_constant_has_changed() -> None:
    found, settled = numbers(), json.loads(SETTLED.read_text(encoding="utf-8"))
    gone = sorted(settled.keys() - found.keys())
    assert not gone, f"if these have moved, write the numbers anew: {gone}"
    changed = {name: (value, found[name]) for name, value in settled.items() if found[name] != value}
    assert not changed


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(numbers().items())]
    SETTLED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
