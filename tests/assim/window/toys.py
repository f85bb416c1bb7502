"""A small world with smooth forecasters of closed form, and what is observed of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaevar.assim.control.base import LinearControl
from vaevar.data.observations.points import Observations
from vaevar.forecast import Forecaster
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SPEC, GRID = StateSpec(surface=["u10", "v10", "t2m"], upper=[], levels=[]), Grid.gaussian(4)
SIZE = len(SPEC) * 4 * 8
MEAN = torch.tensor([2.0, 1.0, 280.0], dtype=torch.float64)[:, None, None]


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bent(history: int) -> Forecaster:
    """A forecast that mixes neighbours and channels, and bends."""

    def step(states: Tensor) -> Tensor:
        now = states[:, -1] - MEAN.to(states)
        following = 0.8 * now + 0.2 * now.roll(1, -1) + 0.05 * now * now.roll(1, -3) + 0.3 * torch.tanh(now)
        if history == 2:
            following = following - 0.25 * torch.sin(states[:, 0] - MEAN.to(states))
        return MEAN.to(states) + following

    return Forecaster.from_function(step, SPEC, GRID, history, differentiable=True)


def start(history: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """[history, C, H, W]"""
    return (MEAN + random(history, len(SPEC), *GRID.shape, seed=1)).to(dtype)


def control(seed: int = 2, columns: int = 12) -> LinearControl:
    return LinearControl(0.4 * random(SIZE, columns, seed=seed), SPEC, GRID)


def observed(offsets: Sequence[float], seed: int = 3, **values: Any) -> Observations:
    """So many of the wind speed, which is not linear in the state, and of t2m, in turn."""
    generator, count = np.random.default_rng(seed), len(offsets)
    speed = np.arange(count) % 2 == 0
    return Observations(
        **{
            "variable": np.where(speed, "ws10", "t2m"),
            "latitude": generator.uniform(-60, 60, count),
            "longitude": generator.uniform(0, 360, count),
            "pressure": np.full(count, np.nan),
            "time_offset": np.array(offsets, dtype=float),
            "value": np.where(speed, 3.0, 281.0) + generator.standard_normal(count),
            "error_std": generator.uniform(0.5, 1.5, count),
        }
        | values
    )
