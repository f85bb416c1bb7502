"""One digest for whatever a setting names: it tells whether something was made of the same file or store."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from vaevar.content.onnx_file import weights_beside
from vaevar.content.zarr_store import StoreContent

_LARGE = 2**34  # bytes; reading those takes a minute
_PIECES, _PIECE = 256, 2**16
_METADATA = (".zgroup", ".zarray", "zarr.json")


class Digest(NamedTuple):
    """What stands for a content.

    Attributes:
        sha256: equal for equal contents.
        times: of a store of weather, how many states were there, of a pattern how many files: what has grown
            is the same up to there. None for anything else.
    """

    sha256: str
    times: int | None = None


def sha256(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(text: str, times: int | None = None) -> Digest | None:
    """A digest of the file or the store that a setting names; None when it names none.

    Of a file it is the checksum, taken together with those of the files in which an ONNX model keeps its
    weights. Of a zarr store on a disk it is that of :class:`vaevar.content.zarr_store.StoreContent`. Of
    another directory it is a digest of the names and sizes of its files; of a pattern such as ``era5/*.nc``
    that of the files it names, in their order. Addresses have none.

    Args:
        text: a setting.
        times: of a store, so many states from the first; of a pattern, so many files. None: all.

    Raises:
        UserError: for an ONNX model whose weights are missing or lie outside of its folder.
    """
    if not text or len(text) > 1024 or "\n" in text:
        return None
    path = Path(text)
    try:
        if path.is_file():
            return Digest(file_digest(path))
        if glob.has_magic(text):
            return _of_pattern(text, times)
        # A word that happens to be the name of a directory is no path.
        if path.is_dir() and ("/" in text or "." in text.strip(".")):
            return _of_directory(path, times)
    except (OSError, ValueError):  # who opens it says what is wrong with it
        return None
    return None


def file_digest(path: Path) -> str:
    """Checksum of a file; of an ONNX model with weights beside it, of all of them together.

    Of a file above 16 GB, as archives of weather are, it is a digest of its size and of 256 pieces.
    """
    beside = weights_beside(path) if path.suffix == ".onnx" else []
    return combined(_of_file(part) for part in (path, *beside))


def same_content(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a file or store still is what it was, or has only grown since.

    Args:
        before, now: ``file``, ``sha256`` and, of a store, ``times``.
    """
    if before.get("sha256") == now.get("sha256"):
        return True
    then, there = before.get("times"), now.get("times")
    if then is None or there is None or then > there:
        return False
    found = content_digest(now["file"], then)
    return found is not None and found.sha256 == before["sha256"]


def is_store(path: Path) -> bool:
    """Whether a directory is a zarr store."""
    return any((path / name).is_file() for name in _METADATA)


def combined(parts: Iterable[str]) -> str:
    """One digest of several; of one, itself."""
    found = list(parts)
    return found[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()


def _of_file(path: Path) -> str:
    size = path.stat().st_size
    if size <= _LARGE:
        return sha256(path)
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for number in range(_PIECES):
            file.seek(number * (size - _PIECE) // (_PIECES - 1))
            found.update(file.read(_PIECE))
    return found.hexdigest()


def _of_pattern(pattern: str, files: int | None) -> Digest | None:
    found = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())
    if not found or len(found) < (files or 0):
        return None
    return Digest(combined(map(_of_file, found[:files])), len(found))


def _of_directory(path: Path, times: int | None) -> Digest | None:
    if not is_store(path):
        files = sorted(path.iterdir())
        return Digest(combined(f"{f.name} {f.stat().st_size if f.is_file() else ''}" for f in files))
    try:
        store = StoreContent(path)
        return Digest(store.digest(last=times), store.times)
    except Exception:  # zarr raises many kinds; who opens it says what is wrong with it
        return None
