"""Conservative coarsening: means over the cells of a coarser grid.

Each grid point represents a cell, bounded halfway to its neighbours and by the poles. The value on the coarse
grid is the area-weighted mean of the fine field over the coarse cell, so that the mean over the sphere is
conserved (Jones, 1999, first order). Overlaps in latitude and longitude are independent: two matrix products.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.sphere.grid import Grid

# A panel of a report has no more pixels, and its file has to stay small.
_ROWS, _COARSE = 96, 64


class Coarsening(nn.Module):
    """Fields [..., H, W] on one grid -> [..., H', W'] on a coarser one.

    Args:
        source: H × W, such as 721 × 1440.
        target: H' × W', such as ``Grid.cells(128)``.

    Raises:
        ValueError: when the target is finer than the source.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, source: Grid, target: Grid) -> None:
        super().__init__()
        if any(coarse > fine for fine, coarse in zip(source.shape, target.shape, strict=True)):
            raise ValueError(f"{target} is finer than {source}: coarsening is impossible")
        self.source, self.target = source, target
        for name, matrix in (
            ("rows", _overlaps(_sines(target), _sines(source))),
            ("columns", _around(target.longitude, source.longitude)),
        ):
            self.register_buffer(name, torch.from_numpy(matrix).float(), persistent=False)

    def forward(self, field: Tensor) -> Tensor:
        """[..., H, W] -> [..., H', W'], in the precision of the field.

        Raises:
            ValueError: when the field is not on ``source``.
        """
        if tuple(field.shape[-2:]) != self.source.shape:
            raise ValueError(f"the field is {tuple(field.shape)}, expected it on {self.source}")
        # Longitude first: at 0.25° this removes most of the numbers.
        return self.rows.to(field.dtype) @ (field @ self.columns.to(field.dtype).T)


def coarsening_to(source: Grid, shape: tuple[int, int] | None) -> Coarsening | None:
    """The coarsening to a Gaussian grid; None without a shape, or where the fields are on that grid.

    Args:
        source: H × W.
        shape: H' and W'.

    Raises:
        ValueError: when there is no such grid, or it is finer than the source.
    """
    if shape is None:
        return None
    target = Grid.of_family("gaussian", *shape)
    return None if target == source else Coarsening(source, target)


def coarsening_for_pictures(grid: Grid) -> Coarsening | None:
    """The coarsening of fields that a report shows, to 64 × 128; None for a grid of at most 96 rows.

    Args:
        grid: H × W.
    """
    return Coarsening(grid, Grid.gaussian(_COARSE)) if grid.shape[0] > _ROWS else None


def _sines(grid: Grid) -> np.ndarray:
    """[H + 1] sines of the cells' edges, ascending from south to north."""
    middle = (grid.latitude[1:] + grid.latitude[:-1]) / 2
    return np.sin(np.radians(np.concatenate([[90.0], middle, [-90.0]])))[::-1]


def _overlaps(coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """[H', H] fraction of each coarse cell that each fine cell covers, in the grids' order; edges ascend."""
    low = np.maximum(coarse[:-1, None], fine[None, :-1])
    high = np.minimum(coarse[1:, None], fine[None, 1:])
    fraction = np.clip(high - low, 0.0, None) / (coarse[1:] - coarse[:-1])[:, None]
    return fraction[::-1, ::-1].copy()


def _around(coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """[W', W] the same around the circle of longitudes."""
    half_coarse, half_fine = 180.0 / coarse.size, 180.0 / fine.size
    # Distance between centres, the shorter way round.
    distance = np.abs((coarse[:, None] - fine[None, :] + 180.0) % 360.0 - 180.0)
    overlap = np.clip(half_coarse + half_fine - distance, 0.0, 2 * half_fine)
    return overlap / (2 * half_coarse)
