"""Area-weighted scores by channel, as defined by WeatherBench 2."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from vaevar.sphere.grid import Grid


def rmse(error: Tensor, grid: Grid) -> Tensor:
    """Area-weighted root-mean-square, [..., C, H, W] -> [..., C] float64."""
    return grid.area_mean(error.double().square()).sqrt()


def bias(error: Tensor, grid: Grid) -> Tensor:
    """Area-weighted mean, [..., C, H, W] -> [..., C] float64."""
    return grid.area_mean(error.double())


class RootMeanSquare(Metric):
    """RMSE over several times: the square root of the mean over time of the mean square.

    Args:
        channels: C.
        grid: of the fields.
    """

    full_state_update = False
    square: Tensor
    count: Tensor

    def __init__(self, channels: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.add_state("square", torch.zeros(channels, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, error: Tensor) -> None:
        """Add the error fields of one time, [C, H, W]."""
        self.square += self.grid.area_mean(error.double().square()).to(self.square.device)
        self.count += 1

    def compute(self) -> Tensor:
        """[C]; NaN before the first update."""
        return (self.square / self.count).sqrt()
