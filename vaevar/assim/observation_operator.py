"""The observation operator H: from a state on a grid to observed quantities at points."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vaevar.data.observations import Points, interpolation
from vaevar.sphere import Grid
from vaevar.state import StateSpec


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
