"""The 3DVar that VAE-Var was published against, as a reference for tests and the one-step table only.

Written from the description of its faults, not from its code: B = U Uᵀ, U = U_p U_h U_v S with

* S: one standard deviation per control variable, the same everywhere, from the samples;
* U_v: *assumed* vertical correlations exp(−|i − j|) between the i-th and j-th level of a variable;
* U_h: an assumed Gaussian horizontal correlation exp(−r²/2L²) with one hand-set length L;
* U_p: one *global* regression coefficient per level, of geopotential, temperature, surface pressure
  and 2 m temperature on ψ, without f: as mass is about f ψ, the two hemispheres cancel in it.

Control variables are ψ and χ (of each pair of winds), humidity, and the parts of t, z, msl and t2m
that ψ leaves; independent of one another. The layout is that of Parrish and Derber (1992) and of
WRF's GEN_BE (Bannister, 2008, part II); vaevar's own :class:`CovarianceControl` replaces each of the
assumptions by what the samples say. Shapes: n control variables (as many as channels), P pairs of
winds, L = M = lmax + 1 wavenumbers, H, W latitude and longitude.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vaevar.assim.control.base import ControlTransform
from vaevar.constants import EARTH_RADIUS_KM
from vaevar.data.samples.store import SampleStore
from vaevar.errors import UserError
from vaevar.models.covariance.balance import ControlVariables
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.sphere.wind import VectorHarmonics
from vaevar.state import StateSpec

# The hand-set constants. L is a middling scale of 24 to 48 h forecast errors of the mass field; the
# decay of 1 per level is the published assumption, whatever the distance of the levels in pressure.
LENGTH_KM = 700.0
LEVELS_PER_E_FOLDING = 1.0
# Variables that ψ explains a part of, at their own level (surface variables: ψ of the 10 m wind).
BALANCED = ("z", "t", "msl", "t2m")


@dataclass(frozen=True)
class GenBeStatistics:
    """What is taken from samples.

    Attributes:
        spec, grid: of the samples.
        std: [n], of ψ, χ and what ψ leaves of the others; the order of ``ControlVariables``.
        partner: [n] position of the ψ that a variable is regressed on, −1 for none.
        coefficient: [n], of the regression; 0 where there is no partner.
    """

    spec: StateSpec
    grid: Grid
    std: np.ndarray
    partner: np.ndarray
    coefficient: np.ndarray

    @classmethod
    def from_errors(
        cls, batches: Iterable[Tensor], spec: StateSpec, grid: Grid, lmax: int
    ) -> GenBeStatistics:
        """From batches [B, C, H, W] in physical units: global moments about zero, by area.

        Raises:
            ValueError: when there are no samples.
        """
        variables, winds = ControlVariables(spec), VectorHarmonics(grid, lmax)
        n, weights = len(variables), (grid.area_weights / grid.shape[0]).float()[:, None]
        products, count = np.zeros((n, n)), 0
        scale: Tensor | None = None
        for x in batches:
            u, v, others = variables.split(x.float(), -3)
            potentials = winds.potentials(u, v) if variables.pairs else ()
            fields = torch.cat([*potentials, others], -3)
            if scale is None:  # keeps float32 products in range: ψ is 10⁶, q is 10⁻⁴
                scale = fields.square().mean((0, 2, 3)).sqrt().clamp_min(1e-30)
            flat = (fields / scale[:, None, None] * weights.sqrt()).transpose(0, 1).flatten(1)
            products += (flat @ flat.T).double().numpy() / grid.shape[1]
            count += len(x)
        if scale is None:
            raise ValueError("no samples")
        size = scale.double().numpy()
        products *= np.outer(size, size) / count
        partner = np.array([_partner(variables, i) for i in range(n)])
        has = partner >= 0
        variance, coefficient = np.diagonal(products).copy(), np.zeros(n)
        covariance = products[partner[has], np.flatnonzero(has)]
        coefficient[has] = covariance / variance[partner[has]]
        variance[has] -= coefficient[has] * covariance
        return cls(spec, grid, np.sqrt(variance), partner, coefficient)


def _partner(variables: ControlVariables, position: int) -> int:
    p, spec = variables.psi_count, variables.spec
    if position < 2 * p:
        return -1
    channel = spec.channels[variables.others[position - 2 * p]]
    label = f"psi{channel.level if channel.level is not None else '10m'}"
    if channel.variable not in BALANCED or label not in variables.names:
        return -1
    return variables.names.index(label)


def vertical_correlation(variables: ControlVariables) -> np.ndarray:
    """[n, n]: exp(−|i − j|) between levels of the same variable, 0 between others."""
    p = variables.psi_count
    upper = [(name, int(label)) for name, label in map(_split, variables.names[: 2 * p]) if label.isdigit()]
    labels = [_split(name) for name in variables.names[: 2 * p]]
    labels += [
        (variables.spec.channels[i].variable, str(variables.spec.channels[i].level)) for i in variables.others
    ]
    levels = sorted({level for _, level in upper} | set(variables.spec.levels))
    out = np.eye(len(variables))
    for i, (first, low) in enumerate(labels):
        for j, (second, high) in enumerate(labels):
            if first == second and low.isdigit() and high.isdigit():
                distance = abs(levels.index(int(low)) - levels.index(int(high)))
                out[i, j] = np.exp(-distance / LEVELS_PER_E_FOLDING)
    return out


def _split(name: str) -> tuple[str, str]:
    """psi500 -> psi, 500."""
    return name[:3], name[3:]


def horizontal_std(lmax: int, length_km: float) -> np.ndarray:
    """[L] std of a coefficient: g_l² ∝ exp(−l(l + 1) L²/2a²), Σ (2l + 1) g_l² = 1.

    On the plane the transform of exp(−r²/2L²) is a Gaussian; on the sphere k² becomes l(l + 1)/a²
    (Weaver and Courtier, 2001).
    """
    degree = np.arange(lmax + 1)
    power = np.exp(-degree * (degree + 1) * (length_km / EARTH_RADIUS_KM) ** 2 / 2)
    return np.sqrt(power / ((2 * degree + 1) * power).sum())


class GenBeControl(ControlTransform):
    """D(w) = U w, w [n, L, M, 2]: real and imaginary parts; those that no real field has do nothing.

    Args:
        errors: a store of background errors, or statistics already in memory.
        lmax: triangular truncation.
        length_km: L, hand-set.
        samples: of the store's training part that the moments are taken from, evenly spread.
        dtype: precision of U.

    Raises:
        UserError: for a store that is missing or of other channels than FengWu's.
    """

    root: Tensor
    coefficients: Tensor
    horizontal: Tensor
    order: Tensor

    def __init__(
        self,
        errors: str | Path | GenBeStatistics = "data/background_errors.zarr",
        lmax: int = 31,
        length_km: float = LENGTH_KM,
        samples: int = 200,
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        super().__init__()
        found = errors if isinstance(errors, GenBeStatistics) else _from_store(errors, lmax, samples)
        self.spec, self.grid, self.lmax = found.spec, found.grid, lmax
        self.variables = ControlVariables(found.spec)
        precision: torch.dtype = getattr(torch, dtype)
        self.winds = VectorHarmonics(found.grid, lmax, precision)
        self.scalar = SphericalHarmonics(found.grid, lmax, precision)
        root = np.linalg.cholesky(vertical_correlation(self.variables)) * found.std[:, None]
        regression = np.zeros((len(found.spec), self.variables.psi_count))
        has = found.partner >= 0
        regression[has, found.partner[has]] = found.coefficient[has]
        order, degree = torch.arange(lmax + 1), torch.arange(lmax + 1)[:, None]
        # E|f_lm|² = g_l²: real and imaginary part have half of it each, but for m = 0.
        parts = torch.stack([torch.where(order > 0, 0.5**0.5, 1.0), (order > 0) * 0.5**0.5], -1).double()
        inside = (order <= degree)[..., None]
        spectrum = torch.from_numpy(horizontal_std(lmax, length_km))[:, None, None]
        for name, tensor in (
            ("root", torch.from_numpy(root)),
            ("coefficients", torch.from_numpy(regression)),
            ("horizontal", spectrum * inside * parts),
        ):
            self.register_buffer(name, tensor.to(precision), persistent=False)
        self.register_buffer("order", torch.tensor(self.variables.channel_order), persistent=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.spec), self.lmax + 1, self.lmax + 1, 2

    def forward(self, w: Tensor) -> Tensor:
        """[n, L, M, 2] -> [C, H, W] in physical units, in the precision of U."""
        p, w = self.variables.psi_count, w.to(self.root.dtype)
        independent = torch.einsum("ij,jlmr->ilmr", self.root, w * self.horizontal)
        total = independent + torch.einsum("ip,plmr->ilmr", self.coefficients, independent[:p])
        complex_ = torch.view_as_complex(total.contiguous())
        others = self.scalar.synthesise(complex_[2 * p :])
        u, v = self.winds.synthesise(complex_[:p], complex_[p : 2 * p]) if p else (others[:0], others[:0])
        return torch.cat([u, v, others]).index_select(0, self.order)


def _from_store(path: str | Path, lmax: int, samples: int) -> GenBeStatistics:
    store, spec = SampleStore(path), StateSpec()
    if store.spec != spec:
        raise UserError(f"{path}: holds the channels {', '.join(store.spec.names)}; expected {spec}")
    last = len(store) - round(0.1 * len(store)) - 2  # as configs/covariance.yaml holds out
    chosen = np.unique(np.linspace(0, last - 1, min(samples, last)).astype(int))
    batches = (store.decode("error", store[int(i)][0])[None] for i in chosen)
    return GenBeStatistics.from_errors(batches, spec, store.grid, lmax)
