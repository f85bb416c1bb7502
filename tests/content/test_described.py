"""Two objects that would give other results never have the same description, and equal ones always have."""

from __future__ import annotations

import functools
import logging
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import vaevar
from vaevar.content.described import described

OPENED = """
import sys
sys.path.insert(0, sys.argv[1])
import steady
from vaevar.content.described import described
for name in ("step", "Own", "made"):
    print(described(getattr(steady, name), name))
"""
STEADY = """
import logging
import helper
log = logging.getLogger("x")
class Base:
    RATE = 0.5
    def __init__(self): self._kinds = {"a", "b", "c"}
    def rate(self): return helper.rate() if self is not made else self.RATE
class Own(Base):
    def step(self, states): return states * self.rate() in {"x", "y"}
made = Own()
def step(states):
    log.info(states)
    return made.step(states)
"""


def scaled(states: Any, by: float) -> Any:
    return states * by


class Holder:
    """Of anything."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def scaled(self, states: Any) -> Any:
        return states * self.held


class Private(Holder):
    def __init__(self, held: Any) -> None:
        self._held = held


class Slots:
    __slots__ = ("_k",)

    def __init__(self, k: float) -> None:
        self._k = k


@dataclass(frozen=True, slots=True)
class Frozen:
    k: float


class Pair(NamedTuple):
    k: float


class Kind(Enum):
    LOW = 0.02
    HIGH = 0.5


class Control(torch.nn.Module):
    """Keeps a tensor that is no buffer, as a control transform of one's own may."""

    def __init__(self, k: float) -> None:
        super().__init__()
        self._std = torch.full((3,), k)


class Errors(vaevar.ObservationErrors):
    def __init__(self, k: float) -> None:
        super().__init__()
        self._factor = k


def with_class_attribute(k: float) -> Any:
    return type("Own", (), {"__module__": "mine", "RATE": k})()


def in_a_base(k: float) -> Any:
    return type("Own", (type("Base", (), {"__module__": "mine", "RATE": k}),), {"__module__": "mine"})()


def with_property(k: float) -> Any:
    names: dict[str, Any] = {"__name__": "mine"}
    exec(f"class Own:\n    @property\n    def rate(self):\n        return {k}\n", names)
    return names["Own"]()


def remembered(k: float) -> Any:
    names: dict[str, Any] = {"__name__": "mine"}
    exec(f"import functools\n@functools.lru_cache\ndef rate():\n    return {k}\n", names)
    return names["rate"]


def layers(k: float) -> Any:
    return torch.nn.Sequential(torch.nn.Dropout(k), torch.nn.ReLU() if k < 0.1 else torch.nn.GELU())


MAKERS: dict[str, Callable[[float], Any]] = {
    "partial": lambda k: functools.partial(scaled, by=k),
    "partial by position": lambda k: functools.partial(scaled, 1.0, k),
    "method": lambda k: Holder(k).scaled,
    "method of a library's object": lambda k: np.array([k]).dot,
    "private attribute": Private,
    "slots": Slots,
    "slots of a dataclass": Frozen,
    "named tuple": Pair,
    "namespace": lambda k: types.SimpleNamespace(k=k),
    "enum": Kind,
    "set": lambda k: {"a", "b", k},
    "set of objects": lambda k: frozenset({Frozen(k)}),
    "key": lambda k: {(1, k): 1},
    "table": lambda k: pd.DataFrame({"k": [k], "name": ["a"]}),
    "series": lambda k: pd.Series([k]),
    "field": lambda k: xr.DataArray([k]),
    "fields": lambda k: xr.Dataset({"k": ("x", [k])}),
    "objects in an array": lambda k: np.array([k, "a", None], dtype=object),
    "tensor": lambda k: torch.tensor([k]),
    "tensor of a module": Control,
    "layers": layers,
    "list of modules": lambda k: [torch.nn.ReLU(), layers(k)],
    "seed": lambda k: torch.Generator().manual_seed(int(100 * k)),
    "seed of numpy": lambda k: np.random.default_rng(int(100 * k)),
    "class attribute": with_class_attribute,
    "class attribute of a base": in_a_base,
    "class": lambda k: type(with_class_attribute(k)),
    "property": with_property,
    "function with a memory": remembered,
    "closure": lambda k: lambda states: states * k,
    "subclass of this package's": Errors,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("hold", [lambda x: x, Holder, Private, lambda x: functools.partial(scaled, by=x)])
def test_another_value_is_another(make: Callable[[float], Any], hold: Callable[[Any], Any]) -> None:
    one, same, other = (hold(make(number)) for number in (0.02, 0.02, 0.5))
    assert described(one, "own") == described(same, "own")
    assert described(one, "own") != described(other, "own")
    around = [described(lambda kept=item: kept, "own") for item in (one, same, other)]
    assert around[0] == around[1] != around[2]


def test_what_changes_nothing_is_passed_over() -> None:
    class Busy:
        def __init__(self) -> None:
            self._lock, self._log, self._out = threading.Lock(), logging.getLogger("a"), sys.stderr

    assert described(Busy(), "own") == described(Busy(), "own")


def test_what_nothing_tells_from_another_is_refused() -> None:
    class Asking(Holder):
        not_settings: ClassVar = ("held",)

    def numbers() -> Any:
        yield 1

    with pytest.raises(
        vaevar.UserError, match=r"^own\.held: nothing tells one builtins\.generator .*not_set"
    ):
        described(Holder(numbers()), "own")
    assert described(Asking(numbers()), "own")


def test_this_packages_caches_do_not_count() -> None:
    class Mine(vaevar.OptimalInterpolation):
        pass

    forecaster = vaevar.pretrained("forecaster")
    before = described([forecaster, Mine(length_km=1500.0)], "own")
    forecaster._checked = True
    assert described([forecaster, Mine(length_km=1500.0)], "own") == before


def tell(directory: Path, seed: str) -> str:
    environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(vaevar.__file__).parents[1]), "PATH": ""}
    words = [sys.executable, "-c", OPENED, str(directory)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_another_process_finds_the_same_until_code_changes(tmp_path: Path) -> None:
    """Functions, classes and objects that lead to each other, and helpers two modules away."""
    (tmp_path / "steady.py").write_text(STEADY)
    (tmp_path / "helper.py").write_text("import deeper\ndef rate():\n    return deeper.rate()\n")
    (tmp_path / "deeper.py").write_text("def rate():\n    return 0.5\n")
    first = tell(tmp_path, "1")
    (tmp_path / "helper.py").write_text(
        '"""Helps."""\nimport deeper\n\ndef rate():\n    # said\n    return deeper.rate()\n'
    )
    assert tell(tmp_path, "2") == first
    (tmp_path / "deeper.py").write_text("def rate():\n    return 0.1\n")
    changed = tell(tmp_path, "2").splitlines()
    assert all(now != before for now, before in zip(changed, first.splitlines(), strict=True))
    (tmp_path / "deeper.py").write_text("def rate():\n    return 0.5\n")
    (tmp_path / "steady.py").write_text(STEADY.replace("RATE = 0.5", "RATE = 0.1"))
    assert "'made.class.RATE': 0.1" in tell(tmp_path, "1")
