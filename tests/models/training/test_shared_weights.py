"""Weights that a checkpoint shares with the ONNX file beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vaevar.errors import UserError
from vaevar.models.training.shared_weights import shared_with, with_shared


class Net(nn.Module):
    """A weight that the exporter transposes, one that it does not, and a constant that it folds."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.spatial, self.pointwise = nn.Conv2d(2, 3, 3), nn.Linear(3, 4)
        self.register_buffer("mean", torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.spatial(x).permute(0, 2, 3, 1)) + 0.1 * (self.mean + 1)


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Net, Path]:
    torch.manual_seed(0)
    net, path = Net(), tmp_path / "net.onnx"
    torch.onnx.export(net, (torch.randn(1, 2, 5, 5),), str(path), dynamo=False)
    return net, path


def test_what_the_file_holds_comes_back_bit_for_bit(exported: tuple[Net, Path]) -> None:
    net, path = exported
    state = net.state_dict()
    shared = shared_with(path, state)
    assert shared["file"] == "net.onnx"
    assert {name: transposed for name, (_, transposed) in shared["weights"].items()} == {
        "spatial.weight": False, "spatial.bias": False, "pointwise.weight": True, "pointwise.bias": False,
    }  # fmt: skip
    kept = {name: values for name, values in state.items() if name not in shared["weights"]}
    content = with_shared(path.with_suffix(".ckpt"), {"state_dict": kept, "shared": shared})
    assert content["state_dict"].keys() == state.keys()
    assert all(torch.equal(values, state[name]) for name, values in content["state_dict"].items())
    plain = {"state_dict": dict(state)}
    assert with_shared(path, plain) is plain


def test_another_file_in_its_place_is_told(exported: tuple[Net, Path], tmp_path: Path) -> None:
    net, path = exported
    content = {"state_dict": {}, "shared": shared_with(path, net.state_dict())}
    alone = tmp_path / "alone"
    alone.mkdir()
    with pytest.raises(UserError, match=r"its weights are in .*net\.onnx, which is not there: copy both"):
        with_shared(alone / "net.ckpt", content)
    shutil.copy(path, alone / "net.onnx")
    assert with_shared(alone / "net.ckpt", content)["state_dict"].keys() == net.state_dict().keys() - {"mean"}
    (alone / "net.onnx").write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match="is not the file that it was written with"):
        with_shared(alone / "net.ckpt", content)
