from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaevar.errors import UserError
from vaevar.models.forecaster.export import export
from vaevar.models.forecaster.fengwu import OnnxForecaster
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec
from vaevar.state.normalizer import Normalizer

SPEC = StateSpec(surface=("t2m",), upper=("t",), levels=(500, 850))
GRID = Grid.gaussian(4)
MEAN, STD = np.array([280.0, 250.0, 275.0]), np.array([20.0, 15.0, 18.0])


class Network(nn.Module):
    """t+6h = x(t) + a convolution of both states, cyclic in longitude; attention over latitudes."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.outputs = outputs
        self.convolution = nn.Conv2d(6, outputs, 3)
        self.dropout = nn.Dropout(0.5)

    def forward(self, states: Tensor) -> Tensor:
        padded = nn.functional.pad(nn.functional.pad(states, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1))
        tendency = self.dropout(self.convolution(padded))
        tokens = tendency.transpose(1, 2).flatten(2)[:, None]
        mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0]
        return tendency + mixed.unflatten(2, (self.outputs, -1)).transpose(1, 2) + states[:, -self.outputs :]


@pytest.fixture
def statistics(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "mean.npy", tmp_path / "std.npy"
    for path, values in zip(paths, (MEAN, STD), strict=True):
        np.save(path, values)
    return paths


@pytest.mark.parametrize("outputs", [3, 6])
def test_the_exported_model_forecasts_as_the_network_does(tmp_path, statistics, outputs):
    network = Network(outputs).train()
    path = export(network, tmp_path / "weights" / "model.onnx", SPEC, GRID)
    assert network.training
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]

    forecaster = OnnxForecaster(path, *statistics, spec=SPEC)
    assert forecaster.grid == GRID  # from the file itself, though 4 × 8 alone would not say
    before = torch.from_numpy(MEAN).float()[:, None, None] + 10 * torch.randn(3, 1, 3, 4, 8)
    states = torch.cat([before, before + torch.randn_like(before)], 1)
    normalizer = Normalizer(MEAN, STD)
    with torch.no_grad():
        made = network.eval()(normalizer.normalize(states).flatten(1, 2))
    expected = normalizer.denormalize(made[:, :3])
    torch.testing.assert_close(forecaster.step(states), expected, rtol=0, atol=1e-3)


def test_the_file_knows_its_channels_grid_and_step(tmp_path, statistics):
    path = export(Network(), tmp_path / "model.onnx", SPEC, GRID, step_hours=12)
    OnnxForecaster(path, *statistics, spec=SPEC, step_hours=12)
    with pytest.raises(UserError, match="time step is 12 h, but step_hours is 6"):
        OnnxForecaster(path, *statistics, spec=SPEC)
    other = StateSpec(surface=("t2m",), upper=("t",), levels=(500, 700))
    with pytest.raises(UserError, match="channel 2 is t850, but the config's is t700"):
        OnnxForecaster(path, *statistics, spec=other, step_hours=12)
    with pytest.raises(UserError, match=r"its own grid is .*Gaussian.*, but the config says"):
        OnnxForecaster(path, *statistics, spec=SPEC, step_hours=12, grid="equiangular")


class Frozen(nn.Module):
    """Its trace remembers the batch that it saw."""

    def forward(self, states: Tensor) -> Tensor:
        return states[:, :3] + torch.full((1,), float(states.shape[0]))


class Noisy(nn.Module):
    def forward(self, states: Tensor) -> Tensor:
        return states[:, :3] + torch.randn_like(states[:, :3])


class Short(nn.Module):
    def forward(self, states: Tensor) -> Tensor:
        return states[:, :2]


@pytest.mark.parametrize(
    ("network", "says"), [(Frozen(), "differ"), (Noisy(), "differ"), (Short(), "half the channels")]
)
def test_a_model_that_would_forecast_otherwise_is_not_written(tmp_path, network, says):
    path = tmp_path / "model.onnx"
    path.write_text("the last good one")
    with pytest.raises(ValueError, match=says):
        export(network, path, SPEC, GRID)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_text() == "the last good one"
