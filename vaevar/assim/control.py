"""Control transforms D: from a control vector with unit covariance to an increment.

A variational analysis is x = x_b + D(w). In 3DVar D is a square root of B, in VAE-Var the decoder
of a VAE; swapping D is all that distinguishes them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.sphere import Grid, InterpolationWeights, bilinear_weights
from vaevar.state import State, StateSpec


class ControlTransform(nn.Module, ABC):
    """The base of every D. A module, so that devices follow; a class that configs can choose.

    Attributes:
        spec, grid: of the increments it makes. The grid may be coarser than the background's.
    """

    spec: StateSpec
    grid: Grid

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of w, which is standard normal a priori."""

    def given(self, background: State, coverage: Tensor | None) -> None:
        """Told before each analysis, for a D that depends on the day.

        Args:
            background: x_b.
            coverage: [K, H, W], where earlier analyses had observations (:mod:`vaevar.data.coverage`); none
                outside a cycle.
        """

    @abstractmethod
    def forward(self, w: Tensor) -> Tensor:
        """w of ``shape`` -> increment [C, H, W] in physical units, differentiable.

        Zero at w = 0, unless the background is known to be wrong in the mean.
        """


class LinearControl(ControlTransform):
    """D(w) = U w with an explicit matrix: B = U Uᵀ, for states small enough to write it down.

    Args:
        matrix: [C·H·W, N], U; physical units.
        spec, grid: of the increments.

    Raises:
        ValueError: when the matrix does not have a row for each value of the state.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor, spec: StateSpec, grid: Grid) -> None:
        super().__init__()
        size = len(spec) * grid.shape[0] * grid.shape[1]
        if matrix.ndim != 2 or matrix.shape[0] != size:
            raise ValueError(f"matrix is {tuple(matrix.shape)}, expected ({size}, N)")
        self.spec, self.grid = spec, grid
        self.register_buffer("matrix", matrix)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.matrix.shape[1],)

    def forward(self, w: Tensor) -> Tensor:
        """[N] -> [C, H, W]."""
        return (self.matrix.to(w.dtype) @ w).reshape(len(self.spec), *self.grid.shape)


def regrid(field: Tensor, spec: StateSpec, source: Grid, target: Grid) -> Tensor:
    """Put an increment on another grid, bilinearly; winds change sign across a pole.

    Args:
        field: [..., C, H, W] on ``source``.
        spec: its channels.

    Returns:
        [..., C, H', W'] on ``target`` (the field itself where the grids are the same).
    """
    if source == target:
        return field
    weights = _grid_weights(source, target)
    flat = field.flatten(-2)
    is_wind = torch.tensor([channel.is_wind for channel in spec.channels], device=field.device)
    out = torch.zeros((), dtype=field.dtype, device=field.device)
    # Corner by corner: all four at once would take several times the memory of a 0.25° state.
    for corner in range(weights.index.shape[1]):
        weight = weights.weight[:, corner].to(field)
        mirrored = weights.across_pole[:, corner].to(field.device)
        signed = torch.where(mirrored & is_wind[:, None], -weight, weight) if mirrored.any() else weight
        out = out + flat.index_select(-1, weights.index[:, corner].to(field.device)) * signed
    return out.reshape(*field.shape[:-2], *target.shape)


@lru_cache(maxsize=4)
def _grid_weights(source: Grid, target: Grid) -> InterpolationWeights:
    latitude, longitude = np.meshgrid(target.latitude, target.longitude, indexing="ij")
    return bilinear_weights(source, latitude.ravel(), longitude.ravel())
