"""Weight files: hyperparameters, weights and provenance, without the optimiser's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from vaevar.errors import UserError
from vaevar.files import replacing


def write_weights(
    path: str | Path,
    module: L.LightningModule,
    kind: str,
    provenance: Mapping[str, Any],
    convert: Callable[[str, Tensor], Tensor] = lambda name, values: values,
) -> None:
    """Write a module's weights; the file appears whole or not at all.

    Args:
        path: the file.
        module: a module whose ``hparams`` are the arguments of its constructor.
        kind: the format that :func:`read_weights` expects in the file.
        provenance: plain values (command, data, scores) to keep with the weights.
        convert: from the name and values of an entry of the state to the values to write, such as float16.
    """
    path = Path(path)
    content = {
        "format": kind,
        "hyper_parameters": _plain(dict(module.hparams)),
        "state_dict": {
            name: convert(name, values.detach().cpu()).contiguous()
            for name, values in module.state_dict().items()
        },
        "provenance": _plain(provenance),
    }
    with replacing(path) as partial:
        torch.save(content, partial)


def read_weights(path: str | Path, kind: str, hint: str) -> dict[str, Any]:
    """Read a weight file, or an ordinary checkpoint of a fit, onto the CPU.

    Args:
        path: the file.
        kind: as in :func:`write_weights`.
        hint: what to do if the file is missing.

    Returns:
        ``hyper_parameters``, ``state_dict``, and what else the file holds.

    Raises:
        UserError: when the file is missing, damaged or of another kind.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint; {hint}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises exceptions of many kinds; each means "not a checkpoint"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read as a checkpoint ({reason})") from None
    if not isinstance(content, dict) or not {"hyper_parameters", "state_dict"} <= content.keys():
        raise UserError(f"{path}: not a checkpoint; expected hyper_parameters and state_dict")
    if content.get("format", kind) != kind:
        raise UserError(f"{path}: is a {content['format']}, expected a {kind}; {hint}")
    content["hyper_parameters"] = _plain(content["hyper_parameters"])
    return content


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples as lists, without the keys that the command line adds."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
        if not key.startswith("_")
    }
