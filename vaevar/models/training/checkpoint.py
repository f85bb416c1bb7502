"""Slim checkpoints: hyperparameters, weights and where they come from, without the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from vaevar.errors import UserError


def save_slim(
    path: str | Path,
    module: L.LightningModule,
    kind: str,
    provenance: Mapping[str, Any],
    stored: Callable[[str, Tensor], Tensor] = lambda name, values: values,
) -> None:
    """Write a module's weights; the file appears whole or not at all.

    Args:
        path: the file.
        module: with ``hparams`` from which its class can be made again.
        kind: what :func:`read_slim` must find in the file.
        provenance: plain values (command, data, scores) to keep with the weights.
        stored: what is kept of each entry of the state, such as a lower precision.
    """
    path = Path(path)
    content = {
        "format": kind,
        "hyper_parameters": _plain(dict(module.hparams)),
        "state_dict": {
            name: stored(name, values.detach().cpu()).contiguous()
            for name, values in module.state_dict().items()
        },
        "provenance": _plain(provenance),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save(content, partial)
    partial.replace(path)


def read_slim(path: str | Path, kind: str, hint: str) -> dict[str, Any]:
    """What is in a slim checkpoint, or in an ordinary one of a fit, on the CPU.

    Args:
        path: the file.
        kind: as it was saved with.
        hint: what to do when there is none.

    Raises:
        UserError: when the file is missing, damaged or of another kind.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint; {hint}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises many kinds; each means "not a checkpoint"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read as a checkpoint ({reason})") from None
    if not isinstance(content, dict) or not {"hyper_parameters", "state_dict"} <= content.keys():
        raise UserError(f"{path}: not a checkpoint; expected hyper_parameters and state_dict in it")
    if content.get("format", kind) != kind:
        raise UserError(f"{path}: is a {content['format']}, expected a {kind}; {hint}")
    content["hyper_parameters"] = _plain(content["hyper_parameters"])
    return content


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples as lists, and no keys that only the command line adds."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
        if not key.startswith("_")
    }
