"""Sensitivity to the initial state: how it is scaled, and whether small changes do what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaevar.experiments.sensitivity.score import ForecastError
from vaevar.forecast import Forecaster
from vaevar.sphere.grid import Grid

SIZES = (0.001, 0.01, 0.1, 1.0)  # of the perturbations that are tried, in analysis errors


@dataclass(frozen=True)
class Tried:
    """A perturbation of the initial states, and what it did.

    Attributes:
        size: in analysis errors.
        predicted: change of J_e by the gradient.
        found: change of J_e by the forecaster.
    """

    size: float
    predicted: float
    found: float

    @property
    def error(self) -> float:
        """Of the prediction, relative to what was found."""
        return abs(self.predicted - self.found) / abs(self.found) if self.found else float("nan")


def scaled(gradient: Tensor, std: np.ndarray, grid: Grid) -> Tensor:
    """∂J_e/∂x per climatological std and per area: s with δJ_e = Σ over channels of the area mean of s δx/σ.

    It is the gradient in the norm ‖δx‖² = Σ area mean of (δx/σ)², and does not depend on the resolution.

    Args:
        gradient: [history, C, H, W].
        std: [C], σ.
        grid: H × W.

    Returns:
        [history, C, H, W] float64, dimensionless.
    """
    rows, columns = grid.shape
    per_point = grid.area_weights.to(gradient.device)[:, None] / (rows * columns)
    sigma = torch.from_numpy(std).to(gradient.device)[:, None, None]
    return gradient.double() * sigma / per_point


def perturbed(
    score: ForecastError,
    forecaster: Forecaster,
    states: Tensor,
    gradient: Tensor,
    perturbation: Tensor,
    sizes: Sequence[float] = SIZES,
) -> list[Tried]:
    """What J_e does when the initial states are perturbed.

    Args:
        score: J_e.
        forecaster: makes the forecasts.
        states: [history, C, H, W].
        gradient: of J_e there.
        perturbation: [K', C, H, W], of the last K' of the states.
        sizes: numbers by which it is multiplied.
    """
    count = len(perturbation)
    slope = float((gradient[-count:].double() * perturbation.double()).sum())
    reference = score.value(forecaster, states)
    tried = []
    for size in sizes:
        changed = (states[-count:].double() + size * perturbation.double()).to(states.dtype)
        value = score.value(forecaster, torch.cat([states[:-count], changed]))
        tried.append(Tried(size, size * slope, value - reference))
    return tried
