"""Where a cycle has been observed before: maps that tell where its background can be trusted.

A background is good downstream of earlier observations and poor elsewhere. A Kalman filter carries this in
its covariance; a static B cannot. These maps express it without the truth: how near the last observations
were, and how near those of the last day or so, each on two scales. With r the distance from a grid point to
the nearest observation of an analysis,

    m_L = exp(−r² / 2L²),   c ← ρ c + (1 − ρ) m_L   after each analysis, 0 before the first.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vaevar.data.observations.points import Points
from vaevar.sphere.grid import Grid
from vaevar.sphere.interpolation import grid_vectors, nearest_km, unit_vectors

LENGTHS_KM = (400.0, 1200.0)  # L
MEMORIES = (0.0, 0.85)  # ρ; in 6 h steps 0.85 forgets in 1.5 days
MAPS = len(LENGTHS_KM) * len(MEMORIES)


def no_coverage(grid: Grid) -> Tensor:
    """[MAPS, H, W] zeros: nothing has been observed yet."""
    return torch.zeros(MAPS, *grid.shape)


def update_coverage(coverage: Tensor, points: Points, grid: Grid) -> Tensor:
    """The maps after one more analysis.

    Args:
        coverage: [MAPS, H, W], the maps before it.
        points: its observations, of any variable.
        grid: of the maps.

    Returns:
        [MAPS, H, W]: L in the outer and ρ in the inner order.
    """
    nearest = _nearest_km(points, grid).to(coverage)
    bumps = torch.stack([torch.exp(-0.5 * (nearest / length).square()) for length in LENGTHS_KM])
    memory = coverage.new_tensor(MEMORIES)[:, None, None]
    before = coverage.unflatten(0, (len(LENGTHS_KM), len(MEMORIES)))
    return (memory * before + (1 - memory) * bumps[:, None]).flatten(0, 1)


def _nearest_km(points: Points, grid: Grid) -> Tensor:
    """Distance of each grid point to the nearest observed place, [H, W]; infinite without any."""
    if not len(points):
        return torch.full(grid.shape, torch.inf)
    places = np.unique(np.stack([points.latitude, points.longitude], 1), axis=0)
    distance = nearest_km(unit_vectors(places[:, 0], places[:, 1]), grid_vectors(grid))
    return torch.from_numpy(distance).reshape(grid.shape)
