"""Where a result comes from: versions, the commit, and checksums of the files its config names."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import lightning as L
import torch

PACKAGES = (
    "vaevar",
    "torch",
    "lightning",
    "torchmetrics",
    "onnxruntime-gpu",
    "xarray",
    "zarr",
    "numpy",
    "jcm",
)

_BEGINNING = 2**20  # bytes of a chunk; at 0.25° some have 100 times as many


def provenance() -> dict[str, Any]:
    """Versions, the commit and the machine, ready for JSON."""
    commit = _commit()
    return {
        "command": sys.argv,
        "commit": commit,
        "dirty": commit.endswith("-dirty") if commit else None,
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "host": platform.node(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }


def fit_record(trainer: L.Trainer) -> dict[str, Any]:
    """Command, epochs and last scores of a fit, to be stored with its result."""
    return {
        "command": " ".join(sys.argv),
        "epochs": trainer.current_epoch,
        "scores": {name: float(value) for name, value in trainer.callback_metrics.items()},
    }


def fingerprint(config: dict[str, Any]) -> str:
    """A digest of a config and of the contents of the files it names: equal for equal experiments."""
    content = {"config": config, "files": {path: sha256(Path(path)) for path in set(_files(config))}}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(text: str) -> str | None:
    """A digest of the file or the store that a setting names; None when it names none.

    Of a file it is the checksum, taken together with the files of weights that lie beside an ONNX file. Of a
    zarr store it is a digest of what describes its arrays, whatever their length, and of the first chunk of
    each: a store of weather that has grown is still the same. Of another directory it is a digest of the
    names and sizes of its files.

    Args:
        text: a setting.
    """
    if not text or len(text) > 1024 or "\n" in text:
        return None
    path = Path(text)
    try:
        if path.is_file():
            return _combined(sha256(part) for part in (path, *_weights_beside(path)))
        # A word that happens to be the name of a directory is no path.
        if path.is_dir() and ("/" in text or "." in text.strip(".")):
            return _combined(_described(path))
    except (OSError, ValueError):  # who opens it says what is wrong with it
        return None
    return None


def _files(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _files(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _files(item)
    elif isinstance(value, str) and len(value) < 1024 and Path(value).is_file():
        yield value


def _weights_beside(path: Path) -> list[Path]:
    if path.suffix != ".onnx":
        return []
    beside = path.parent.glob(f"{glob.escape(path.name)}?*")
    return sorted(other for other in beside if other.is_file() and other.suffix != ".partial")


def _combined(parts: Iterable[str]) -> str:
    found = list(parts)
    return found[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()


def _described(directory: Path) -> Iterator[str]:
    names = (".zattrs", ".zgroup", ".zarray", "zarr.json")
    metadata = [path for name in names for path in (directory / name, *sorted(directory.glob(f"*/{name}")))]
    metadata = [path for path in metadata if path.is_file()]
    if metadata:
        for path in metadata:
            content = json.loads(path.read_text(encoding="utf-8"))
            # Also what a consolidated store says about its arrays.
            content.pop("consolidated_metadata", None)
            if "shape" in content:
                yield f"{path.parent.name} {_first_chunk(path.parent, len(content['shape']))}"
                content["shape"] = content["shape"][1:]
                if path.parent.name == "time":
                    content["chunks"] = content["chunk_grid"] = None
            yield f"{path.relative_to(directory)} {json.dumps(content, sort_keys=True)}"
        return
    for path in sorted(directory.iterdir()):
        yield f"{path.name} {path.stat().st_size if path.is_file() else ''}"


def _first_chunk(array: Path, dimensions: int) -> str:
    """A digest of the beginning of an array's first chunk; empty when there is none.

    The axis of time is left out: its only chunk changes when the store grows.
    """
    zeros = ["0"] * dimensions
    places = (array / ".".join(zeros), array.joinpath(*zeros), array.joinpath("c", *zeros))
    chunk = next((path for path in places if path.is_file()), None)
    if chunk is None or array.name == "time":
        return ""
    with chunk.open("rb") as file:
        return hashlib.sha256(file.read(_BEGINNING)).hexdigest()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    root = Path(__file__).parents[1]
    try:
        # Installed into an environment that lies in a repository of something else, it has no commit.
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return None
        return _git(root, "describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()
