from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vaevar.models.forecaster.export import export
from vaevar.models.forecaster.fengwu import OnnxForecaster
from vaevar.models.forecaster.resolved_scales import ResolvedScales, Truncation
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.state import StateSpec

GRID = Grid.gaussian(16)


@pytest.mark.parametrize("grid", [GRID, Grid.equiangular(25)], ids=str)
def test_truncation_is_analysis_and_synthesis(grid: Grid) -> None:
    x = torch.randn(2, 3, *grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    harmonics = SphericalHarmonics(grid, 7, torch.float64)
    truncation = Truncation(grid, 7).double()
    expected = harmonics.synthesise(harmonics.analyse(x))
    torch.testing.assert_close(truncation(x), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(truncation(expected), expected, atol=1e-6, rtol=0)


def test_each_part_comes_from_where_it_should() -> None:
    random = torch.Generator().manual_seed(1)
    forecast, before = torch.randn(2, 1, 2, *GRID.shape, generator=random)
    state = torch.randn(2, *GRID.shape, generator=random)
    scales = ResolvedScales(2, GRID, 7, 0.9)
    scales.set_mean(state)
    made, large = scales(forecast, before), scales.truncation
    torch.testing.assert_close(large(made), large(forecast), atol=1e-5, rtol=0)
    small = before - large(before)
    mean = (state - large(state[None])[0])[None]
    torch.testing.assert_close(made - large(made), mean + 0.9 * (small - mean), atol=1e-5, rtol=0)


def test_noise_beyond_the_truncation_fades_in_a_rollout() -> None:
    """Whatever a network makes of it: here it doubles everything."""
    scales = ResolvedScales(1, GRID, 7, 0.5)
    x = torch.randn(1, 1, *GRID.shape, generator=torch.Generator().manual_seed(2))
    x = x - scales.truncation(x)
    for _ in range(10):
        x = scales(2 * x, x)
    assert float(x.abs().max()) < 0.01


def test_it_is_exported(tmp_path: Path) -> None:
    spec = StateSpec(["t2m"], ["z"], [500])

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scales = ResolvedScales(2, GRID, 7, 0.9)

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return self.scales(1.1 * states[:, 2:], states[:, 2:])

    network, path = Network(), tmp_path / "f.onnx"
    export(network, path, spec, GRID)
    np.save(tmp_path / "mean.npy", np.array([280.0, 5e4]))
    np.save(tmp_path / "std.npy", np.array([20.0, 3e3]))
    forecaster = OnnxForecaster(str(path), str(tmp_path / "mean.npy"), str(tmp_path / "std.npy"), spec=spec)
    states = torch.randn(3, 4, *GRID.shape)
    mean, std = torch.tensor([280.0, 5e4]), torch.tensor([20.0, 3e3])
    physical = states.unflatten(1, (2, 2)) * std[:, None, None] + mean[:, None, None]
    made = (forecaster.step(physical) - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(made, network(states), atol=2e-3, rtol=0)


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="memory"):
        ResolvedScales(1, GRID, 7, 1.5)
    with pytest.raises(ValueError, match="lmax"):
        ResolvedScales(1, GRID, 99, 0.9)
