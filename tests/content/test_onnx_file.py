"""Weights outside of an ONNX file belong to its checksum, and lie in its folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vaevar.content.digest import file_digest, sha256
from vaevar.content.onnx_file import weights_beside
from vaevar.errors import UserError
from vaevar.models.forecaster.onnx_session import OnnxSession


def save(path: Path, location: str | None, value: float = 1.0, inside: str = "initializer") -> Path:
    """A model that adds a constant, which it names ``location`` for."""
    tensor = numpy_helper.from_array(np.full(600, value, np.float32), "constant")
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [600]) for name in ("input", "output")]
    nodes = [helper.make_node("Add", ["input", "constant"], ["output"])]
    if inside == "attribute":
        nodes.insert(0, helper.make_node("Constant", [], ["constant"], value=tensor))
    graph = helper.make_graph(nodes, "toy", shape[:1], shape[1:], [tensor] if inside == "initializer" else [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if location is not None:
        held = graph.initializer[0] if inside == "initializer" else graph.node[0].attribute[0].t
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        held = model.graph.initializer[0] if inside == "initializer" else model.graph.node[0].attribute[0].t
        content = held.raw_data
        held.ClearField("raw_data")
        held.data_location = TensorProto.EXTERNAL
        held.external_data.add(key="location", value=location)
        target = path.parent / location
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("location", ["model.onnx.data", "weights.bin", "parts/of it", "model.onnx_data"])
@pytest.mark.parametrize("inside", ["initializer", "attribute"])
def test_other_weights_are_another_model(tmp_path: Path, location: str, inside: str) -> None:
    path = save(tmp_path / "model.onnx", location, inside=inside)
    assert weights_beside(path) == [tmp_path / location]
    before = file_digest(path)
    assert before != sha256(path)
    (tmp_path / "model.onnx.bak").write_bytes(b"beside it, and none of it")
    assert file_digest(path) == before
    save(path, location, value=2.0, inside=inside)
    assert file_digest(path) != before


def test_a_model_that_holds_its_weights_is_its_file(tmp_path: Path) -> None:
    path = save(tmp_path / "model.onnx", None)
    assert weights_beside(path) == []
    assert file_digest(path) == sha256(path)
    path.write_bytes(b"a text about a location")
    assert weights_beside(path) == []


def test_weights_lie_in_the_folder_of_their_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    outside = tmp_path / "secret"
    outside.write_bytes(bytes(2400))
    os.symlink(outside, folder / "link")
    os.symlink(tmp_path, folder / "up")
    for location in ("../secret", str(outside), "link", "up/secret", "sub/../../secret"):
        path = save(folder / "model.onnx", "model.data")
        model = onnx.load(str(path), load_external_data=False)
        model.graph.initializer[0].external_data[0].value = location
        path.write_bytes(model.SerializeToString())
        for read in (file_digest, OnnxSession):
            with pytest.raises(UserError, match=r"model\.onnx: names .* outside of its own folder; copy"):
                read(path)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "model.onnx", "model.data")
    (tmp_path / "model.data").unlink()
    with pytest.raises(UserError, match=r"its weights are missing: it names 'model\.data'"):
        OnnxSession(path)
