"""A session on its own, with a model of another contract: two inputs, two outputs."""

from __future__ import annotations

import pickle
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from vaevar.errors import UserError
from vaevar.models.forecaster.onnx_session import Node, OnnxSession


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """upper, surface -> their sum over the levels, and surface · 2."""
    nodes = [
        helper.make_node("ReduceSum", ["upper", "axes"], ["total"], keepdims=0),
        helper.make_node("Add", ["surface", "surface"], ["doubled"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [
            helper.make_tensor_value_info("upper", TensorProto.FLOAT, [3, "h", 4]),
            helper.make_tensor_value_info("surface", TensorProto.FLOAT, ["h", 4]),
        ],
        [
            helper.make_tensor_value_info("total", TensorProto.FLOAT, ["h", 4]),
            helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["h", 4]),
        ],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"made by": "hand"})
    onnx.save(model, str(tmp_path / "two.onnx"))
    return tmp_path / "two.onnx"


def test_it_reads_and_writes_tensors_in_place(path: Path) -> None:
    session = OnnxSession(path, device="cpu", threads=1)
    assert session.inputs == [
        Node("upper", "tensor(float)", (3, "h", 4)),
        Node("surface", "tensor(float)", ("h", 4)),
    ]
    assert [node.name for node in session.outputs] == ["total", "doubled"]
    assert session.metadata == {"made by": "hand"}
    upper, surface = torch.randn(3, 2, 4), torch.randn(2, 4)
    for one in (session, pickle.loads(pickle.dumps(session))):
        total, doubled = torch.empty(2, 4), torch.empty(2, 4)
        one.run({"upper": upper, "surface": surface}, {"total": total, "doubled": doubled})
        torch.testing.assert_close(total, upper.sum(0))
        assert torch.equal(doubled, 2 * surface)


def test_mistakes(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        OnnxSession(tmp_path / "none.onnx")
    with pytest.raises(UserError, match="'warp' is no device"):
        OnnxSession(path, device="warp")
    session = OnnxSession(path, device="cpu")
    upper, surface, output = torch.randn(3, 2, 4), torch.randn(5, 4), torch.empty(2, 4)
    with pytest.raises(UserError, match="the forecast failed"):
        session.run({"upper": upper, "surface": surface}, {"total": output, "doubled": output.clone()})
