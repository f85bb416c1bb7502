"""Where a result comes from: versions, the commit, and checksums of the files its config names."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Timer

from vaevar import __version__
from vaevar.content.digest import content_digest, is_store

PACKAGES = (
    "torch",
    "lightning",
    "torchmetrics",
    "onnxruntime",
    "onnxruntime-gpu",
    "xarray",
    "zarr",
    "numpy",
    "jcm",
)


def provenance() -> dict[str, Any]:
    """Versions, the commit and the machine, ready for JSON."""
    commit = _commit()
    return {
        "command": sys.argv,
        "commit": commit,
        "dirty": commit.endswith("-dirty") if commit else None,
        # vaevar itself may run from a clone, without being installed.
        "packages": {"vaevar": __version__} | {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "host": platform.node(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }


def fit_record(trainer: L.Trainer) -> dict[str, Any]:
    """Command, epochs and last scores of a fit, to be stored with its result; and whether it has ended."""
    unfinished = unfinished_fit(trainer)
    return {
        "command": " ".join(sys.argv),
        "epochs": trainer.current_epoch,
        **({"unfinished": unfinished} if unfinished else {}),
        "scores": {name: float(value) for name, value in trainer.callback_metrics.items()},
    }


def unfinished_fit(trainer: L.Trainer) -> str:
    """How far a fit has come that ``trainer.max_time`` has ended; empty for one that is done."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    left = [timer.time_remaining() for timer in callbacks if isinstance(timer, Timer)]
    if not any(seconds is not None and seconds <= 0 for seconds in left):
        return ""
    epochs = f" of {trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
    return (
        f"max_time has ended the fit in epoch {trainer.current_epoch + 1}{epochs}, step {trainer.global_step}"
    )


def fingerprint(config: dict[str, Any]) -> str:
    """A digest of a config and of the contents of what it names: equal for equal experiments."""
    content = {"config": config, "files": {path: _digest(path) for path in set(_files(config))}}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _files(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _files(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _files(item)
    elif isinstance(value, str) and len(value) < 1024 and (Path(value).is_file() or is_store(Path(value))):
        yield value


def _digest(name: str) -> str | None:
    found = content_digest(name)
    return None if found is None else found.sha256


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
