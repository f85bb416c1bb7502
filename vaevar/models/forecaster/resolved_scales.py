"""Limits a learned forecaster to the scales that its training data resolve.

A spectral model with truncation T31 has almost no variance beyond wavenumber 31 on its 48 × 96 grid, and
like other numerical models it has diffusion. A network trained on 6 h steps has neither: its forecasts of
those scales are noise, which grows. In an assimilation cycle B cannot remove the noise, and it doubles
within a month until it spoils the large scales. So beyond the truncation the network's forecast is replaced
by the initial state, which decays towards its mean:

    x ← P x̂ + s̄ + ρ ((1 − P) x₀ − s̄)

with the truncation P, the initial state x₀ of the step, the network's forecast x̂, and s̄ the mean of
(1 − P) x, due to coasts and mountains.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics


class Truncation(nn.Module):
    """P: keeps the total wavenumbers up to lmax, [B, C, H, W] -> the same shape.

    It consists of matrix products, which can be written to ONNX.

    Args:
        grid: the H × W points, Gaussian or equiangular with poles.
        lmax: triangular truncation.

    Raises:
        ValueError: when the grid cannot carry the truncation.
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
    """From x̂ and x₀ to x, [B, C, H, W] each, in physical or in normalised units.

    Args:
        channels: C.
        grid: the H × W points.
        lmax: truncation of the forecaster's training data.
        memory: ρ.

    Attributes:
        mean: [C, H, W], s̄; 0 until :meth:`set_mean`.

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
        """Set s̄ from the mean state [C, H, W]."""
        self.mean.copy_(state - self.truncation(state[None])[0])

    def forward(self, forecast: Tensor, before: Tensor) -> Tensor:
        # P is linear, so one product is enough for both. Full precision under autocast too: a product of
        # states in bfloat16 is wrong by more than they change in 6 hours.
        with torch.autocast(forecast.device.type, enabled=False):
            kept = self.truncation(forecast - self.memory * before) + self.memory * before
        return kept + (1 - self.memory) * self.mean
