"""Grids on the sphere and their area weights.

Latitudes run from north to south and longitudes eastward from 0, in degrees. Spectral transforms need one of
four families: equiangular grids that include both poles (721 × 1440, 0.25°) or the northern one alone
(720 × 1440), equiangular grids of cells (128 × 256, 1.40625°), and Gaussian grids (48 × 96, the embedded
world).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

# A grid in settings that were once a choice of two: true is Gaussian, false equiangular with both poles.
GridFamily = bool | Literal["cells", "regular"]
# Steps of latitude from the last row to the pole: a half on most grids, one where the pole is left out.
_WIDEST_CAP = 1.05


@dataclass(frozen=True, eq=False)
class Grid:
    """A latitude × longitude grid.

    Attributes:
        latitude: [H] degrees, strictly descending.
        longitude: [W] degrees, evenly spaced over the circle, the first in [0, 360/W).

    Raises:
        ValueError: when latitudes do not descend within [−90, 90], or longitudes are not evenly spaced.

    Example:
        >>> Grid.gaussian(32)
        Grid(32 × 64, Gaussian)
        >>> Grid.equiangular(721).shape
        (721, 1440)
    """

    latitude: np.ndarray
    longitude: np.ndarray

    def __post_init__(self) -> None:
        latitude = np.array(self.latitude, dtype=np.float64)
        longitude = np.array(self.longitude, dtype=np.float64)
        for name, degrees in (("latitude", latitude), ("longitude", longitude)):
            degrees.setflags(write=False)  # every state on the grid has them
            object.__setattr__(self, name, degrees)
        if latitude.ndim != 1 or latitude.size < 2 or not np.all(np.diff(latitude) < 0):
            raise ValueError("latitude must descend, from north to south, without jumps back or repeats")
        if latitude[0] > 90 + 1e-6 or latitude[-1] < -90 - 1e-6:
            raise ValueError(f"latitude spans [{latitude[-1]}, {latitude[0]}], beyond the poles")
        for row, neighbour, pole in ((0, 1, 90.0), (-1, -2, -90.0)):
            step = abs(latitude[row] - latitude[neighbour])
            if abs(pole - latitude[row]) > step * _WIDEST_CAP:
                raise ValueError(
                    f"latitude ends at {latitude[row]:g} in steps of {step:g}, short of the pole: a region, "
                    "where the whole sphere is expected"
                )
        spacing = 360.0 / max(longitude.size, 1)
        even = longitude[:1] + spacing * np.arange(longitude.size)
        if longitude.ndim != 1 or longitude.size < 2 or not np.allclose(longitude, even, atol=1e-3):
            raise ValueError("longitude must run eastward around the circle in even steps")
        if not -1e-6 <= longitude[0] < spacing:
            raise ValueError(f"longitude starts at {longitude[0]}, expected 0 to {spacing:g}")

    @classmethod
    def equiangular(cls, nlat: int, nlon: int | None = None) -> Grid:
        """``nlat`` latitudes from pole to pole (both included), ``2(nlat − 1)`` longitudes."""
        nlon = 2 * (nlat - 1) if nlon is None else nlon
        return cls(np.linspace(90.0, -90.0, nlat), np.arange(nlon) * (360.0 / nlon))

    @classmethod
    def cells(cls, nlat: int, nlon: int | None = None) -> Grid:
        """Centres of ``nlat`` equal steps in latitude, no poles; ``2 nlat`` longitudes."""
        nlon = 2 * nlat if nlon is None else nlon
        return cls(90.0 - (np.arange(nlat) + 0.5) * (180.0 / nlat), np.arange(nlon) * (360.0 / nlon))

    @classmethod
    def gaussian(cls, nlat: int, nlon: int | None = None) -> Grid:
        """``nlat`` Gaussian latitudes (roots of the Legendre polynomial), ``2 nlat`` longitudes."""
        nlon = 2 * nlat if nlon is None else nlon
        nodes, _ = np.polynomial.legendre.leggauss(nlat)
        return cls(np.degrees(np.arcsin(nodes))[::-1], np.arange(nlon) * (360.0 / nlon))

    @classmethod
    def regular(cls, nlat: int, nlon: int) -> Grid:
        """From the north pole in steps of a column's width; ``nlon / 2`` latitudes lack the south pole."""
        return cls(90.0 - np.arange(nlat) * (360.0 / nlon), np.arange(nlon) * (360.0 / nlon))

    @classmethod
    def of_family(cls, family: str | bool, nlat: int, nlon: int | None = None) -> Grid:
        """A grid by the name of its family.

        Args:
            family: "gaussian" or true; "equiangular", with both poles, or false; "cells"; "regular".
            nlat, nlon: numbers of latitudes and longitudes. Without ``nlon``, as many as the family has.

        Raises:
            ValueError: for another name, or sizes of no such grid.
        """
        if nlat < 2 or (nlon is not None and nlon < 2):
            raise ValueError(f"a grid of {nlat} × {nlon} points: it has at least 2 rows and 2 columns")
        families = {"gaussian": cls.gaussian, "equiangular": cls.equiangular, "cells": cls.cells}
        if isinstance(family, bool):
            family = "gaussian" if family else "equiangular"
        if family == "regular":
            return cls.regular(nlat, 2 * nlat if nlon is None else nlon)
        if family not in families:
            raise ValueError(f"the grid {family!r} is none of {', '.join((*families, 'regular'))}")
        return families[family](nlat, nlon)

    @property
    def family(self) -> str:
        """The name of its family, as :meth:`of_family` takes it; empty for a grid of none."""
        members = {
            "gaussian": self.is_gaussian, "equiangular": self.is_equiangular, "cells": self.is_cells,
            "regular": self.lacks_south_pole,
        }  # fmt: skip
        return next((name for name, member in members.items() if member), "")

    @property
    def shape(self) -> tuple[int, int]:
        return self.latitude.size, self.longitude.size

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Grid)
            and self.shape == other.shape
            and np.allclose(self.latitude, other.latitude, atol=1e-3)
            and np.allclose(self.longitude, other.longitude, atol=1e-3)
        )

    def __hash__(self) -> int:
        return hash(self.shape)

    def __repr__(self) -> str:
        kinds = {"gaussian": "Gaussian", "regular": "no south pole", "": "regular"}
        kind = kinds.get(self.family, self.family)
        return f"Grid({self.shape[0]} × {self.shape[1]}, {kind})"

    def difference(self, other: Grid) -> str:
        """Where another grid is not the same, for messages."""
        for name in ("latitude", "longitude"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours.size != theirs.size:
                return f"they have {ours.size} and {theirs.size} {name}s"
            if not np.allclose(ours, theirs, atol=1e-3):
                number = int(np.abs(ours - theirs).argmax())
                return f"{name} number {number} is {ours[number]:g} and {theirs[number]:g}"
        return "they are the same"

    @cached_property
    def is_gaussian(self) -> bool:
        nodes, _ = np.polynomial.legendre.leggauss(self.shape[0])
        return bool(np.allclose(self.latitude[::-1], np.degrees(np.arcsin(nodes)), atol=1e-3))

    @cached_property
    def is_equiangular(self) -> bool:
        return bool(np.allclose(self.latitude, np.linspace(90.0, -90.0, self.shape[0]), atol=1e-3))

    @cached_property
    def is_cells(self) -> bool:
        rows = self.shape[0]
        return bool(np.allclose(self.latitude, 90.0 - (np.arange(rows) + 0.5) * (180.0 / rows), atol=1e-3))

    @cached_property
    def lacks_south_pole(self) -> bool:
        """Equiangular from the north pole, one step short of the south pole."""
        rows = self.shape[0]
        return bool(np.allclose(self.latitude, 90.0 - np.arange(rows) * (180.0 / rows), atol=1e-3))

    @cached_property
    def area_weights(self) -> Tensor:
        """[H] float64, mean 1: sin(upper edge) − sin(lower edge) of each latitude band."""
        middle = (self.latitude[1:] + self.latitude[:-1]) / 2
        edges = np.sin(np.radians(np.concatenate([[90.0], middle, [-90.0]])))
        weights = edges[:-1] - edges[1:]
        return torch.from_numpy(weights / weights.mean())

    def area_mean(self, field: Tensor) -> Tensor:
        """Area-weighted mean over the sphere, [..., H, W] -> [...]."""
        weights = self.area_weights.to(field.device, field.dtype)
        return (field.mean(-1) * weights).mean(-1)


def place(latitude: float, longitude: float) -> str:
    """Such as ``45.25° N, 12.5° E``."""
    north = f"{abs(latitude):.6g}° {'N' if latitude >= 0 else 'S'}"
    return f"{north}, {longitude:.6g}° E"
