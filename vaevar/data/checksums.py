"""Checksums in the stores that vaevar writes: a flipped bit in a file is an error, not another number.

Blosc has none of its own. Its bytes are followed by their CRC-32C, in zarr v3 as the specification says. In
zarr v2, where nothing follows the compressor, Blosc is a filter, and the checksum is in the compressor's
place. Zstandard has a checksum of its own, which its decoder verifies.

Whoever changes numbers through zarr writes new checksums with them. A store that is complete is *sealed*: its
attributes have a digest of the small arrays, among which may be the checksums of the chunks of large ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numcodecs import CRC32C, Blosc, Zstd
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from vaevar.content.seal import SEAL, digest_of


def plain(zarr_format: Literal[2, 3]) -> dict[str, Any]:
    """The encoding of coordinates, statistics and other arrays whose size does not matter."""
    compressor = Zstd(level=0, checksum=True) if zarr_format == 2 else ZstdCodec(level=0, checksum=True)
    return {"compressors": (compressor,)}


def states() -> dict[str, Any]:
    """The encoding of states in zarr v2: what zarr takes by default, and a checksum."""
    return {"filters": (Blosc("lz4", clevel=5, shuffle=Blosc.SHUFFLE),), "compressors": (CRC32C(),)}


def fast(zarr_format: Literal[2, 3]) -> dict[str, Any]:
    """The encoding of fields that are read again and again: lz4 after a shuffle of bits."""
    if zarr_format == 2:
        blosc = Blosc("lz4", clevel=1, shuffle=Blosc.BITSHUFFLE)
        return {"filters": (blosc,), "compressors": (CRC32C(),)}
    return {"compressors": (BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"), Crc32cCodec())}


def seal(path: Path, names: Iterable[str]) -> None:
    """Write a digest of small arrays into the attributes of a store.

    Args:
        path: the store.
        names: of the arrays; those that are not there do not count.
    """
    zarr.open_group(path, mode="r+").attrs[SEAL] = _digest(path, names)


def seal_is_broken(path: Path, names: Iterable[str]) -> bool:
    """Whether arrays are not what a store was sealed with; arguments as for :func:`seal`.

    Stores of earlier versions have no seal.
    """
    found = zarr.open_group(path, mode="r").attrs.get(SEAL)
    return found is not None and found != _digest(path, names)


def _digest(path: Path, names: Iterable[str]) -> str:
    arrays = {
        name: np.asarray(zarr.open_array(path / name, mode="r")[...])
        for name in names
        if (path / name).is_dir()
    }
    texts = {name: values.tolist() for name, values in arrays.items() if values.dtype.kind not in "fiu"}
    return digest_of(arrays | texts)
