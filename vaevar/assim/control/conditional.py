"""The control transform of the conditional VAE: D(w; c), c the background and its coverage."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from vaevar.assim.control.base import ControlTransform
from vaevar.data.observations.coverage import no_coverage
from vaevar.errors import UserError
from vaevar.models.conditional.vae import ConditionalVAE
from vaevar.state import State


class ConditionalControl(ControlTransform):
    """D(w; c) of :class:`vaevar.models.conditional.vae.ConditionalVAE`: linear in w, another one each day.

    Args:
        checkpoint: path of a checkpoint, or a model already in memory.
        strength: s is multiplied by it: 1 believes all that the VAE says of the day, 0 is 3DVar with the B
            it began as. What is learned of few samples wants shrinking, like λ tuned on the validation
            period (docs/vaevar.md).

    Raises:
        UserError: for a checkpoint that is missing or of another model, or a negative strength.
    """

    def __init__(self, checkpoint: str | Path | ConditionalVAE, strength: float = 1.0) -> None:
        super().__init__()
        if not (strength >= 0 and math.isfinite(strength)):
            raise UserError(f"ConditionalControl: strength is {strength}, must not be negative")
        self.strength = strength
        if isinstance(checkpoint, ConditionalVAE):
            self.vae = checkpoint
        else:
            self.vae = ConditionalVAE.load(checkpoint).requires_grad_(False)
        self.spec, self.grid = self.vae.spec, self.vae.grid
        self._scales: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.vae.latent_shape)

    @torch.no_grad()
    def given(self, background: State, coverage: Tensor | None) -> None:
        """Compute what depends on the day: once per analysis.

        Raises:
            UserError: for a background on another grid than the VAE's.
        """
        if background.grid != self.grid:
            raise UserError(
                f"the conditional VAE was trained on {self.grid}, the background is on {background.grid}"
            )
        values = background.values.float()
        coverage = no_coverage(self.grid).to(values) if coverage is None else coverage.to(values)
        self._scales = self.strength * self.vae.scales(values[None], coverage[None])

    def forward(self, w: Tensor) -> Tensor:
        """[n, (lmax + 1)²] -> [C, H, W] in physical units.

        Raises:
            RuntimeError: before :meth:`given`.
        """
        if self._scales is None:
            raise RuntimeError("call given() with the background first")
        return self.vae.decode(w[None], self._scales)[0]
