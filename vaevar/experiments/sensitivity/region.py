"""A box of latitudes and longitudes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vaevar.errors import UserError
from vaevar.sphere.grid import Grid


@dataclass(frozen=True)
class Region:
    """Where a forecast is judged.

    Attributes:
        south, north: degrees north.
        west, east: degrees east, from west to east; any longitudes, so −12 to 40 lies around Greenwich, and 0
            to 360 is the whole circle.

    Raises:
        UserError: for latitudes off the sphere or in the wrong order, or longitudes that are not finite.
    """

    south: float
    north: float
    west: float
    east: float

    def __post_init__(self) -> None:
        if not -90 <= self.south < self.north <= 90:
            raise UserError(
                f"region: south {self.south:g} and north {self.north:g} must ascend within −90 and 90"
            )
        if not (np.isfinite([self.west, self.east]).all() and self.west != self.east):
            raise UserError(f"region: west {self.west:g} and east {self.east:g} must be two longitudes")

    @property
    def width(self) -> float:
        """Degrees of longitude, in (0, 360]."""
        return (self.east - self.west) % 360.0 or 360.0

    def weights(self, grid: Grid) -> np.ndarray:
        """The share of each point in the area of the region, [H, W]; they add up to 1.

        Raises:
            UserError: when the region holds no point of the grid.
        """
        rows = (grid.latitude >= self.south) & (grid.latitude <= self.north)
        columns = (grid.longitude - self.west) % 360.0 <= self.width
        weights = np.outer(rows * grid.area_weights.numpy(), columns).astype(np.float64)
        if not weights.any():
            raise UserError(
                f"data.region: {self} holds no point of the {grid}, which are "
                f"{abs(grid.latitude[1] - grid.latitude[0]):.2g}° apart: make it larger"
            )
        return np.asarray(weights / weights.sum())

    def __str__(self) -> str:
        return f"{self.south:g} to {self.north:g}° N, {self.west:g} to {self.east:g}° E"
