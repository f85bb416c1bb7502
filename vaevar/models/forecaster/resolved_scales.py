"""Keeps a learned forecaster to the scales that its training data resolve.

A spectral model of truncation T31 has next to no life beyond wavenumber 31 on its 48 × 96 grid, where a
numerical model would have diffusion besides. A network trained on 6 h steps knows neither: what it makes of
those scales is noise, and it feeds on itself. In an assimilation cycle no B can take it out again, and it
doubles in a month until it spoils the large scales. So the forecast's part beyond the truncation is not the
network's, but a memory of the state before, fading towards its mean:

    x ← P x̂ + s̄ + ρ ((1 − P) x₀ − s̄),

P the truncation, x₀ the state that the step starts from, x̂ the network's forecast, s̄ the mean of (1 − P) x
(coasts and mountains).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics


class Truncation(nn.Module):
    """P: [B, C, H, W] -> the part of total wavenumbers up to lmax; by matrix products, which ONNX has.

    Args:
        grid: Gaussian or equiangular with poles.
        lmax: triangular truncation.

    Raises:
        ValueError: when the grid cannot carry it.
    """

    fourier: Tensor
    legendre: Tensor

    def __init__(self, grid: Grid, lmax: int) -> None:
        super().__init__()
        harmonics = SphericalHarmonics(grid, lmax, torch.float64)
        order = torch.cat([torch.arange(lmax + 1), torch.arange(1, lmax + 1)])
        turn = torch.from_numpy(np.radians(grid.longitude.copy()))[:, None]
        waves = torch.cat([(turn * order[: lmax + 1]).cos(), (turn * order[lmax + 1 :]).sin()], 1)
        by_order = torch.einsum("mlh,mlg->mhg", harmonics.synthesis_matrix, harmonics.analysis_matrix)
        self.register_buffer("fourier", (waves / waves.norm(dim=0)).float(), persistent=False)  # [W, K]
        self.register_buffer("legendre", by_order[order].float(), persistent=False)  # [K, H, H]

    def forward(self, x: Tensor) -> Tensor:
        waves = torch.einsum("khg,bcgk->bchk", self.legendre, x @ self.fourier)
        return waves @ self.fourier.T


class ResolvedScales(nn.Module):
    """x̂ and x₀ [B, C, H, W] -> x, as above; normalised or not, if all are alike.

    Args:
        channels: C.
        grid: H × W.
        lmax: truncation of the data that the forecaster learned from.
        memory: ρ.

    Attributes:
        mean: [C, H, W], s̄; 0 until it is set.

    Raises:
        ValueError: for a truncation that the grid cannot carry, or ρ outside [0, 1].
    """

    mean: Tensor

    def __init__(self, channels: int, grid: Grid, lmax: int, memory: float) -> None:
        super().__init__()
        if not 0 <= memory <= 1:
            raise ValueError(f"memory must lie in [0, 1], got {memory}")
        self.truncation, self.memory = Truncation(grid, lmax), memory
        self.register_buffer("mean", torch.zeros(channels, *grid.shape))

    def set_mean(self, state: Tensor) -> None:
        """Take s̄ from the mean state [C, H, W]."""
        self.mean.copy_(state - self.truncation(state[None])[0])

    def forward(self, forecast: Tensor, before: Tensor) -> Tensor:
        # P is linear: one product for both.
        kept = self.truncation(forecast - self.memory * before) + self.memory * before
        return kept + (1 - self.memory) * self.mean
