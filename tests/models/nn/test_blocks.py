"""The network blocks: cyclic, continued across the poles, exportable."""

from __future__ import annotations

import io

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from vaevar.models.nn.blocks import (
    ConvNeXtBlock,
    Downsample,
    LatitudeModulation,
    SphereConv2d,
    Upsample,
    WindowAttention,
    pad_poles,
    pad_sphere,
)


def test_rows_beyond_a_pole_lie_half_a_circle_away() -> None:
    # Field = 100 row + column: every padded value can be named.
    x = (100.0 * torch.arange(3)[:, None] + torch.arange(4)[None])[None, None]
    padded = pad_poles(x, 2, 1)[0, 0]
    assert padded[:, 0].tolist() == [102.0, 2.0, 0.0, 100.0, 200.0, 202.0]
    assert padded[:, 3].tolist() == [101.0, 1.0, 3.0, 103.0, 203.0, 201.0]
    around = pad_sphere(x, 1, 1)[0, 0]
    assert around.shape == (5, 6)
    assert around[1].tolist() == [3.0, 0.0, 1.0, 2.0, 3.0, 0.0]
    assert around[0].tolist() == [1.0, 2.0, 3.0, 0.0, 1.0, 2.0]


def test_convolution_is_a_stencil_over_the_neighbours_on_the_sphere() -> None:
    conv = SphereConv2d(1, 1, 3, bias=False)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, 0, 1] = 1.0  # the northern neighbour
        conv.weight[0, 0, 1, 0] = 10.0  # the western neighbour
    x = torch.randn(1, 1, 4, 6)
    out = conv(x)[0, 0]
    field = x[0, 0]
    torch.testing.assert_close(out[2, 0], field[1, 0] + 10 * field[2, 5])
    torch.testing.assert_close(out[0, 1], field[0, 4] + 10 * field[0, 0])


@pytest.mark.parametrize("rows", [8, 11])
@pytest.mark.parametrize(
    ("block", "step"),
    [
        (SphereConv2d(4, 4, 5), 1),
        (ConvNeXtBlock(4), 1),
        (nn.Sequential(Downsample(4, 8), Upsample(8, 4)), 2),
        (WindowAttention(4, 2, (4, 4), shifted=False), 4),
        (WindowAttention(4, 2, (4, 4), shifted=True), 4),
    ],
    ids=["conv", "convnext", "resample", "windows", "shifted-windows"],
)
def test_rolling_the_input_rolls_the_output(block: nn.Module, step: int, rows: int) -> None:
    x = torch.randn(2, 4, rows, 16)
    rolled = block(x.roll(3 * step, dims=-1))
    torch.testing.assert_close(rolled, block(x).roll(3 * step, dims=-1), atol=1e-5, rtol=1e-5)
    assert rolled.shape[-2] == (rows if not isinstance(block, nn.Sequential) else rows + rows % 2)


def test_odd_rows_survive_down_and_up() -> None:
    x = torch.randn(1, 3, 7, 12)
    down = Downsample(3, 5, factor=3)(x)
    assert down.shape == (1, 5, 3, 4)
    assert Upsample(5, 3, factor=3)(down, rows=7).shape == x.shape


def test_attention_within_a_window_equals_the_softmax_formula() -> None:
    block = WindowAttention(4, 1, (2, 2), shifted=False, layer_scale=1.0)
    nn.init.normal_(block.position_bias)
    x = torch.randn(1, 4, 2, 4)
    out = (block(x) - x)[0, :, :, 2:]  # the second window
    tokens = block.norm(x[0, :, :, 2:].flatten(1).T)
    query, key, value = block.query_key_value(tokens).chunk(3, dim=-1)
    bias = torch.empty(4, 4)
    for i in range(4):
        for j in range(4):
            apart = (i // 2 - j // 2 + 1) * 3 + (i % 2 - j % 2 + 1)
            bias[i, j] = block.position_bias[0, apart]
    expected = block.project(torch.softmax(query @ key.T / 2 + bias, dim=-1) @ value)
    torch.testing.assert_close(out.flatten(1).T, expected, atol=1e-5, rtol=1e-5)


def test_shifted_windows_see_across_the_pole_and_the_date_line() -> None:
    block = WindowAttention(4, 1, (4, 4), shifted=True)
    x = torch.randn(1, 4, 8, 16, requires_grad=True)
    block(x)[0, :, 0, 0].sum().backward()
    seen = x.grad.abs().sum(1)[0] > 0
    assert seen[0, 8]
    assert seen[0, 15]
    assert not seen[3].any()
    assert not seen[0, 4]


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="odd"):
        SphereConv2d(1, 1, 4)
    with pytest.raises(ValueError, match="multiple of heads"):
        WindowAttention(6, 4, (2, 2), shifted=False)


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = Downsample(3, 8)
        self.middle = nn.Sequential(ConvNeXtBlock(8), WindowAttention(8, 2, (3, 4), shifted=True))
        self.up = Upsample(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.middle(self.down(x)), rows=x.shape[-2])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rows", [11, 12])
def test_onnx_export_gives_the_same_numbers(rows: int) -> None:
    net = _Net().eval()
    file = io.BytesIO()
    torch.onnx.export(
        net,
        (torch.randn(1, 3, rows, 16),),
        file,
        dynamo=False,
        opset_version=17,
        input_names=["x"],
        dynamic_axes={"x": {0: "batch"}},
    )
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    x = torch.randn(2, 3, rows, 16)
    (found,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, net(x).detach().numpy(), atol=1e-5)


def test_latitude_modulation_is_the_same_series_on_any_grid() -> None:
    coarse, fine = LatitudeModulation(3, 4, degree=2), LatitudeModulation(3, 8, degree=2)
    fine.load_state_dict(coarse.state_dict())
    sine = np.sin(np.radians(np.linspace(90 - 22.5 / 2, -90 + 22.5 / 2, 8)))
    series = np.stack([np.ones(8), sine, 1.5 * sine**2 - 0.5], -1)
    x = torch.randn(2, 3, 8, 6)
    gain = 1 + torch.from_numpy(series).float() @ fine.gain.detach()
    torch.testing.assert_close(fine(x), x * gain.T[:, :, None])
    assert 0.05 < coarse.gain.detach().std() < 1


def test_latitude_modulation_tells_the_hemispheres_apart() -> None:
    torch.manual_seed(0)
    layer = LatitudeModulation(4, 8)
    x = torch.randn(1, 4, 8, 6)
    assert not torch.allclose(layer(x.flip(-2)).flip(-2), layer(x), atol=0.05)
