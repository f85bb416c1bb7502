"""Reads what ``np.save`` writes, from whomever it comes: without pickle, and no larger than it is."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from vaevar.content.kinds import what_is

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_array(path: str | Path) -> np.ndarray:
    """The array in a ``.npy`` file.

    Raises:
        ValueError: when it is no such file, holds objects, or has not the size that its shape says.
        OSError: when it cannot be read.
    """
    with Path(path).open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
        except ValueError:
            raise ValueError(f"it is {what_is(path)}") from None
        if version not in _HEADERS:
            raise ValueError(f"a .npy file of version {'.'.join(map(str, version))}, expected 1.0 or 2.0")
        shape, _, kind = _HEADERS[version](file)
        if kind.hasobject:
            raise ValueError("it holds Python objects, which are never opened; save numbers")
        needed, there = prod(shape) * kind.itemsize, Path(path).stat().st_size - file.tell()
    if needed != there:
        raise ValueError(f"its shape {shape} of {kind} takes {needed} bytes, and {there} are there")
    array = np.asarray(np.load(path, allow_pickle=False))
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # torch takes no other order of bytes
