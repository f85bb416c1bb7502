"""Observations of the speed of the 10 m wind, as scatterometers and cup anemometers make them."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vaevar.data.observations.interpolation import PointInterpolation
from vaevar.data.observations.operator import ObservationOperator, Quantity
from vaevar.data.observations.points import Points
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


class WindSpeed(ObservationOperator):
    """``ws10`` = √(u10² + v10²), m/s, of the components interpolated to the point.

    Not linear: an analysis takes the full path, x_b + D(w) on the background's grid.

    Args:
        spec, grid: of the [C, H, W] states that it reads, with u10 and v10.
        points: P of them.
    """

    observes: ClassVar = {"ws10": Quantity("m s**-1", ("u10", "v10"), least=0.0)}
    linear = False

    def __init__(self, spec: StateSpec, grid: Grid, points: Points) -> None:
        super().__init__(spec, grid, points)
        self.u = PointInterpolation(spec, grid, replace(points, variable=np.array("u10")))
        self.v = PointInterpolation(spec, grid, replace(points, variable=np.array("v10")))

    def forward(self, state: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., P]; where the air is calm the gradient is 0."""
        return torch.linalg.vector_norm(torch.stack([self.u(state), self.v(state)]), dim=0)
