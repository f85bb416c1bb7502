"""Weights that an ONNX model keeps outside of its own file."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vaevar.errors import UserError


def weights_beside(path: Path) -> list[Path]:
    """The files that a model names for its weights, whatever they are called; empty for other files.

    Args:
        path: of an ONNX model.

    Raises:
        UserError: when one of them is not there, or lies outside of the model's folder: by ``..``, from the
            root, or through a link.
    """
    folder = path.parent
    found: dict[Path, None] = {}
    for location in dict.fromkeys(_locations(path)):
        file = folder / location
        if Path(location).is_absolute() or not file.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"{path}: names {location!r} for its weights, outside of its own folder; copy the file "
                "beside the model, and save the model with that location"
            )
        if not file.is_file():
            raise UserError(
                f"{path}: its weights are missing: it names {location!r}; put that file beside it"
            )
        found[file] = None
    return sorted(found)


def _locations(path: Path) -> Iterator[str]:
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # The key of each such entry. Most files have none, and a gigabyte is not taken apart for that.
        if content.find(b"location") < 0:
            return
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError):  # no model, which its reader says
        return
    yield from _in_graph(model.graph)
    for function in model.functions:
        yield from _in_nodes(function.node)


def _in_graph(graph: Any) -> Iterator[str]:
    sparse = [part for tensor in graph.sparse_initializer for part in (tensor.values, tensor.indices)]
    for tensor in (*graph.initializer, *sparse):
        yield from _of_tensor(tensor)
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: Any) -> Iterator[str]:
    for node in nodes:
        for attribute in node.attribute:
            for tensor in (attribute.t, *attribute.tensors):
                yield from _of_tensor(tensor)
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _in_graph(graph)


def _of_tensor(tensor: Any) -> Iterator[str]:
    if tensor.data_location:  # EXTERNAL
        yield from (entry.value for entry in tensor.external_data if entry.key == "location")
