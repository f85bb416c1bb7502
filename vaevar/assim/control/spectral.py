"""The control transform of VAE-Var's VAE: D(w; c), c the background and its coverage."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from vaevar.assim.context import AnalysisContext
from vaevar.assim.control.base import ControlTransform
from vaevar.data.observations.coverage import no_coverage
from vaevar.errors import UserError
from vaevar.models.spectral.vae import SpectralVAE
from vaevar.sphere.coarsening import Coarsening
from vaevar.sphere.grid import Grid
from vaevar.state import State


class SpectralControl(ControlTransform):
    """D(w; c) of :class:`vaevar.models.spectral.vae.SpectralVAE`, different each day.

    Near w = 0 it is 3DVar's U, with the scales of the day. The states may be on a finer grid than the VAE: it
    is given means of background and coverage over the cells of its own, as its samples are kept.

    Args:
        checkpoint: path of a checkpoint, or a model already in memory.
        strength: multiplies s: 1 trusts all that the VAE says of the day, 0 is a VAE of no particular day.
            What is learned from few samples needs shrinking; like λ it is tuned on the validation period
            (benchmarks/results/tune_lambda.md).

    Raises:
        UserError: for a checkpoint that is missing or of another model, or a negative strength.

    Example:
        >>> vaevar.SpectralControl(vaevar.pretrained("spectral_vae"), strength=0.5).shape
        (69, 1024)
    """

    def __init__(self, checkpoint: str | Path | SpectralVAE, strength: float = 1.0) -> None:
        super().__init__()
        if not (strength >= 0 and math.isfinite(strength)):
            raise UserError(f"SpectralControl: strength is {strength}, must not be negative")
        self.strength = strength
        if isinstance(checkpoint, SpectralVAE):
            self.vae = checkpoint
        elif isinstance(checkpoint, nn.Module):
            raise UserError(
                f"SpectralControl: a {type(checkpoint).__name__} is no SpectralVAE; give one, or its "
                "checkpoint (a VAE is for DecoderControl)"
            )
        else:
            self.vae = SpectralVAE.load(checkpoint).requires_grad_(False)
        self.spec, self.grid = self.vae.spec, self.vae.grid

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.vae.latent_shape)

    @torch.no_grad()
    def for_analysis(self, background: State, context: AnalysisContext) -> ControlTransform:
        """D(·; c) of one day.

        Raises:
            UserError: for a background on a coarser grid than the VAE's.
        """
        if self.vae.day is None:
            return self
        values = background.values.float()
        coverage = no_coverage(background.grid) if context.coverage is None else context.coverage
        fields = self._on_own_grid(torch.cat([values, coverage.to(values)]), background.grid)
        scales = self.vae.scales(*fields[None].split([len(self.spec), len(coverage)], 1))
        return self if scales is None else _ControlOfTheDay(self.vae, self.strength * scales)

    def _on_own_grid(self, fields: Tensor, grid: Grid) -> Tensor:
        """[N, H', W'] -> [N, H, W], means over the cells of the VAE's grid."""
        if grid == self.grid:
            return fields
        try:
            coarsening = Coarsening(grid, self.grid)
        except ValueError as error:
            raise UserError(
                f"SpectralControl: the VAE was trained on {self.grid}, the background is on {grid}: {error}; "
                "train it on errors on that grid or a coarser one (coarsen_to)"
            ) from None
        return coarsening.to(fields.device)(fields)

    def forward(self, w: Tensor) -> Tensor:
        """D(w) of no particular day: [n, (lmax + 1)²] -> [C, H, W] in physical units."""
        return self.vae.decode(w[None])[0]


class _ControlOfTheDay(ControlTransform):
    """D(·; c) for given scales s(c), [1, b, n, H, W]."""

    def __init__(self, vae: SpectralVAE, scales: Tensor) -> None:
        super().__init__()
        self.vae, self.scales = vae, scales
        self.spec, self.grid = vae.spec, vae.grid

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.vae.latent_shape)

    def forward(self, w: Tensor) -> Tensor:
        """[n, (lmax + 1)²] -> [C, H, W] in physical units."""
        return self.vae.decode(w[None], self.scales)[0]
