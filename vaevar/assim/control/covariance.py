"""The control transform of 3DVar: D(w) = U w with calibrated B = U Uᵀ."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vaevar.assim.control.base import ControlTransform
from vaevar.errors import UserError
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.models.covariance.transform import CovarianceTransform
from vaevar.sphere.grid import Grid, GridFamily


class CovarianceControl(ControlTransform):
    """D(w) = U w, linear, with the statistics that ``configs/covariance.yaml`` calibrates.

    Args:
        statistics: path of the netCDF file, or statistics already in memory.
        nlat, nlon: H and W of the grid of the increments. None: the grid of the statistics.
        gaussian: true: Gaussian latitudes; false: equiangular with both poles; "cells": equiangular without
            poles; "regular": from the north pole, without the south pole.
        dtype: precision of U.

    Raises:
        UserError: for a file that is missing, damaged or of another kind, or a grid that cannot
            carry the truncation.

    Example:
        >>> vaevar.CovarianceControl(vaevar.pretrained("covariance")).shape
        (69, 1024)
    """

    def __init__(
        self,
        statistics: str | Path | CovarianceStatistics,
        nlat: int | None = None,
        nlon: int | None = None,
        gaussian: GridFamily = False,
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        super().__init__()
        name = "statistics" if isinstance(statistics, CovarianceStatistics) else str(statistics)
        if not isinstance(statistics, CovarianceStatistics):
            statistics = CovarianceStatistics.load(statistics)
        try:
            grid = statistics.grid
            if nlat is not None:
                grid = Grid.of_family(gaussian, nlat, nlon)
            self.transform = CovarianceTransform(statistics, grid, getattr(torch, dtype))
        except ValueError as error:
            raise UserError(
                f"CovarianceControl: {name} with truncation {statistics.lmax} cannot be used: {error}"
            ) from None
        self.spec, self.grid = statistics.spec, grid

    @property
    def shape(self) -> tuple[int, ...]:
        return self.transform.shape

    def forward(self, w: Tensor) -> Tensor:
        """[..., n, (lmax + 1)²] -> [..., C, H, W] in physical units."""
        return self.transform(w)

    def project(self, x: Tensor) -> Tensor:
        """An approximate left inverse: [..., C, H, W] physical -> w [..., n, (lmax + 1)²]."""
        return self.transform.project(x)
