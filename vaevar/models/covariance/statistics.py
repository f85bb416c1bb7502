"""The statistics behind B = U Uᵀ, and the labelled netCDF file that holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from vaevar.models.covariance.balance import ControlVariables
from vaevar.models.covariance.file import (
    FileKind,
    require_labels,
    require_variables,
    spec_attributes,
    spec_of,
)
from vaevar.plausible.statistics import judge_error_stds
from vaevar.shipped import typed
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

KIND = FileKind(
    format="vaevar-covariance-2",
    what="statistics of B",
    command=f"`{typed('fit --config configs/covariance.yaml')}`",
)
# An eigenvalue more negative than this fraction of the largest is no rounding error.
ROUND_OFF = 1e-8


@dataclass(frozen=True)
class CovarianceStatistics:
    """Statistics of background errors, estimated from samples; float64.

    Shapes: n control variables (P of them ψ), C channels (n = C), H latitudes, L = lmax + 1 wavenumbers.

    Attributes:
        spec, grid: channels and points of the samples.
        std: [n, H], σ of ψ and of the unbalanced variables.
        regression: [n, P, H], A of :class:`vaevar.models.covariance.balance.Balance`.
        spectral: [L, n, n], the covariance C_l of the standardised variables, for each of the 2l + 1 real
            coefficients. Σ_l (2l + 1) C_l has a unit diagonal.
        windows: [b, L], F_b of :mod:`vaevar.models.covariance.local`.
        local: [b, H, n, n], M_b of the same module.
        rescaling: [C, H], S, the last factor of U, by which implied variances equal the calibrated ones.
        channel_std: [C, H], the calibrated std of each channel, smoothed in latitude.
        balanced: [n], the fraction of each control variable's variance that balance explains.
        provenance: plain values: samples, data, command, settings.

    Raises:
        ValueError: for shapes that do not fit together, values that are not finite, σ or factors that are not
            positive, or covariances that are not symmetric or have negative eigenvalues.

    Example:
        >>> vaevar.CovarianceStatistics.load(weights / "covariance.nc").lmax
        31
    """

    spec: StateSpec
    grid: Grid
    std: np.ndarray
    regression: np.ndarray
    spectral: np.ndarray
    windows: np.ndarray
    local: np.ndarray
    rescaling: np.ndarray
    channel_std: np.ndarray
    balanced: np.ndarray
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, p, rows = len(self.spec), self.variables.psi_count, self.grid.shape[0]
        degrees = self.spectral.shape[0] if self.spectral.ndim else 0
        expected = {
            "std": (n, rows),
            "regression": (n, p, rows),
            "spectral": (max(degrees, 1), n, n),
            "windows": (max(len(self.windows), 1), degrees),
            "local": (len(self.windows), rows, n, n),
            "rescaling": (n, rows),
            "channel_std": (n, rows),
            "balanced": (n,),
        }
        for name, shape in expected.items():
            values = getattr(self, name)
            if values.shape != shape:
                raise ValueError(f"{name} is {values.shape}, expected {shape}")
            if not np.isfinite(values).all():
                raise ValueError(f"{name} has values that are not finite")
        for name in ("std", "rescaling", "channel_std"):
            if not (getattr(self, name) > 0).all():
                raise ValueError(f"{name} must be positive, the smallest is {getattr(self, name).min():.4g}")
        if not np.allclose(self.spectral, self.spectral.transpose(0, 2, 1), rtol=0, atol=1e-10):
            raise ValueError("spectral covariances are not symmetric")
        self.eigen()
        degree = np.arange(self.lmax + 1)
        for name, ones in (
            ("the variance of a standardised variable", np.einsum("l,lii->i", 2 * degree + 1, self.spectral)),
            ("the sum of band windows", self.windows.sum(0)),
        ):
            if not np.allclose(ones, 1.0, rtol=0, atol=1e-3):
                raise ValueError(f"{name} is {ones[np.abs(ones - 1).argmax()]:.4g}, expected 1")
        if not ((self.balanced > -1e-3) & (self.balanced < 1 + 1e-3)).all():
            raise ValueError(f"balanced_fraction is up to {self.balanced.max():.4g}, expected 0 to 1")

    @property
    def variables(self) -> ControlVariables:
        return ControlVariables(self.spec)

    @property
    def lmax(self) -> int:
        return self.spectral.shape[0] - 1

    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Ascending eigenvalues [L, n] and eigenvectors [L, n, n] of each C_l.

        Raises:
            ValueError: for an eigenvalue that is negative beyond rounding.
        """
        values, vectors = np.linalg.eigh(self.spectral)
        least = values[:, 0] + ROUND_OFF * values[:, -1]
        if (least < 0).any():
            worst = int(np.argmin(least))
            raise ValueError(
                f"the covariance at wavenumber {worst} has the eigenvalue {values[worst, 0]:.3g}, with a "
                f"largest of {values[worst, -1]:.3g}: it is no covariance"
            )
        return values.clip(0), vectors

    def save(self, path: str | Path) -> None:
        """Write the file; it appears whole or not at all."""
        variables = self.variables
        units = [channel.units for channel in self.spec.channels]
        data: dict[str, Any] = {
            "standard_deviation": (
                ("variable", "latitude"),
                self.std,
                _attributes("σ of the control variables"),
            ),
            "spectral_covariance": (
                ("wavenumber", "variable", "variable_2"),
                self.spectral,
                _attributes("covariance of standardised coefficients at a total wavenumber", "1"),
            ),
            "band_window": (("band", "wavenumber"), self.windows, _attributes("window onto a band", "1")),
            "recolouring": (
                ("band", "latitude", "variable", "variable_2"),
                self.local.astype(np.float32),
                _attributes("of homogeneous standardised variables within a band", "1"),
            ),
            "rescaling": (("channel", "latitude"), self.rescaling, _attributes("last factor of U", "1")),
            "channel_std": (
                ("channel", "latitude"),
                self.channel_std,
                _attributes("calibrated std, smoothed"),
            ),
            "balanced_fraction": (
                "variable",
                self.balanced,
                _attributes("variance explained by balance", "1"),
            ),
        }
        if variables.psi_count:
            label = "of a variable (in its units) on (f/f0) times standardised streamfunction"
            data["regression"] = (("variable", "psi", "latitude"), self.regression, _attributes(label))
        dataset = xr.Dataset(
            data,
            coords={
                "variable": ("variable", np.array(variables.names)),
                "variable_units": ("variable", np.array(variables.units)),
                "channel": ("channel", np.array(self.spec.names)),
                "channel_units": ("channel", np.array(units)),
                "latitude": ("latitude", self.grid.latitude, {"units": "degrees_north"}),
                "longitude": ("longitude", self.grid.longitude, {"units": "degrees_east"}),
                "wavenumber": ("wavenumber", np.arange(self.lmax + 1, dtype=np.int32)),
            },
            attrs={
                "title": "Background-error covariance B = U U^T for 3DVar",
                **spec_attributes(self.spec),
                "provenance": json.dumps(dict(self.provenance), default=str),
            },
        )
        KIND.write(dataset, path)

    @classmethod
    def load(cls, path: str | Path) -> CovarianceStatistics:
        """Open and check what :meth:`save` wrote.

        Raises:
            UserError: when the file is missing, damaged, or holds something else.
        """
        statistics = KIND.read(path, cls._from_dataset)
        for extreme in (statistics.channel_std.min(1), statistics.channel_std.max(1)):
            judge_error_stds(f"{path}: channel_std", extreme, statistics.spec)
        return statistics

    @classmethod
    def _from_dataset(cls, dataset: xr.Dataset) -> CovarianceStatistics:
        spec = spec_of(dataset)
        variables = ControlVariables(spec)
        needed = [
            "standard_deviation",
            "spectral_covariance",
            "band_window",
            "recolouring",
            "rescaling",
            "channel_std",
            "balanced_fraction",
        ]
        needed += [
            "channel",
            "variable",
            "latitude",
            "longitude",
            *(["regression"] if variables.pairs else []),
        ]
        require_variables(dataset, needed)
        units = tuple(channel.units for channel in spec.channels)
        labels = {"channel": spec.names, "variable": variables.names, "channel_units": units}
        require_labels(dataset, labels | {"variable_units": tuple(variables.units)})
        grid = Grid(dataset["latitude"].values, dataset["longitude"].values)

        def values(name: str, *dims: str) -> np.ndarray:
            return np.asarray(dataset[name].transpose(*dims).values, dtype=np.float64)

        return cls(
            spec=spec,
            grid=grid,
            std=values("standard_deviation", "variable", "latitude"),
            regression=values("regression", "variable", "psi", "latitude")
            if variables.psi_count
            else np.zeros((len(spec), 0, grid.shape[0])),
            spectral=values("spectral_covariance", "wavenumber", "variable", "variable_2"),
            windows=values("band_window", "band", "wavenumber"),
            local=values("recolouring", "band", "latitude", "variable", "variable_2"),
            rescaling=values("rescaling", "channel", "latitude"),
            channel_std=values("channel_std", "channel", "latitude"),
            balanced=values("balanced_fraction", "variable"),
            provenance=json.loads(dataset.attrs["provenance"]),
        )


def _attributes(long_name: str, units: str | None = None) -> dict[str, str]:
    return {"long_name": long_name} | ({"units": units} if units else {})
