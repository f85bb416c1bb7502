"""Checksums in the stores that vaevar writes: a flipped bit in a file is an error, not another number.

Blosc has none of its own. Its bytes are followed by their CRC-32C, in zarr v3 as the specification says. In
zarr v2, where nothing follows the compressor, Blosc is a filter, and the checksum is in the compressor's
place. Zstandard has a checksum of its own, which its decoder verifies.
"""

from __future__ import annotations

from typing import Any, Literal

from numcodecs import CRC32C, Blosc, Zstd
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec


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
