"""Direct observations of the state's variables: H interpolates."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vaevar.data.observations.operator import Located, ObservationOperator, Quantity, require_representable
from vaevar.sphere.grid import Grid
from vaevar.sphere.interpolation import bilinear_weights
from vaevar.state import SURFACE_VARIABLES, UPPER_VARIABLES, VARIABLES, State, StateSpec


class PointInterpolation(ObservationOperator):
    """Linear interpolation to P observations: bilinear on the sphere, linear in ln p aloft.

    It serves states and increments alike, from any grid: the variational cost takes the background from
    its full grid once, and increments straight from the grid of the control transform (Courtier et al.,
    1994). Autograd gives its transpose.

    Weights are float64 until the module is moved: ``.to(dtype)`` makes it as precise as the state it will
    see. Whatever the state's precision, sums are made in that of the weights or better.

    Args:
        spec, grid: of the [C, H, W] states that it reads.
        points: the observations, or only where they are.

    Raises:
        UserError: for a variable that the state lacks, or a pressure outside its levels.
    """

    observes: ClassVar = {name: Quantity(v.units, (name,)) for name, v in SURFACE_VARIABLES.items()} | {
        name: Quantity(v.units, (name,), upper=True) for name, v in UPPER_VARIABLES.items()
    }
    linear = True
    index: Tensor
    weight: Tensor

    def __init__(self, spec: StateSpec, grid: Grid, points: Located) -> None:
        super().__init__(spec, grid, points)
        index, weight = interpolation_weights(spec, grid, points)
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, state: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., P].

        Raises:
            ValueError: when ``state`` is not of the operator's channels and grid.
        """
        self.check_shape(state)
        return interpolate(state, self.index, self.weight)

    def observed_increment(
        self, background: State, grid: Grid, dtype: torch.dtype
    ) -> Callable[[Tensor], Tensor]:
        """The incremental path with weights in the precision of the minimisation."""
        index, weight = self.index, self.weight
        if grid != self.grid:
            index, weight = interpolation_weights(self.spec, grid, self.points)
            index, weight = index.to(self.index.device), weight.to(self.index.device)
        weight = weight.to(dtype)
        return lambda increment: interpolate(increment, index, weight)


def interpolate(field: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """[..., C, H, W] -> [..., P], with what :func:`interpolation_weights` gives."""
    if torch.finfo(field.dtype).bits < 32:
        # Before the gather: its adjoint adds up the corners that observations share.
        field = field.float()
    corners = field.flatten(-3).index_select(-1, index.flatten())
    return (corners.reshape(*field.shape[:-3], *index.shape) * weight).sum(-1)


def interpolation_weights(spec: StateSpec, grid: Grid, points: Located) -> tuple[Tensor, Tensor]:
    """Corners and weights that take a state to points: value = Σ_k weight · state.flatten()[index].

    Bilinear on the sphere (a wind component continued across a pole changes sign) and linear in
    the logarithm of pressure between the two levels around a point. K is 4 where every point lies
    on a level or at the surface, and 8 otherwise.

    Args:
        spec, grid: of the [C, H, W] state.
        points: P points.

    Returns:
        index: [P, K] int64 positions in the flattened [C·H·W] state.
        weight: [P, K] float64; for a scalar they are non-negative and sum to 1.

    Raises:
        UserError: for a variable that the state lacks, or a pressure outside its levels
            (:func:`~vaevar.data.observations.operator.representable` tells which points can be kept).
    """
    require_representable(spec, points)
    upper_channel = np.zeros(len(points), dtype=np.int64)
    lower_channel = np.zeros(len(points), dtype=np.int64)
    toward_lower = np.zeros(len(points))
    log_levels = np.log(np.array(spec.levels, dtype=np.float64))
    for name in np.unique(points.variable):
        rows = points.variable == name
        first = spec.variable_slice(str(name)).start
        if name in SURFACE_VARIABLES:
            upper_channel[rows] = lower_channel[rows] = first
            continue
        log_pressure = np.log(points.pressure[rows])
        above = np.clip(np.searchsorted(log_levels, log_pressure, side="right") - 1, 0, None)
        below = np.minimum(above + 1, len(spec.levels) - 1)
        depth = log_levels[below] - log_levels[above]
        # On the lowest level the two coincide and the whole weight stays above.
        toward_lower[rows] = (log_pressure - log_levels[above]) / np.where(depth > 0, depth, 1.0)
        upper_channel[rows], lower_channel[rows] = first + above, first + below

    horizontal = bilinear_weights(grid, points.latitude, points.longitude)
    winds = [name for name, variable in VARIABLES.items() if variable.is_wind]
    is_wind = torch.from_numpy(np.isin(points.variable, winds))[:, None]
    weight = torch.where(horizontal.across_pole & is_wind, -horizontal.weight, horizontal.weight)
    size = grid.shape[0] * grid.shape[1]
    index = horizontal.index + torch.from_numpy(upper_channel * size)[:, None]
    if not toward_lower.any():
        return index, weight
    fraction = torch.from_numpy(toward_lower)[:, None]
    below_index = horizontal.index + torch.from_numpy(lower_channel * size)[:, None]
    return (
        torch.cat([index, below_index], dim=1),
        torch.cat([weight * (1 - fraction), weight * fraction], dim=1),
    )
