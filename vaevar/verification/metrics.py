"""Area-weighted scores by channel, as defined by WeatherBench 2."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchmetrics import Metric

from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


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


def normalised_series(
    scores: pd.DataFrame, arm: str, quantity: str, spec: StateSpec, std: np.ndarray
) -> np.ndarray:
    """Mean over channels of RMSE / climatological std, at each time, [T]; NaN where the truth is missing."""
    return (matrix(scores, arm, quantity, spec) / std).mean(1)


def time_mean_rmse(scores: pd.DataFrame, arm: str, quantity: str, spec: StateSpec, skip: int) -> np.ndarray:
    """RMSE over all analyses after the first ``skip``, [C]: the root is taken after the mean over time.

    Times without truth are left out; an arm of which no time is left has NaN.
    """
    squares = matrix(scores, arm, quantity, spec)[skip:] ** 2
    known = squares[~np.isnan(squares).any(1)]
    return np.sqrt(known.mean(0)) if len(known) else np.full(len(spec), np.nan)


def ends_of_windows(scores: pd.DataFrame, skip: int) -> dict[str, pd.DataFrame]:
    """The rows of the times at which the windows of all arms end, and of those at which the next ones begin.

    At the former no arm has seen an observation of a later time. Nothing where no arm has windows.

    Args:
        scores: rows of ``scores.csv``; those of earlier versions do not know windows.
        skip: number of times left out at the beginning.
    """
    if "window" not in scores or not (scores["window"] > 1).any():
        return {}
    times = np.sort(scores["time"].unique())[skip:]
    position, last = scores["position"].fillna(0), scores["window"].fillna(1) - 1
    inside = {"last time": set(scores.loc[position < last, "time"])}
    inside["next background"] = set(scores.loc[position > 0, "time"]) | {scores["time"].min()}
    return {
        label: scores[scores["time"].isin([time for time in times if time not in not_there])]
        for label, not_there in inside.items()
    }


def matrix(
    scores: pd.DataFrame, arm: str, quantity: str, spec: StateSpec, column: str = "rmse"
) -> np.ndarray:
    """RMSE, or another column, by time and channel, [T, C], in the state's channel order."""
    chosen = scores[(scores["arm"] == arm) & (scores["quantity"] == quantity)]
    if chosen.empty:
        return np.empty((0, len(spec)))
    wide = chosen.pivot(index="time", columns="channel", values=column).sort_index()
    return wide[list(spec.names)].to_numpy()
