"""Where a result comes from: versions, the commit, and checksums of the files its config names."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import lightning as L

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


def provenance(config: dict[str, Any]) -> dict[str, Any]:
    """Versions, commit and checksums, ready for JSON.

    Args:
        config: the resolved config; files that it names are checksummed.
    """
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "commit": _commit(),
        "files": {path: sha256(Path(path)) for path in sorted(set(_files(config)))},
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


def _files(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _files(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _files(item)
    elif isinstance(value, str) and len(value) < 1024 and Path(value).is_file():
        yield value


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    root = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
