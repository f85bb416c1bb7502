"""Calibrates the published B in a Lightning fit: one epoch over the samples, without training."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from rich.table import Table

from vaevar.models.covariance.calibration import CovarianceCalibration
from vaevar.models.covariance.published import PublishedEstimator
from vaevar.sphere.harmonics import quadrature_weights


class PublishedCalibration(CovarianceCalibration):
    """Estimates :class:`~vaevar.models.covariance.published.PublishedStatistics` on a data module of errors.

    The data module is that of :class:`~vaevar.models.covariance.calibration.CovarianceCalibration`.

    Args:
        path: the file to write.
        lmax: triangular truncation.

    Raises:
        UserError: for a truncation that the grid of the samples cannot carry.
    """

    passes: ClassVar[int] = 1

    def __init__(self, path: str = "weights/published_covariance.nc", lmax: int = 31) -> None:
        super().__init__(path, lmax=lmax)

    def new_estimator(self) -> PublishedEstimator:
        return PublishedEstimator(self.spec, self.grid, self.settings.lmax)

    def tables(self, held_out: np.ndarray | None) -> list[Table]:
        """By variable: std, how much of the variance ψ explains, and the ratio to the held-out variance."""
        statistics, weights = self.statistics, quadrature_weights(self.grid) / 2
        spec, variables = statistics.spec, statistics.variables
        explained = dict(zip(variables.others, statistics.explained[2 * variables.psi_count :], strict=True))
        table = Table("variable", "channels", "std (mean)", "ψ explains", "variance / held-out variance")
        for name in (*spec.surface, *spec.upper):
            chosen = range(*spec.variable_slice(name).indices(len(spec)))
            std = statistics.channel_std[list(chosen)]
            parts = [explained[i] for i in chosen if i in explained]
            ratio = "" if held_out is None else f"{(std**2 / (held_out[list(chosen)] @ weights)).mean():.3f}"
            share = f"{np.mean(parts):.1%}" if parts else ""
            table.add_row(name, str(len(std)), f"{std.mean():.4g}", share, ratio)
        return [table]
