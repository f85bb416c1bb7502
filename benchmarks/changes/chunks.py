"""Changes of the bytes of a store of weather: damaged, lost and exchanged chunks, and metadata that lie."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numcodecs import Blosc, Zstd

from changes.coordinates import ANOTHER_TIME
from changes.damage import Damage
from changes.kinds import Case
from changes.stores import LONG, TRUTH

# The chunk of the first analysis, and that of a state of the first forecast.
ANALYSED, INITIAL = "9", "7"
NO_CHECKSUM = "a store of another program without checksums: a change of this size looks like weather"


def cases() -> Iterator[Case]:
    """All of them."""
    for change, damage in DAMAGES.items():
        for name, chunk in (("t", ANALYSED), ("u", INITIAL)):
            yield Case(
                TRUTH, f"written by vaevar, {name} {change}", _chunk(name, chunk, damage), "cycle", TRUTH
            )
    for codec, compressor in CODECS.items():
        for change, damage in DAMAGES.items():
            small = change in _SMALL
            yield Case(
                TRUTH,
                f"written with {codec}, t {change}",
                _foreign(compressor, damage),
                "cycle",
                TRUTH,
                NO_CHECKSUM if small else "",
            )
    for change, edit in _metadata():
        moved = "another day" in change
        yield Case(TRUTH, change, edit, "cycle", TRUTH, ANOTHER_TIME if moved else "")
    for change, edit in _exchanges():
        yield Case(TRUTH, change, edit, "cycle", TRUTH)


def flipped(number: int, share: float = 0.0, bit: int = 5) -> Damage:
    """Flip one bit of a number of bytes in the middle, or of a share of all but the first ones."""

    def damage(content: bytes) -> bytes:
        data = np.frombuffer(content, np.uint8).copy()
        if share:
            random = np.random.default_rng(0)
            which = 16 + np.flatnonzero(random.random(data.size - 16) < share)
            data[which] ^= (1 << random.integers(0, 8, which.size)).astype(np.uint8)
        else:
            start = data.size // 2
            data[start : start + number] ^= np.uint8(1 << bit)
        return data.tobytes()

    return damage


DAMAGES: dict[str, Damage] = {
    "with one bit flipped": flipped(1),
    "with the least bit of a byte flipped": flipped(1, bit=0),
    "with 20 bytes changed": flipped(20),
    "with a bit in 60 % of the bytes flipped": flipped(0, 0.6),
    "with half of a chunk": lambda content: content[: len(content) // 2],
    "without the last byte of a chunk": lambda content: content[:-1],
    "with a byte more in a chunk": lambda content: content + b"\0",
    "with an empty chunk": lambda content: b"",
    "with zeros for a chunk": lambda content: bytes(len(content)),
    "with a web page for a chunk": lambda content: b"<html>403 Forbidden</html>",
    "with the second half of a chunk zero": lambda content: (
        content[: len(content) // 2] + bytes(len(content) - len(content) // 2)
    ),
}
# 20 bytes may be the second bytes of 20 numbers: 0.25 K at 20 points.
_SMALL = (
    "with one bit flipped", "with the least bit of a byte flipped", "with 20 bytes changed",
    "with a byte more in a chunk",
)  # fmt: skip
CODECS: dict[str, Any] = {
    "Blosc": Blosc("lz4", clevel=1),
    "Blosc and bit shuffle": Blosc("zstd", clevel=3, shuffle=Blosc.BITSHUFFLE),
    "Zstandard": Zstd(1),
    "no codec": None,
}


def _file(directory: Path, name: str, chunk: str) -> Path:
    array = directory / TRUTH / LONG[name]
    dimensions = len(json.loads((array / ".zarray").read_text(encoding="utf-8"))["shape"])
    return array / ".".join([chunk, *["0"] * (dimensions - 1)])


def _chunk(name: str, chunk: str, damage: Damage) -> Callable[[Path], Any]:
    def apply(directory: Path) -> None:
        path = _file(directory, name, chunk)
        path.write_bytes(damage(path.read_bytes()))

    return apply


def _foreign(compressor: Any, damage: Damage) -> Callable[[Path], Any]:
    def apply(directory: Path) -> None:
        path = directory / TRUTH
        dataset = xr.open_zarr(path, chunks=None).load()
        encoding = {}
        for name, variable in dataset.variables.items():
            variable.encoding = {}
            if name in dataset.data_vars:
                encoding[name] = {
                    "compressors": (compressor,) if compressor else None,
                    "chunks": (1, *variable.shape[1:]),
                }
        shutil.rmtree(path)
        dataset.to_zarr(path, zarr_format=2, consolidated=True, encoding=encoding)
        _chunk("t", ANALYSED, damage)(directory)

    return apply


def _edited(name: str, file: str, edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    """Edit the metadata of an array, also where they are consolidated."""

    def apply(directory: Path) -> None:
        path = directory / TRUTH / LONG.get(name, name) / file
        content = json.loads(path.read_text(encoding="utf-8"))
        edit(content)
        path.write_text(json.dumps(content), encoding="utf-8")
        whole = directory / TRUTH / ".zmetadata"
        consolidated = json.loads(whole.read_text(encoding="utf-8"))
        edit(consolidated["metadata"][f"{LONG.get(name, name)}/{file}"])
        whole.write_text(json.dumps(consolidated), encoding="utf-8")

    return apply


def _metadata() -> Iterator[tuple[str, Callable[[Path], Any]]]:
    yield "metadata: t big-endian", _edited("t", ".zarray", lambda m: m.update(dtype=">f4"))
    yield "metadata: t integers", _edited("t", ".zarray", lambda m: m.update(dtype="<i4"))
    yield "metadata: t in float64", _edited("t", ".zarray", lambda m: m.update(dtype="<f8"))
    yield "metadata: t in the order of Fortran", _edited("t", ".zarray", lambda m: m.update(order="F"))
    yield "metadata: t without its compressor", _edited("t", ".zarray", lambda m: m.update(compressor=None))
    yield (
        "metadata: t with a time less",
        _edited("t", ".zarray", lambda m: m.update(shape=[51, *m["shape"][1:]])),
    )
    yield (
        "metadata: t with a time more",
        _edited("t", ".zarray", lambda m: m.update(shape=[53, *m["shape"][1:]])),
    )
    yield (
        "metadata: t with longer chunks",
        _edited("t", ".zarray", lambda m: m.update(chunks=[2, *m["chunks"][1:]])),
    )
    yield (
        "metadata: t with a scale_factor of 2",
        _edited("t", ".zattrs", lambda m: m.update(scale_factor=2.0)),
    )
    yield (
        "metadata: t with an add_offset of 273.15",
        _edited("t", ".zattrs", lambda m: m.update(add_offset=273.15)),
    )
    yield (
        "metadata: z with a scale_factor of 9.80665",
        _edited("z", ".zattrs", lambda m: m.update(scale_factor=9.80665)),
    )
    yield (
        "metadata: u with a missing_value of 0",
        _edited("u", ".zattrs", lambda m: m.update(missing_value=0.0)),
    )
    yield (
        "metadata: t with latitude and longitude exchanged",
        _edited(
            "t", ".zattrs", lambda m: m.update(_ARRAY_DIMENSIONS=["time", "level", "longitude", "latitude"])
        ),
    )
    yield (
        "metadata: t with time and level exchanged",
        _edited(
            "t", ".zattrs", lambda m: m.update(_ARRAY_DIMENSIONS=["level", "time", "latitude", "longitude"])
        ),
    )
    yield "metadata: another format of zarr", lambda d: _write(d / TRUTH / ".zgroup", '{"zarr_format": 4}')
    yield "metadata: cut", lambda d: _write(d / TRUTH / ".zmetadata", '{"metadata": {')
    yield (
        "metadata: times since another day",
        _edited("time", ".zattrs", lambda m: m.update(units="hours since 1959-01-02")),
    )
    yield (
        "metadata: times in days",
        _edited("time", ".zattrs", lambda m: m.update(units="days since 1959-01-01")),
    )
    yield (
        "metadata: times in minutes",
        _edited("time", ".zattrs", lambda m: m.update(units="minutes since 1959-01-01")),
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _exchanges() -> Iterator[tuple[str, Callable[[Path], Any]]]:
    def moved(name: str, chunk: str, other_name: str, other: str) -> Callable[[Path], Any]:
        return lambda d: shutil.copy(_file(d, other_name, other), _file(d, name, chunk))

    yield "chunks: t of the analysis missing", lambda d: _file(d, "t", ANALYSED).unlink()
    yield "chunks: u of the first forecast missing", lambda d: _file(d, "u", INITIAL).unlink()
    yield "chunks: latitudes missing", lambda d: (d / TRUTH / "latitude" / "0").unlink()
    yield "chunks: levels missing", lambda d: (d / TRUTH / "level" / "0").unlink()
    yield "chunks: times missing", lambda d: (d / TRUTH / "time" / "0").unlink()
    for name in ("t", "u", "msl", "q"):
        yield f"chunks: {name} missing, with a fill value of 0", _without(name)
    yield "chunks: t of the analysis is that of the step before", moved("t", ANALYSED, "t", "8")
    yield "chunks: t of the analysis is that of five days later", moved("t", ANALYSED, "t", "29")
    yield "chunks: t of the analysis is q's", moved("t", ANALYSED, "q", ANALYSED)
    yield "chunks: u of the analysis is v's", moved("u", ANALYSED, "v", ANALYSED)
    yield "chunks: u10 of the analysis is v10's", moved("u10", ANALYSED, "v10", ANALYSED)
    yield "chunks: t2m of the analysis is msl's", moved("t2m", ANALYSED, "msl", ANALYSED)


def _without(name: str) -> Callable[[Path], Any]:
    def apply(directory: Path) -> None:
        def zero(metadata: dict[str, Any]) -> None:
            if metadata.get("fill_value") is not None:
                metadata["fill_value"] = 0.0

        _edited(name, ".zarray", zero)(directory)
        _edited(name, ".zattrs", lambda m: m.pop("_FillValue", None))(directory)
        _file(directory, name, ANALYSED).unlink()

    return apply
