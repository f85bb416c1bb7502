"""A flipped bit in a store that vaevar wrote is refused, or changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from numcodecs import Blosc

from vaevar.data.samples.layout import SampleWriter, lay_out
from vaevar.data.samples.store import SampleStore
from vaevar.data.weather.store import WeatherStore
from vaevar.data.weather.writer import create_store, extend_store, write_states
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.standins.climate import typical_climate
from vaevar.state import StateSpec

SPEC, GRID = StateSpec(("t2m",), ("u",), (500, 850)), Grid.gaussian(6)
TIMES = np.datetime64("2020-03-01T00", "h") + np.timedelta64(6, "h") * np.arange(4)
RANDOM = np.random.default_rng(0)
MEAN, STD = (values[:, None, None] for values in typical_climate(SPEC))
NOISE = RANDOM.normal(size=(4, len(SPEC), *GRID.shape))


def weather(path: Path) -> Callable[[], np.ndarray]:
    create_store(path, TIMES[:3], SPEC, GRID, {})
    extend_store(path, TIMES)
    write_states(path, 0, (MEAN + 0.5 * STD * NOISE).astype(np.float32), SPEC)
    return lambda: WeatherStore(path, SPEC).read(TIMES)


def samples(path: Path, per_file: int) -> Callable[[], np.ndarray]:
    lay_out(path, ("error",), TIMES, [6], SPEC, GRID, {"scheme": "a test"}, per_file)
    writer = SampleWriter(path, SPEC, GRID)
    fields = {"error": (0.1 * STD * NOISE)[0][None]}
    writer.set_scales(fields)
    stored = [writer.encode({"error": (0.1 * STD * noise)[None]}, TIMES[0])["error"] for noise in NOISE]
    writer.write(range(4), {"error": np.stack(stored)})
    writer.finish(writer.sums())

    def read() -> np.ndarray:
        store = SampleStore(path)
        return store.decode("error", store.__getitems__([0, 1, 2, 3])[0]).numpy()

    return read


KINDS: dict[str, Callable[[Path], Callable[[], np.ndarray]]] = {
    "weather": weather,
    "samples": lambda path: samples(path, 1),
    "samples in shards": lambda path: samples(path, 2),
}


def flips(path: Path) -> Iterator[tuple[Path, int]]:
    """Bits spread over all files of data, metadata left out."""
    for file in sorted(path.rglob("*")):
        if file.is_file() and not file.name.startswith(".z") and file.suffix != ".json":
            yield from ((file, bit) for bit in RANDOM.integers(8 * file.stat().st_size, size=3).tolist())


def attempt(read: Callable[[], np.ndarray]) -> tuple[np.ndarray, str]:
    """What is read, or the line that says why it is not."""
    try:
        return read(), ""
    except UserError as error:
        return np.zeros(0), str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_refused_or_harmless(tmp_path: Path, kind: str) -> None:
    read = KINDS[kind](tmp_path / "store.zarr")
    expected, refused = read(), 0
    for file, bit in flips(tmp_path / "store.zarr"):
        whole = file.read_bytes()
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        found, message = attempt(read)
        assert "store.zarr" in message or np.array_equal(found, expected), (file, bit, message)
        refused += bool(message)
        file.write_bytes(whole)
    assert refused > 20
    np.testing.assert_array_equal(read(), expected)


@pytest.mark.parametrize("per_file", [1, 2])
def test_samples_without_checksums_are_still_read(tmp_path: Path, per_file: int) -> None:
    """Stores of earlier versions have Blosc alone."""
    read = samples(tmp_path / "store.zarr", per_file)
    expected = read()
    dataset = xr.open_zarr(tmp_path / "store.zarr", chunks=None).load().drop_vars("error_checksum")
    del dataset.attrs["content_digest"]
    for variable in dataset.variables.values():
        variable.encoding = {}
    shutil.rmtree(tmp_path / "store.zarr")
    chunks = {"chunks": (1, 1, len(SPEC), *GRID.shape)}
    encoding = {"error": chunks | {"compressors": (Blosc("lz4", clevel=1, shuffle=Blosc.BITSHUFFLE),)}}
    dataset.to_zarr(tmp_path / "store.zarr", encoding=encoding, zarr_format=2)
    assert zarr.open_array(tmp_path / "store.zarr" / "error").metadata.to_dict()["filters"] is None
    np.testing.assert_array_equal(read(), expected)
