"""Tells zarr stores apart without reading them whole: by their metadata, coordinates and pieces of chunks."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from vaevar.content.codecs import forbid_pickle

forbid_pickle()

# The axis along which a store grows, by its names.
_TIMES = ("time", "valid_time", "initial_time", "init_time", "forecast_reference_time")
# Of each array so many chunks are looked at, the first, the last and what lies evenly between them; and of
# each of those its size and three pieces of so many bytes. At 0.25° and 1460 times that is 30 MB of 0.4 TB.
_CHUNKS, _PIECE = 256, 4096
_SMALL = 2**26  # bytes of a coordinate, or of a chunk that is not full yet, that are read whole


class StoreContent:
    """What a zarr store on a disk holds, as far as a digest can tell.

    A digest takes in the metadata, all coordinates, and at up to 256 places along time the sizes of chunks
    with their first, middle and last bytes. It cannot tell stores that differ nowhere else: in longer stores
    in chunks between those, or in bytes of a chunk that compress to the same size elsewhere.

    Args:
        directory: of the store.

    Attributes:
        times: how many states from the first are written, or laid out if none is; None without a time axis.

    Raises:
        Exception: of many kinds, where zarr cannot read it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._groups = [zarr.open_group(directory, mode="r", use_consolidated=False)]
        # What most readers see; it is a copy, which may be out of date.
        if _is_consolidated(directory):
            self._groups.append(zarr.open_group(directory, mode="r"))
        self._arrays = [_Array(array, directory) for _, array in self._groups[0].arrays()]
        growing = [array for array in self._arrays if array.time_axis == 0]
        written = max((array.written for array in growing if array.ndim > 1), default=0)
        self.times = written or min((array.shape[0] for array in growing), default=None)

    def digest(self, first: int = 0, last: int | None = None) -> str:
        """A digest of the store from one state to another; equal for a store that has grown since.

        A last chunk of more than 64 MB that is not full yet counts once it is.

        Args:
            first: number of the first state.
            last: number after the last state. None: all that are written.
        """
        end = self.times if last is None else last
        lines = {line for group in self._groups for line in _metadata(group)}
        for array in self._arrays:
            lines.update(f"{array.name} {text}" for text in array.content(first, end))
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


class _Array:
    def __init__(self, array: zarr.Array, directory: Path) -> None:
        self._array, self._place = array, directory / array.path
        self.name, self.shape, self.ndim = array.path, array.shape, array.ndim
        self.time_axis = _time_axis(array)
        self._chunk = array.shards or array.chunks

    @property
    def _coordinate(self) -> bool:
        return self.ndim < 2 and self._array.nbytes < _SMALL

    @cached_property
    def written(self) -> int:
        """How many states of an array whose first axis is time, up to the last that has a file."""
        size, count = self._chunk[0], -(-self.shape[0] // self._chunk[0])
        if count and self._file(count - 1, 0).is_file():
            return self.shape[0]
        marked = self._key([7, *[0] * (self.ndim - 1)])
        before = marked[: marked.index("7")]  # such as nothing, "c/" or "c."
        folder, _, start = before.rpartition("/")
        place = self._place / folder
        names = os.listdir(place) if place.is_dir() else []
        numbers = [int(found[1]) for name in names if (found := re.match(rf"{re.escape(start)}(\d+)", name))]
        return min(self.shape[0], (max(numbers, default=-1) + 1) * size)

    def content(self, first: int, last: int | None) -> Iterator[str]:
        if self._coordinate:
            chosen = slice(first, last) if self.time_axis == 0 else slice(None)
            values = np.asarray(self._array[...] if self.ndim == 0 else self._array[chosen])
            yield _digest(values)
            return
        axis = self.time_axis or 0
        size, length = self._chunk[axis], self.shape[axis]
        growing = self.time_axis is not None and last is not None
        low, high = (first, last or 0) if growing else (0, length)
        whole = range(low // size, high // size if growing else -(-high // size))
        places = np.linspace(whole.start, whole.stop - 1, min(len(whole), _CHUNKS)).round()
        for number in np.unique(places).astype(int).tolist():
            yield f"{number - whole.start} {_pieces(self._file(number, axis))}"
        # A chunk that later states may change counts by its values up to now.
        if whole.stop * size < high and self._bytes_of_a_chunk < _SMALL:
            yield f"rest {_digest(self._values(axis, max(low, whole.stop * size), high))}"

    @property
    def _bytes_of_a_chunk(self) -> int:
        return prod(self._chunk) * self._array.dtype.itemsize

    def _values(self, axis: int, first: int, last: int) -> np.ndarray:
        """Some states, of the first chunk along the other axes."""
        chosen = [slice(size) for size in self._chunk]
        chosen[axis] = slice(first, last)
        return np.asarray(self._array[tuple(chosen)])

    def _file(self, number: int, axis: int) -> Path:
        """A chunk at a place along an axis; along the others another one each time."""
        counts = [-(-n // size) for n, size in zip(self.shape, self._chunk, strict=True)]
        place = [number % max(count, 1) for count in counts]
        place[axis] = number
        return self._place / self._key(place)

    def _key(self, place: list[int]) -> str:
        return self._array.metadata.encode_chunk_key(tuple(place))


def _metadata(group: zarr.Group) -> Iterator[str]:
    yield f"attributes {_text(dict(group.attrs))}"
    for name, array in group.arrays():
        described: dict[str, Any] = array.metadata.to_dict()
        axis = _time_axis(array)
        shape = [None if number == axis else size for number, size in enumerate(array.shape)]
        if array.ndim < 2:  # its values count, however they are kept
            kept = ("attributes", "data_type", "dtype", "dimension_names")
            described = {key: described[key] for key in kept if key in described}
        yield f"{name} {_text(described | {'shape': shape, 'consolidated_metadata': None})}"


def _time_axis(array: zarr.Array) -> int | None:
    dims = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    names = [array.path] if not dims and array.ndim == 1 else list(dims)  # type: ignore[arg-type]
    if not names:  # of a plain array, as much as is known
        return 0 if array.ndim > 1 else None
    return next((number for number, name in enumerate(names) if name in _TIMES), None)


def _is_consolidated(directory: Path) -> bool:
    path = directory / "zarr.json"
    if path.is_file():
        return bool(json.loads(path.read_text(encoding="utf-8")).get("consolidated_metadata"))
    return (directory / ".zmetadata").is_file()


def _digest(values: np.ndarray) -> str:
    content = str(values.tolist()).encode() if values.dtype.kind in "OUST" else values.tobytes()
    return f"{values.dtype.str} {values.shape} {hashlib.sha256(content).hexdigest()}"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _pieces(path: Path) -> str:
    """Size and a digest of the beginning, the middle and the end of a file."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found = hashlib.sha256()
            for start in sorted({0, max(0, size // 2 - _PIECE // 2), max(0, size - _PIECE)}):
                file.seek(start)
                found.update(file.read(_PIECE))
    except FileNotFoundError:
        return "absent"
    return f"{size} {found.hexdigest()}"
