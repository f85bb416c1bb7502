"""Reads items of a zarr array, such as samples, from the disk straight into the memory of a batch.

zarr takes a millisecond and several copies for a chunk, which for a sample is more than the disk takes. This
reader handles arrays on a local disk with one item in a chunk: zarr v2 or v3, in shards or not, compressed by
Blosc, Zstandard or not at all, with a CRC-32C behind or without. It leaves all others to zarr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import zarr
from numcodecs import CRC32C, Blosc, Zstd
from torch import Tensor
from zarr.storage import LocalStore

from vaevar.errors import UserError

_DECODERS = {"blosc": Blosc, "zstd": Zstd}
_ABSENT = 2**64 - 1  # stands for the offset of a chunk that was never written
_INDEX_CODECS = ({"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"})
_CHECKSUM_BYTES = 4


class _Layout(NamedTuple):
    """How items lie in files: their compressor, whether a checksum follows, and how many items a shard holds
    along each leading axis."""

    compressor: Blosc | Zstd | None
    checked: bool
    per_shard: tuple[int, ...] | None


class ItemReader:
    """The items of a zarr array along its first axis. Threads may share a reader.

    Args:
        path: the array.
        within: an item's indexes along the next axes, such as that of a lead time.
        checksums: for each item, the checksum that it was written with. None: they are not known.

    Raises:
        ValueError: when the array is in another encoding than checksums were taken of.

    Attributes:
        shape: of an item.
        direct: whether items are read without zarr.
    """

    def __init__(
        self, path: str | Path, within: tuple[int, ...] = (), checksums: np.ndarray | None = None
    ) -> None:
        self.path, self.within, self.checksums = str(path), within, checksums
        self._array = zarr.open_array(self.path, mode="r")
        self.shape = self._array.shape[1 + len(within) :]
        self._layout = _layout(self._array, 1 + len(within))
        self._items: Tensor | None = None
        if checksums is not None and (self._layout is None or not self._layout.checked):
            raise ValueError("it was written again in another encoding, and nobody knows by whom")

    def __len__(self) -> int:
        return self._array.shape[0]

    @property
    def direct(self) -> bool:
        return self._layout is not None

    def hold(self) -> None:
        """Read all items now, and keep them in memory."""
        self._items = self.read(range(len(self)))

    def read(self, numbers: Sequence[int]) -> Tensor:
        """The items with these numbers, [B, *shape].

        Raises:
            UserError: when a file is damaged or missing.
        """
        if self._items is not None:
            return self._items[list(numbers)]
        # numpy asks the system for huge pages; torch does not, and its page faults take as long as the disk.
        batch = np.empty((len(numbers), *self.shape), self._array.dtype.newbyteorder("="))
        for number, item in zip(numbers, batch, strict=True):
            index = (number, *self.within)
            if self._layout is None or not self._read_directly(self._layout, index, item):
                item[...] = self._array[index]
                self._require_written(index, item)
        return torch.from_numpy(batch)

    def stored_checksums(self, shape: tuple[int, ...]) -> np.ndarray:
        """The checksums behind the chunks, as they lie on the disk.

        Args:
            shape: how many chunks there are along the leading axes.

        Returns:
            [*shape] uint32, 0 for a chunk that was never written.

        Raises:
            ValueError: when the chunks have none, or one is cut short.
        """
        layout = _layout(self._array, len(shape))
        if layout is None or not layout.checked:
            raise ValueError(f"{self.path}: its chunks have no checksums")
        sums = np.zeros(shape, "<u4")
        for index in np.ndindex(shape):
            path = self._file(layout, index)
            if not os.path.exists(path):
                continue
            with FileIO(path) as file:
                if (place := _place(file, layout, index)) is not None:
                    checksum = np.empty(_CHECKSUM_BYTES, np.uint8)
                    _fill(file, sum(place) - _CHECKSUM_BYTES, _CHECKSUM_BYTES, checksum)
                    sums[index] = checksum.view("<u4")[0]
        return sums

    def _require_written(self, index: tuple[int, ...], item: np.ndarray) -> None:
        """Refuse what stands for an item that is not there, where that is NaN or one was there."""
        fill: Any = self._array.fill_value
        empty = isinstance(fill, float | np.floating) and np.isnan(fill) and np.isnan(item).all()
        if empty or (self.checksums is not None and self.checksums[index[0]]):
            raise UserError(
                f"{self.path}: item {', '.join(map(str, index))} was never written, or its file is missing; "
                "delete the store to make it again"
            )

    def _read_directly(self, layout: _Layout, index: tuple[int, ...], item: np.ndarray) -> bool:
        """Fill ``item``. False if it was never written: zarr knows the fill value."""
        path = self._file(layout, index)
        try:
            with FileIO(path) as file:
                place = _place(file, layout, index)
                if place is None:
                    return False
                offset, size = place
                if layout.compressor is None and not layout.checked:
                    _fill(file, offset, size, item.view(np.uint8))
                else:
                    stored = np.empty(size, np.uint8)
                    _fill(file, offset, size, stored)
                    if layout.checked:
                        self._require_own(index, stored[-_CHECKSUM_BYTES:])
                        stored = CRC32C().decode(stored)
                    _decompress(layout.compressor, stored, item)
        except FileNotFoundError:
            return False
        except (OSError, ValueError, RuntimeError) as error:  # also what the decoders raise
            raise UserError(f"{path}: cannot be read ({error}); delete the store and make it again") from None
        return True

    def _file(self, layout: _Layout, index: tuple[int, ...]) -> str:
        """Where a chunk lies, by its indexes along the leading axes."""
        per_shard = layout.per_shard or (1,) * len(index)
        shard = [number // size for number, size in zip(index, per_shard, strict=True)]
        inner = len(self._array.shape) - len(index)
        return os.path.join(self.path, self._array.metadata.encode_chunk_key((*shard, *(0,) * inner)))

    def _require_own(self, index: tuple[int, ...], checksum: np.ndarray) -> None:
        """Refuse an item that was written in the place of the one that belongs there.

        Raises:
            ValueError: when its checksum is not the one that was noted.
        """
        if self.checksums is None:
            return
        if checksum.size < _CHECKSUM_BYTES or checksum.view("<u4")[0] != self.checksums[index[0]]:
            raise ValueError(
                "it is not what was written when the store was made, but another item or changed"
            )


def _layout(array: zarr.Array, leading: int) -> _Layout | None:
    """None for arrays that are left to zarr."""
    whole = array.shape[leading:]
    if not isinstance(array.store, LocalStore) or array.chunks != ((1,) * leading + whole) or not all(whole):
        return None
    stored: dict[str, Any] = array.metadata.to_dict()
    per_shard = None
    if stored["zarr_format"] == 2:
        plain = stored["order"] == "C" and array.dtype.isnative
        compressor = [] if stored["compressor"] is None else [stored["compressor"]]
        compressors = [codec["id"] for codec in (*(stored["filters"] or ()), *compressor)]
    else:
        codecs = stored["codecs"]
        if array.shards is not None:
            settings = codecs[0]["configuration"]
            usual = tuple(settings["index_codecs"]) == _INDEX_CODECS and settings["index_location"] == "end"
            if not usual or array.shards[leading:] != whole:
                return None
            codecs, per_shard = settings["codecs"], array.shards[:leading]
        order = codecs[0].get("configuration", {}).get("endian", sys.byteorder)
        plain = codecs[0]["name"] == "bytes" and order == sys.byteorder
        compressors = [codec["name"] for codec in codecs[1:]]
    checked = compressors[-1:] == [CRC32C.codec_id]
    if checked:
        compressors.pop()
    if not plain or len(compressors) > 1 or any(name not in _DECODERS for name in compressors):
        return None
    return _Layout(_DECODERS[compressors[0]]() if compressors else None, checked, per_shard)


def _place(file: FileIO, layout: _Layout, index: tuple[int, ...]) -> tuple[int, int] | None:
    """Offset and size in bytes of an item in its file; None if it was never written.

    Raises:
        ValueError: when the file ends before.
    """
    end = os.fstat(file.fileno()).st_size
    if layout.per_shard is None:
        return 0, end
    offset, size = _place_in_shard(file, end, index, layout.per_shard)
    if offset == _ABSENT:
        return None
    if offset + size > end:
        raise ValueError(f"ends at {end} bytes, before the item's {offset + size}")
    return offset, size


def _place_in_shard(
    file: FileIO, size: int, index: tuple[int, ...], per_shard: tuple[int, ...]
) -> tuple[int, int]:
    """Offset and size in bytes of an item, from the index at the end of its shard."""
    number = np.ravel_multi_index([i % n for i, n in zip(index, per_shard, strict=True)], per_shard)
    entry = np.empty(2, "<u8")
    start = size - _CHECKSUM_BYTES - entry.nbytes * (prod(per_shard) - int(number))
    _fill(file, start, entry.nbytes, entry.view(np.uint8))
    return int(entry[0]), int(entry[1])


def _decompress(compressor: Blosc | Zstd | None, stored: np.ndarray, item: np.ndarray) -> None:
    """Decode into ``item``.

    Raises:
        ValueError, RuntimeError: when the bytes are damaged.
    """
    if compressor is None:
        item.view(np.uint8).reshape(-1)[...] = stored
        return
    # Blosc trusts the size in the first bytes and reads beyond the end.
    if isinstance(compressor, Blosc):
        header = stored[:16].view("<u4") if len(stored) >= 16 else np.zeros(4)
        if (header[1], header[3]) != (item.nbytes, len(stored)):
            raise ValueError(f"{len(stored)} bytes are not a whole item")
    compressor.decode(stored, out=item)


def _fill(file: FileIO, offset: int, size: int, target: np.ndarray) -> None:
    """Fill ``target`` with ``size`` bytes from ``offset``.

    Raises:
        ValueError: when it has another size, or the file ends before.
    """
    left = target.data.cast("B")
    if len(left) != size:
        raise ValueError(f"holds {size} bytes where {len(left)} are expected")
    file.seek(offset)
    while left:
        got = file.readinto(left)  # at most 2 GB at a time
        if not got:
            raise ValueError(f"ends {len(left)} bytes early")
        left = left[got:]
