"""The control transform of the spectral VAE: D(w) = S U (w + F(w))."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vaevar.assim.control.base import ControlTransform
from vaevar.models.spectral.vae import SpectralVAE


class SpectralControl(ControlTransform):
    """D(w) = S U (w + F(w)) of :class:`vaevar.models.spectral.vae.SpectralVAE`.

    Near w = 0 it is 3DVar's U, bent by what the VAE has learned beyond B.

    Args:
        checkpoint: path of a checkpoint, or a model already in memory.

    Raises:
        UserError: for a checkpoint that is missing or of another model.
    """

    def __init__(self, checkpoint: str | Path | SpectralVAE) -> None:
        super().__init__()
        if isinstance(checkpoint, SpectralVAE):
            self.vae = checkpoint
        else:
            self.vae = SpectralVAE.load(checkpoint).requires_grad_(False)
        self.spec, self.grid = self.vae.spec, self.vae.grid

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.vae.latent_shape)

    def forward(self, w: Tensor) -> Tensor:
        """[n, (lmax + 1)²] -> [C, H, W] in physical units."""
        return self.vae.decode(w[None])[0]
