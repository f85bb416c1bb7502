"""What a program has left on the disk: whether every file opens, and its results, bit by bit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
import yaml
import zarr

from vaevar.errors import UserError

# Columns of tables that tell how long something took.
CLOCKS = ("seconds", "commit")
UNFINISHED = (".partial", ".progress", ".lock", ".held", ".try", ".log")


def results(patterns: Sequence[str], directory: Path) -> dict[str, Any]:
    """Arrays, tables without their clocks, and weights, by name."""
    found: dict[str, Any] = {}
    for pattern in patterns:
        paths = sorted(directory.glob(pattern))
        if not paths:
            raise UserError(f"{directory}: no {pattern}, although the program has ended")
        for path in paths:
            name = str(path.relative_to(directory))
            if path.suffix == ".zarr":
                dataset = xr.open_zarr(path, chunks=None, decode_timedelta=True)
                found |= {f"{name} {key}": value.values for key, value in dataset.variables.items()}
            elif path.suffix == ".csv":
                table = pd.read_csv(path)
                table = table[~table.get("quantity", pd.Series("", table.index)).isin(CLOCKS)]
                found[name] = table.drop(columns=[c for c in CLOCKS if c in table]).to_csv().encode()
            else:
                weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
                found |= {f"{name} {key}": value.numpy() for key, value in weights.items()}
    return found


def require_equal(name: str, expected: dict[str, Any], found: dict[str, Any]) -> None:
    """Raises UserError unless all bits are the same."""
    different = [key for key in expected | found if bits(expected.get(key)) != bits(found.get(key))]
    if different:
        raise UserError(f"{name}: ended with other {', '.join(different[:5])} than without a kill")


def bits(value: Any) -> Any:
    """What is compared: an array's bytes, with its type and shape."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tolist() if value.dtype.hasobject else value.tobytes()
    return value


def check(directory: Path) -> int:
    """Open every file that a killed program left. The number of files.

    Raises:
        UserError: when one does not open and has no name that says why.
    """
    count = 0
    for path in finished_files(directory):
        count += 1
        try:
            open_file(path)
        except Exception as error:  # each reader has kinds of its own
            raise UserError(f"{path}: does not open after a kill ({error})") from None
    return count


def finished_files(directory: Path) -> Iterator[Path]:
    """Files and stores without the mark of unfinished ones; a store counts once."""
    for path in sorted(directory.iterdir()):
        if path.name.endswith(UNFINISHED):
            continue
        if path.is_dir() and path.suffix != ".zarr":
            yield from finished_files(path)
        else:
            yield path


def open_file(path: Path) -> None:
    """Read a file as what its name says."""
    readers = {
        ".zarr": read_store, ".csv": read_rows, ".npy": lambda p: np.load(p, allow_pickle=False),
        ".json": lambda p: json.loads(p.read_text(encoding="utf-8")),
        ".yaml": lambda p: yaml.safe_load(p.read_text(encoding="utf-8")),
        ".nc": lambda p: xr.load_dataset(p, engine="scipy"), ".md": lambda p: p.read_text(encoding="utf-8"),
        ".ckpt": lambda p: torch.load(p, map_location="cpu", weights_only=True),
        ".pt": lambda p: torch.load(p, map_location="cpu", weights_only=True),
    }  # fmt: skip
    if path.suffix in readers:
        readers[path.suffix](path)


def read_store(path: Path) -> None:
    """Every chunk that is there."""
    for _, array in zarr.open_group(path, mode="r").arrays():
        array[...]


def read_rows(path: Path) -> None:
    """Rows of one length; of a table that grows the last may be cut, and is recognised by that."""
    text = path.read_bytes()
    lines = text.splitlines()[: None if text.endswith(b"\n") else -1]
    if len({line.count(b",") for line in lines}) > 1:
        raise ValueError("its rows differ in length")
