"""The statistics of the B that VAE-Var was published against: assumed correlations, few numbers from samples.

B = U Uᵀ with U = U_p U_h U_v S, in the layout of WRF's GEN_BE (Bannister, 2008, part II), written from the
description of the published 3DVar (Xiao et al., VAE-Var, ICLR 2025):

* S: one standard deviation per control variable, the same everywhere, from samples;
* U_v: *assumed* vertical correlations exp(−|i − j|) between the i-th and the j-th level of a variable;
* U_h: an assumed Gaussian horizontal correlation exp(−r²/2L²), with one length L for everything;
* U_p: one *global* regression coefficient per level, of geopotential, temperature, surface pressure and 2 m
  temperature on ψ, without f: as mass is about f ψ, the two hemispheres cancel in it.

Control variables are ψ and χ (of each pair of winds), humidity, and the parts of t, z, msl and t2m that ψ
leaves; independent of one another. :class:`~vaevar.models.covariance.statistics.CovarianceStatistics`
replaces each of these assumptions by what the samples say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from vaevar.errors import UserError
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
from vaevar.sphere.wind import VectorHarmonics
from vaevar.state import StateSpec

KIND = FileKind(
    format="vaevar-published-covariance-1",
    what="statistics of the published B",
    command=f"`{typed('fit --config configs/published_covariance.yaml')}`",
)
# Variables that ψ explains a part of, at their own level (surface variables: ψ of the 10 m wind).
BALANCED = ("z", "t", "msl", "t2m")


@dataclass(frozen=True)
class PublishedStatistics:
    """What is taken from samples; float64. n control variables, C channels (n = C), moments about zero.

    Attributes:
        spec, grid: channels and points of the samples.
        lmax: truncation of ψ and χ, and of B.
        std: [n], S: of ψ, χ and what ψ leaves of the others, over the sphere.
        coefficient: [n], of the regression on :attr:`partner`; 0 where there is none.
        channel_std: [C], of the samples, over the sphere.
        provenance: plain values: samples, data, command.

    Raises:
        ValueError: for shapes that do not fit together, values that are not finite, stds that are not
            positive, a coefficient without a partner, or parts whose variances do not add up to a channel's.
    """

    spec: StateSpec
    grid: Grid
    lmax: int
    std: np.ndarray
    coefficient: np.ndarray
    channel_std: np.ndarray
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("std", "coefficient", "channel_std"):
            values = getattr(self, name)
            if values.shape != (len(self.spec),):
                raise ValueError(f"{name} is {values.shape}, expected {(len(self.spec),)}")
            if not np.isfinite(values).all():
                raise ValueError(f"{name} has values that are not finite")
            if name != "coefficient" and not (values > 0).all():
                raise ValueError(f"{name} must be positive, the smallest is {values.min():.4g}")
        if self.lmax < 1:
            raise ValueError(f"truncation is {self.lmax}, expected at least 1")
        variables, partner = self.variables, self.partner
        if alone := [variables.names[i] for i in np.flatnonzero((partner < 0) & (self.coefficient != 0))]:
            raise ValueError(f"there is a coefficient for {alone[0]}, which no ψ explains a part of")
        explained = np.where(partner < 0, 0.0, self.coefficient * self.std[partner])
        total = np.hypot(self.std, explained)[2 * variables.psi_count :] / self.channel_std[variables.others]
        if not np.allclose(total, 1.0, rtol=0, atol=1e-3):
            worst = int(np.abs(total - 1).argmax())
            name = self.spec.names[variables.others[worst]]
            raise ValueError(f"the parts of {name} have {total[worst]:.4g} times its std, expected 1")

    @property
    def variables(self) -> ControlVariables:
        return ControlVariables(self.spec)

    @property
    def partner(self) -> np.ndarray:
        """[n] position of the ψ that a variable is regressed on, −1 for none."""
        variables = self.variables
        return np.array([_partner(variables, i) for i in range(len(variables))])

    @property
    def explained(self) -> np.ndarray:
        """[n] the fraction of each variable's variance that ψ explains."""
        part = np.where(self.partner < 0, 0.0, self.coefficient * self.std[self.partner]) ** 2
        return part / (part + self.std**2)

    def save(self, path: str | Path) -> None:
        """Write the file; it appears whole or not at all."""
        variables = self.variables
        data = {
            "standard_deviation": ("variable", self.std, {"long_name": "of the control variables"}),
            "regression_coefficient": ("variable", self.coefficient, {"long_name": "on ψ of its level"}),
            "channel_std": ("channel", self.channel_std, {"long_name": "of the samples"}),
            "truncation": ((), np.int32(self.lmax), {"long_name": "largest total wavenumber"}),
        }
        coords = {
            "variable": ("variable", np.array(variables.names)),
            "variable_units": ("variable", np.array(variables.units)),
            "channel": ("channel", np.array(self.spec.names)),
            "channel_units": ("channel", np.array([channel.units for channel in self.spec.channels])),
            "latitude": ("latitude", self.grid.latitude, {"units": "degrees_north"}),
            "longitude": ("longitude", self.grid.longitude, {"units": "degrees_east"}),
        }
        title = "Background-error covariance with assumed correlations, for the published 3DVar"
        provenance = json.dumps(dict(self.provenance), default=str)
        attrs = {"title": title, **spec_attributes(self.spec), "provenance": provenance}
        KIND.write(xr.Dataset(data, coords, attrs), path)

    @classmethod
    def load(cls, path: str | Path) -> PublishedStatistics:
        """Open and check what :meth:`save` wrote.

        Raises:
            UserError: when the file is missing, damaged, or holds something else.
        """
        statistics = KIND.read(path, cls._from_dataset)
        judge_error_stds(f"{path}: channel_std", statistics.channel_std, statistics.spec)
        return statistics

    @classmethod
    def _from_dataset(cls, dataset: xr.Dataset) -> PublishedStatistics:
        spec = spec_of(dataset)
        variables = ControlVariables(spec)
        numbers = ("standard_deviation", "regression_coefficient", "channel_std", "truncation")
        require_variables(dataset, (*numbers, "channel", "variable", "latitude", "longitude"))
        units = tuple(channel.units for channel in spec.channels)
        labels = {"channel": spec.names, "variable": variables.names, "channel_units": units}
        require_labels(dataset, labels | {"variable_units": tuple(variables.units)})
        return cls(
            spec=spec,
            grid=Grid(dataset["latitude"].values, dataset["longitude"].values),
            lmax=int(dataset["truncation"]),
            std=dataset["standard_deviation"].values.astype(np.float64),
            coefficient=dataset["regression_coefficient"].values.astype(np.float64),
            channel_std=dataset["channel_std"].values.astype(np.float64),
            provenance=json.loads(dataset.attrs["provenance"]),
        )


def _partner(variables: ControlVariables, position: int) -> int:
    others = position - 2 * variables.psi_count
    if others < 0:
        return -1
    channel = variables.spec.channels[variables.others[others]]
    label = f"psi{'10m' if channel.level is None else channel.level}"
    if channel.variable not in BALANCED or label not in variables.names:
        return -1
    return variables.names.index(label)


class PublishedEstimator:
    """Estimates the statistics from batches of errors, each given once.

    Args:
        spec, grid: channels and points of the samples.
        lmax: truncation.

    Raises:
        UserError: when the grid cannot carry the truncation.
    """

    def __init__(self, spec: StateSpec, grid: Grid, lmax: int) -> None:
        self.spec, self.grid, self.lmax, self.passes_done = spec, grid, lmax, 0
        self.variables = ControlVariables(spec)
        try:
            self._winds = VectorHarmonics(grid, lmax)
        except ValueError as error:
            raise UserError(f"published covariance: {error}; choose another lmax") from None
        n = len(spec)
        self._sums = [torch.zeros(size, dtype=torch.float64) for size in ((), (n,), (n, n))]

    @property
    def samples(self) -> int:
        """The number of samples."""
        return int(self._sums[0])

    @torch.no_grad()
    def update(self, errors: Tensor) -> None:
        """Add a batch [B, C, H, W] in physical units."""
        u, v, others = self.variables.split(errors.float(), -3)
        self._winds.to(errors.device)
        potentials = self._winds.potentials(u, v) if self.variables.pairs else ()
        rows, columns = self.grid.shape
        weight = (self.grid.area_weights / (rows * columns)).sqrt()[:, None].to(errors.device)
        flat = (torch.cat([*potentials, others], -3).double() * weight).transpose(0, 1).flatten(1)
        squares = (errors.double() * weight).square().sum((0, 2, 3))
        batch = (torch.tensor(float(len(errors))), squares, flat @ flat.T)
        self._sums = [total.to(each) + each for total, each in zip(self._sums, batch, strict=True)]

    def end_pass(self, reduce: Callable[[Tensor], Tensor] = lambda total: total) -> None:
        """Add up what all processes summed."""
        self._sums = [reduce(total.double()).cpu() for total in self._sums]
        self.passes_done += 1

    def statistics(self, provenance: Mapping[str, Any] | None = None) -> PublishedStatistics:
        """The statistics of all batches.

        Raises:
            ValueError: when there are no samples, or a variable does not vary.
        """
        count, squares, products = (total.numpy() for total in self._sums)
        if not count:
            raise ValueError("there are no samples")
        covariance, n = products / count, len(self.spec)
        partner = np.array([_partner(self.variables, i) for i in range(n)])
        variance, coefficient, has = np.diagonal(covariance).copy(), np.zeros(n), partner >= 0
        cross = covariance[partner[has], np.flatnonzero(has)]
        coefficient[has] = cross / variance[partner[has]]
        variance[has] -= coefficient[has] * cross
        return PublishedStatistics(
            self.spec,
            self.grid,
            self.lmax,
            np.sqrt(variance.clip(0)),
            coefficient,
            np.sqrt(squares / count),
            {"samples": int(count), **(provenance or {})},
        )
