"""The observation operator H: from a state on a grid to observed quantities at points."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.data.observations.points import Points
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.sphere.interpolation import bilinear_weights
from vaevar.state import SURFACE_VARIABLES, VARIABLES, StateSpec


class ObservationOperator(nn.Module):
    """Linear interpolation to P observations: bilinear on the sphere, linear in ln p aloft.

    H is linear, so it serves states and increments alike, from any grid: the variational cost
    takes the background from its full grid once, and increments straight from the grid of the
    control transform. Its transpose is what autograd gives.

    Weights are float64 until the module is moved: ``.to(dtype)`` makes it as precise as the state
    it will see. Whatever the state's precision, sums are made in the weights' or better.

    Args:
        spec, grid: of the [C, H, W] states it will see.
        points: the observations, or only where they are.

    Raises:
        UserError: for a variable that the state lacks or a pressure outside its levels.
    """

    index: Tensor
    weight: Tensor

    def __init__(self, spec: StateSpec, grid: Grid, points: Points) -> None:
        super().__init__()
        self.spec, self.grid = spec, grid
        index, weight = interpolation(spec, grid, points)
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., P].

        Raises:
            ValueError: when ``x`` is not of the operator's channels and grid.
        """
        expected = (len(self.spec), *self.grid.shape)
        if tuple(x.shape[-3:]) != expected:
            raise ValueError(f"x ends in {tuple(x.shape[-3:])}, the operator expects {expected}")
        if torch.finfo(x.dtype).bits < 32:
            # Before the gather: its adjoint adds up the corners that observations share.
            x = x.float()
        corners = x.flatten(-3).index_select(-1, self.index.flatten())
        return (corners.reshape(*x.shape[:-3], *self.index.shape) * self.weight).sum(-1)


def representable(spec: StateSpec, points: Points) -> np.ndarray:
    """[P] bool: the state has the variable and, aloft, levels that enclose the pressure."""
    surface = np.isin(points.variable, list(spec.surface))
    upper = np.isin(points.variable, list(spec.upper))
    if not spec.levels:
        return surface
    with np.errstate(invalid="ignore"):
        inside = (points.pressure >= spec.levels[0]) & (points.pressure <= spec.levels[-1])
    return surface | (upper & inside)


def interpolation(spec: StateSpec, grid: Grid, points: Points) -> tuple[Tensor, Tensor]:
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
        UserError: for a variable that the state lacks or a pressure outside its levels (nothing
            is extrapolated; :func:`representable` tells which points can be kept).
    """
    outside = ~representable(spec, points)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        name, pressure = points.variable[first], points.pressure[first]
        place = "" if np.isnan(pressure) else f" at {pressure:g} hPa"
        held = sorted(set(spec.surface) | set(spec.upper))
        levels = f" from {spec.levels[0]} to {spec.levels[-1]} hPa" if spec.levels else ""
        raise UserError(
            f"{int(outside.sum())} of {len(points)} observations cannot be compared with the state, "
            f"such as {name}{place}: it holds {', '.join(held)}{levels}; drop them first"
        )
    upper_channel = np.zeros(len(points), dtype=np.int64)
    lower_channel = np.zeros(len(points), dtype=np.int64)
    toward_lower = np.zeros(len(points))
    log_levels = np.log(np.array(spec.levels, dtype=np.float64))
    for name in np.unique(points.variable):
        here = points.variable == name
        first = spec.variable_slice(str(name)).start
        if name in SURFACE_VARIABLES:
            upper_channel[here] = lower_channel[here] = first
            continue
        log_pressure = np.log(points.pressure[here])
        above = np.clip(np.searchsorted(log_levels, log_pressure, side="right") - 1, 0, None)
        below = np.minimum(above + 1, len(spec.levels) - 1)
        depth = log_levels[below] - log_levels[above]
        # On the lowest level the two coincide and the whole weight stays above.
        toward_lower[here] = (log_pressure - log_levels[above]) / np.where(depth > 0, depth, 1.0)
        upper_channel[here], lower_channel[here] = first + above, first + below

    horizontal = bilinear_weights(grid, points.latitude, points.longitude)
    winds = [name for name, known in VARIABLES.items() if known.is_wind]
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
