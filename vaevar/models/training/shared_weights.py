"""Weights that a checkpoint shares with the ONNX file beside it, instead of holding them a second time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from vaevar.content.digest import sha256
from vaevar.errors import UserError

KEY = "shared"


def shared_with(onnx_file: Path, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What of a state an ONNX file holds, bit for bit or transposed, as exporters do.

    Args:
        onnx_file: the file.
        state: the state of the module that it was exported from.

    Returns:
        For the key ``shared`` of a checkpoint: name and checksum of the file, and by entry of the state the
        constant of the file and whether it is the transpose.
    """
    constants = _constants(onnx_file)
    by_content = {_content(values): (name, False) for name, values in constants.items()}
    by_content |= {_content(values.T): (name, True) for name, values in constants.items() if values.ndim == 2}
    by_content |= {_content(values): (name, False) for name, values in constants.items()}
    found = {name: by_content.get(_content(values.cpu().numpy())) for name, values in state.items()}
    weights = {name: list(place) for name, place in found.items() if place is not None}
    return {"file": onnx_file.name, "sha256": sha256(onnx_file), "weights": weights}


def with_shared(path: str | Path, content: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint, with what it shares with the file beside it.

    Args:
        path: of the checkpoint.
        content: of the checkpoint; one that shares nothing is returned as it is.

    Raises:
        UserError: when the other file is missing or has changed.
    """
    if KEY not in content:
        return content
    shared = content[KEY]
    file = Path(path).parent / Path(shared["file"]).name
    if not file.is_file():
        raise UserError(f"{path}: its weights are in {file}, which is not there: copy both files together")
    if sha256(file) != shared["sha256"]:
        raise UserError(f"{path}: its weights are in {file}, which is not the file that it was written with")
    constants = _constants(file)
    state = dict(content["state_dict"])
    for name, (constant, transposed) in shared["weights"].items():
        values = constants[constant]
        state[name] = torch.from_numpy((values.T if transposed else values).copy())
    return content | {"state_dict": state}


def _constants(file: Path) -> dict[str, np.ndarray]:
    graph = onnx.load(str(file)).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _content(values: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return str(values.dtype), values.shape, values.tobytes()
