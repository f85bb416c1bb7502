"""Items are as zarr reads them, whatever the layout; damage is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from numcodecs import Blosc, Zstd
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from vaevar.data.samples.reader import ItemReader
from vaevar.errors import UserError

SHAPE = (7, 2, 3, 4, 5)
VALUES = np.random.default_rng(0).normal(size=SHAPE).astype(np.float16)
CHUNKS = (1, 1, 3, 4, 5)
V2, V3 = {"zarr_format": 2, "filters": None}, {"zarr_format": 3}

DIRECT: dict[str, dict[str, Any]] = {
    "v2, plain": V2 | {"compressors": None},
    "v2, lz4": V2 | {"compressors": Blosc("lz4", shuffle=Blosc.BITSHUFFLE)},
    "v2, zstd": V2 | {"compressors": Zstd()},
    "v3, plain": V3 | {"compressors": None},
    "v3, blosc": V3 | {"compressors": BloscCodec(cname="lz4")},
    "v3, zstd": V3 | {"compressors": ZstdCodec()},
    "shards": V3 | {"shards": (3, 1, 3, 4, 5), "compressors": BloscCodec(cname="lz4")},
    "shards of both axes": V3 | {"shards": (2, 2, 3, 4, 5), "compressors": None},
}
BY_ZARR: dict[str, dict[str, Any]] = {
    "gzip": V3 | {"compressors": GzipCodec()},
    "column order": V2 | {"order": "F"},
    "big-endian": V2 | {"dtype": ">f2"},
    "cut in latitude": V2 | {"chunks": (1, 1, 3, 2, 5)},
    "several in a chunk": V2 | {"chunks": (2, 1, 3, 4, 5)},
    "shards cut in latitude": V3 | {"chunks": (1, 1, 3, 2, 5), "shards": (3, 1, 3, 4, 5)},
}


def written(path: Path, **layout: Any) -> zarr.Array:
    array = zarr.create_array(path, **({"shape": SHAPE, "dtype": "f2", "chunks": CHUNKS} | layout))
    array[:] = VALUES
    return array


@pytest.mark.parametrize("layout", [*DIRECT, *BY_ZARR])
def test_items_are_those_of_the_array(tmp_path: Path, layout: str) -> None:
    written(tmp_path / "array", **(DIRECT | BY_ZARR)[layout])
    numbers = [5, 0, 6, 5]
    for lead in range(2):
        reader = ItemReader(tmp_path / "array", (lead,))
        assert reader.direct == (layout in DIRECT)
        assert reader.shape == SHAPE[2:]
        assert len(reader) == 7
        values = reader.read(numbers)
        assert values.dtype == torch.float16
        np.testing.assert_array_equal(values.numpy(), VALUES[numbers, lead])
        reader.hold()
        assert torch.equal(reader.read(numbers), values)


@pytest.mark.parametrize("layout", ["v2, lz4", "shards"])
def test_items_never_written_are_the_fill_value(tmp_path: Path, layout: str) -> None:
    array = zarr.create_array(
        tmp_path / "array", shape=SHAPE, dtype="f2", chunks=CHUNKS, fill_value=2.0, **DIRECT[layout]
    )
    array[1] = VALUES[1]
    reader = ItemReader(tmp_path / "array", (0,))
    assert (reader.read([0, 4]) == 2.0).all()
    np.testing.assert_array_equal(reader.read([1])[0].numpy(), VALUES[1, 0])
    with pytest.raises(IndexError):
        reader.read([7])


@pytest.mark.parametrize("layout", DIRECT)
@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_file_cut_short_is_reported(tmp_path: Path, layout: str, cut: int) -> None:
    written(tmp_path / "array", **DIRECT[layout])
    files = [f for f in (tmp_path / "array").rglob("*") if f.is_file() and not f.name.startswith((".z", "z"))]
    for file in files:
        file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(UserError, match=r"cannot be read .*delete the store"):
        ItemReader(tmp_path / "array", (0,)).read(range(7))


def test_an_item_that_is_missing_where_none_may_be_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "array.zarr"
    array = zarr.create_array(
        path, shape=(3, 4), chunks=(1, 4), dtype="f2", fill_value=np.nan, filters=None, zarr_format=2
    )
    array[:] = 1.0
    (path / "1.0").unlink()
    reader = ItemReader(path)
    assert reader.read([0, 2]).tolist() == [[1.0] * 4] * 2
    with pytest.raises(UserError, match="item 1 was never written, or its file is missing"):
        reader.read([0, 1])
