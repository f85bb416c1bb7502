"""Control variables of 3DVar, and the balance U_p between them and the state's channels.

Control variables are streamfunction ψ (one per wind pair), unbalanced velocity potential χ, and the
unbalanced part of every other channel, each divided by a std σ(φ) that depends on latitude. With
standardised fields marked by a hat,

    ψ = σ_ψ ψ̂,     x = σ_x x̂ + (f/f₀) Σ_k A_xk(φ) ψ̂_k     for x = χ, z, t, msl, ...

where k runs over the levels of ψ, f = 2Ω sin φ and f₀ = 10⁻⁴ s⁻¹. As the predictor is f ψ, mass
fits wind with one sign of A in both hemispheres, and the tropics decouple of themselves.

Everything here depends on latitude alone, so that it acts on each zonal wave by itself. Shapes: n
control variables, P of them ψ, C channels (n = C), H latitude, L total and M zonal wavenumbers;
*parts* are complex numbers as a last axis of two reals.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.constants import EARTH_ROTATION
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.sphere.wind import VectorHarmonics, field_of, to_coefficients, to_waves, waves_of
from vaevar.state import StateSpec

REFERENCE_CORIOLIS = 1e-4  # s⁻¹


class ControlVariables:
    """Which control variables stand for the channels of a state: ψ, then χ, then the others.

    Args:
        spec: any channels. Where u and v (or u10 and v10) are both there, they become ψ and χ.

    Attributes:
        names: [n], such as ``psi500, psi10, chi500, chi10, t2m, z500``.
        units: [n].
        pairs: [P] positions of u and v among the channels.
        others: positions of the remaining channels.
    """

    def __init__(self, spec: StateSpec) -> None:
        self.spec = spec
        named = [(f"u{level}", f"v{level}", str(level)) for level in spec.levels] + [("u10", "v10", "10m")]
        found = [(u, v, label) for u, v, label in named if spec.has(u) and spec.has(v)]
        self.pairs = [(spec.index(u), spec.index(v)) for u, v, _ in found]
        winds = {position for pair in self.pairs for position in pair}
        self.others = [i for i in range(len(spec)) if i not in winds]
        labels = [label for _, _, label in found]
        self.names = tuple(
            [f"psi{label}" for label in labels]
            + [f"chi{label}" for label in labels]
            + [spec.names[i] for i in self.others]
        )
        self.units = tuple(
            ["m**2 s**-1"] * (2 * self.psi_count) + [spec.channels[i].units for i in self.others]
        )

    @property
    def psi_count(self) -> int:
        """P"""
        return len(self.pairs)

    def __len__(self) -> int:
        return len(self.spec)

    @cached_property
    def channel_order(self) -> list[int]:
        """Where each channel is in (u of the pairs, v of the pairs, others)."""
        stacked = [u for u, _ in self.pairs] + [v for _, v in self.pairs] + self.others
        return [stacked.index(channel) for channel in range(len(self.spec))]

    def split(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """Channels -> u of the pairs, v of the pairs, others."""
        return (
            x.index_select(axis, torch.tensor([u for u, _ in self.pairs], dtype=torch.long, device=x.device)),
            x.index_select(axis, torch.tensor([v for _, v in self.pairs], dtype=torch.long, device=x.device)),
            x.index_select(axis, torch.tensor(self.others, dtype=torch.long, device=x.device)),
        )

    def is_variable(self, names: tuple[str, ...]) -> np.ndarray:
        """[n] bool: the control variables that stand for channels of these variables, such as ``q``."""
        winds = [False] * (2 * self.psi_count)
        return np.array(winds + [self.spec.channels[i].variable in names for i in self.others], dtype=bool)


def coriolis_factor(latitude: np.ndarray) -> np.ndarray:
    """f/f₀ at latitudes in degrees."""
    return 2 * EARTH_ROTATION * np.sin(np.radians(latitude)) / REFERENCE_CORIOLIS


def to_latitudes(values: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Linear interpolation along the last axis [..., H] -> [..., H']; constant beyond its ends."""
    flat = values.reshape(-1, values.shape[-1])[:, ::-1]
    out = np.array([np.interp(target, source[::-1], row) for row in flat])
    return out.reshape(*values.shape[:-1], target.size)


class Balance(nn.Module):
    """U_p with the standard deviations: standardised control variables <-> channels.

    Args:
        variables: the control variables.
        latitude_grid: where σ and A are given; ψ and χ are multiplied by σ there.
        lmax: triangular truncation.
        std: [n, H], σ.
        regression: [n, P, H], A; zero for ψ. Physical units.
        grid: of the channels; any that carries lmax.
        dtype: float32 or float64.

    Raises:
        ValueError: when a grid cannot carry the truncation.
    """

    std: Tensor
    coupling: Tensor
    inner_std: Tensor
    inner_coupling: Tensor
    order: Tensor

    def __init__(
        self,
        variables: ControlVariables,
        latitude_grid: Grid,
        lmax: int,
        std: np.ndarray,
        regression: np.ndarray,
        grid: Grid,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.variables, self.grid, self.lmax = variables, grid, lmax
        self.inner = SphericalHarmonics(latitude_grid, lmax, dtype)
        self.wind = VectorHarmonics(grid, lmax, dtype)
        inner, outer, p = latitude_grid.latitude, grid.latitude, variables.psi_count
        self._keep("inner_std", std[: 2 * p], dtype)
        self._keep("inner_coupling", regression[p : 2 * p] * coriolis_factor(inner), dtype)
        self._keep("std", to_latitudes(std, inner, outer), dtype)
        self._keep("coupling", to_latitudes(regression, inner, outer) * coriolis_factor(outer), dtype)
        self.register_buffer("order", torch.tensor(variables.channel_order), persistent=False)

    def _keep(self, name: str, values: np.ndarray, dtype: torch.dtype) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)).to(dtype), persistent=False)

    def forward(self, coefficients: Tensor) -> Tensor:
        """Standardised, in parts [..., n, L, M, 2] -> channels' zonal waves in parts [..., C, H, M, 2]."""
        p = self.variables.psi_count
        potentials, others = coefficients[..., : 2 * p, :, :, :], coefficients[..., 2 * p :, :, :, :]
        u, v = self.winds(to_waves(self.inner.synthesis_matrix, potentials))
        synthesis = self.wind.scalar.synthesis_matrix
        others = to_waves(synthesis, others) * self.std[2 * p :, :, None, None]
        psi_hat = to_waves(synthesis, potentials[..., :p, :, :, :])
        others = others + _couple(self.coupling[2 * p :], psi_hat)
        return torch.cat([u, v, others], -4).index_select(-4, self.order)

    def winds(self, potentials: Tensor) -> tuple[Tensor, Tensor]:
        """Waves of ψ̂ and χ̂ on the statistics' latitudes [..., 2P, H, M, 2] -> u and v, [..., P, H, M, 2]."""
        p = self.variables.psi_count
        psi_hat = potentials[..., :p, :, :, :]
        waves = potentials * self.inner_std[..., None, None]
        chi = waves[..., p:, :, :, :] + _couple(self.inner_coupling, psi_hat)
        return self.wind.wind_waves(
            to_coefficients(self.inner.analysis_matrix, waves[..., :p, :, :, :]),
            to_coefficients(self.inner.analysis_matrix, chi),
        )

    def inverse(self, waves: Tensor) -> Tensor:
        """Channels' zonal waves in parts [..., C, H, M, 2] -> standardised [..., n, L, M, 2].

        Exact but for what products with σ(φ) put beyond the truncation.
        """
        p = self.variables.psi_count
        u, v, others = self.variables.split(waves, -4)
        synthesis, analysis = self.wind.scalar.synthesis_matrix, self.wind.scalar.analysis_matrix
        psi, chi = (to_waves(synthesis, part) for part in self.wind.potential_coefficients(u, v))
        psi_hat = psi / self.std[:p, :, None, None]
        rest = torch.cat([chi, others], -4) - _couple(self.coupling[p:], psi_hat)
        standardised = torch.cat([psi_hat, rest / self.std[p:, :, None, None]], -4)
        return to_coefficients(analysis, standardised)

    def raw_variables(self, x: Tensor) -> Tensor:
        """Channels [..., C, H, W] -> control variables [..., n, H, W] neither balanced nor scaled."""
        if not self.variables.pairs:  # no FFT takes an empty field
            return x
        u, v, others = self.variables.split(x, -3)
        return torch.cat([*self.wind.potentials(u, v), others], -3)

    def field(self, waves: Tensor) -> Tensor:
        """[..., C, H, M, 2] -> [..., C, H, W]."""
        return field_of(waves, self.grid.shape[1])

    def waves(self, field: Tensor) -> Tensor:
        """[..., C, H, W] -> [..., C, H, M, 2]."""
        return waves_of(field, self.lmax + 1)


def _couple(coupling: Tensor, psi_hat: Tensor) -> Tensor:
    """[i, P, H] and [..., P, H, M, 2] -> [..., i, H, M, 2]."""
    return torch.einsum("iph,...phmr->...ihmr", coupling, psi_hat)
