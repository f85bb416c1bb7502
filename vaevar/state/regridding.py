"""From one grid to another."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vaevar.sphere.grid import Grid
from vaevar.sphere.interpolation import InterpolationWeights, bilinear_weights
from vaevar.state.spec import StateSpec


def regrid(field: Tensor, spec: StateSpec, source: Grid, target: Grid) -> Tensor:
    """Interpolate an increment to another grid, bilinearly; winds change sign across a pole.

    Args:
        field: [..., C, H, W] on ``source``.
        spec: the C channels.
        source: H × W points.
        target: H' × W' points.

    Returns:
        [..., C, H', W'] on ``target``; ``field`` itself when the grids are the same.
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
