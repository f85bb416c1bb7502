"""Control variables of 3DVar, and the balance U_p between them and the state's channels.

The control variables are the streamfunction ψ (one per wind pair), the unbalanced velocity potential χ, and
the unbalanced part of every other channel, each divided by a std σ(φ) that depends on latitude. With a hat on
standardised fields,

    ψ = σ_ψ ψ̂,     x = σ_x x̂ + (f/f₀) Σ_k A_xk(φ) ψ̂_k     for x = χ, z, t, msl, ...

where k runs over the levels of ψ, f = 2Ω sin φ and f₀ = 10⁻⁴ s⁻¹. With f ψ as the predictor, A has the same
sign in both hemispheres, and mass and wind decouple in the tropics.

U_p depends only on latitude, so it acts on each zonal wave separately. Shapes: n control variables, P of them
ψ, C channels (n = C), H latitude, L total and M zonal wavenumbers; *parts* are complex numbers with real and
imaginary part on a last axis of 2.
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
    """The control variables of a state: ψ, then χ, then the others.

    Args:
        spec: any channels. If both u and v of a level (or u10 and v10) are present, they become ψ and χ.

    Attributes:
        names: [n], such as ``psi500, psi10m, chi500, chi10m, t2m, z500``.
        units: [n].
        pairs: [P] positions of u and v among the channels.
        others: positions of the remaining channels.
    """

    def __init__(self, spec: StateSpec) -> None:
        self.spec = spec
        named = [(f"u{level}", f"v{level}", str(level)) for level in spec.levels] + [("u10", "v10", "10m")]
        complete = [(u, v, label) for u, v, label in named if spec.has(u) and spec.has(v)]
        self.pairs = [(spec.index(u), spec.index(v)) for u, v, _ in complete]
        winds = {position for pair in self.pairs for position in pair}
        self.others = [i for i in range(len(spec)) if i not in winds]
        labels = [label for _, _, label in complete]
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
        """P, the number of ψ."""
        return len(self.pairs)

    def __len__(self) -> int:
        return len(self.spec)

    @cached_property
    def channel_order(self) -> list[int]:
        """The position of each channel in (u of the pairs, v of the pairs, others)."""
        stacked = [u for u, _ in self.pairs] + [v for _, v in self.pairs] + self.others
        return [stacked.index(channel) for channel in range(len(self.spec))]

    def split(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """Split channels into u of the pairs, v of the pairs, and others."""
        return (
            x.index_select(axis, torch.tensor([u for u, _ in self.pairs], dtype=torch.long, device=x.device)),
            x.index_select(axis, torch.tensor([v for _, v in self.pairs], dtype=torch.long, device=x.device)),
            x.index_select(axis, torch.tensor(self.others, dtype=torch.long, device=x.device)),
        )

    def is_variable(self, names: tuple[str, ...]) -> np.ndarray:
        """[n] bool: True for the control variables of these variables, such as ``q``."""
        winds = [False] * (2 * self.psi_count)
        return np.array(winds + [self.spec.channels[i].variable in names for i in self.others], dtype=bool)


def coriolis_factor(latitude: np.ndarray) -> np.ndarray:
    """f/f₀ at latitudes in degrees."""
    return 2 * EARTH_ROTATION * np.sin(np.radians(latitude)) / REFERENCE_CORIOLIS


def to_latitudes(values: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Linear interpolation in latitude, [..., H] -> [..., H']; constant beyond the ends."""
    flat = values.reshape(-1, values.shape[-1])[:, ::-1]
    out = np.array([np.interp(target, source[::-1], row) for row in flat])
    return out.reshape(*values.shape[:-1], target.size)


class Balance(nn.Module):
    """U_p: from standardised control variables to channels, and back.

    Args:
        variables: the control variables.
        latitude_grid: the grid of σ and A, on which ψ and χ are multiplied by σ.
        lmax: triangular truncation.
        std: [n, H], σ.
        regression: [n, P, H], A, in physical units; zero for ψ.
        grid: the grid of the channels; any that carries lmax.
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
        """Waves of ψ̂ and χ̂ at the statistics' latitudes, [..., 2P, H, M, 2] -> u, v [..., P, H, M, 2]."""
        p = self.variables.psi_count
        potentials, others = coefficients[..., : 2 * p, :, :, :], coefficients[..., 2 * p :, :, :, :]
        u, v = self.winds(to_waves(self.inner.synthesis_matrix, potentials))
        synthesis = self.wind.scalar.synthesis_matrix
        others = to_waves(synthesis, others) * self.std[2 * p :, :, None, None]
        psi_hat = to_waves(synthesis, potentials[..., :p, :, :, :])
        others = others + _couple(self.coupling[2 * p :], psi_hat)
        return torch.cat([u, v, others], -4).index_select(-4, self.order)

    def winds(self, potentials: Tensor) -> tuple[Tensor, Tensor]:
        """Waves of ψ̂ and χ̂ at the statistics' latitudes, [..., 2P, H, M, 2] -> u, v [..., P, H, M, 2]."""
        p = self.variables.psi_count
        psi_hat = potentials[..., :p, :, :, :]
        waves = potentials * self.inner_std[..., None, None]
        chi = waves[..., p:, :, :, :] + _couple(self.inner_coupling, psi_hat)
        return self.wind.wind_waves(
            to_coefficients(self.inner.analysis_matrix, waves[..., :p, :, :, :]),
            to_coefficients(self.inner.analysis_matrix, chi),
        )

    def inverse(self, waves: Tensor) -> Tensor:
        """Zonal waves of channels, [..., C, H, M, 2] -> standardised variables in parts, [..., n, L, M, 2].

        Exact, except that products with σ(φ) are truncated.
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
        """Channels [..., C, H, W] -> ψ, χ and other channels [..., n, H, W]; not balanced, not scaled."""
        if not self.variables.pairs:  # an FFT cannot take an empty field
            return x
        u, v, others = self.variables.split(x, -3)
        return torch.cat([*self.wind.potentials(u, v), others], -3)

    def field(self, waves: Tensor) -> Tensor:
        """Zonal waves [..., C, H, M, 2] -> field [..., C, H, W]."""
        return field_of(waves, self.grid.shape[1])

    def waves(self, field: Tensor) -> Tensor:
        """Field [..., C, H, W] -> zonal waves [..., C, H, M, 2]."""
        return waves_of(field, self.lmax + 1)


def _couple(coupling: Tensor, psi_hat: Tensor) -> Tensor:
    """The balanced part: [i, P, H] and ψ̂ [..., P, H, M, 2] -> [..., i, H, M, 2]."""
    return torch.einsum("iph,...phmr->...ihmr", coupling, psi_hat)
