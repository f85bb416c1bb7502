"""The control transform of VAE-Var as published: the decoder of a VAE of background errors."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

from torch import Tensor, nn

from vaevar.assim.control.base import ControlTransform
from vaevar.errors import UserError
from vaevar.models.vae.vae import VAE
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


class Decoder(Protocol):
    """The part of a VAE that is used here (:class:`vaevar.models.vae.vae.VAE`)."""

    spec: StateSpec
    grid: Grid
    error_std: Tensor

    @property
    def latent_shape(self) -> tuple[int, ...]: ...

    def decode(self, w: Tensor) -> Tensor:
        """[B, *latent_shape] -> [B, C, H, W], errors divided by ``error_std``."""


_PARTS = ("spec", "grid", "error_std", "latent_shape", "decode")


class DecoderControl(ControlTransform):
    """D(w) = σ_b · decoder(w), σ_b the background-error std by channel and latitude (Xiao et al., ICLR 2025).

    The prior is N(0, I), which the loss of the VAE is for. D(0) is not zero: it is added to every analysis.

    Args:
        checkpoint: path of a VAE's checkpoint, or a VAE already in memory.

    Raises:
        UserError: for a checkpoint that is missing or not a VAE.

    Example:
        >>> vaevar.DecoderControl(vaevar.pretrained("vae")).grid
        Grid(48 × 96, Gaussian)
    """

    def __init__(self, checkpoint: str | Path | nn.Module) -> None:
        super().__init__()
        if isinstance(checkpoint, nn.Module):
            lacking = [name for name in _PARTS if not hasattr(checkpoint, name)]
            if lacking:
                raise UserError(
                    f"DecoderControl: a {type(checkpoint).__name__} is no VAE, it lacks "
                    f"{', '.join(lacking)}; give a VAE, or its checkpoint (a SpectralVAE is for VAEVar)"
                )
            self.decoder = checkpoint
        else:
            # Its own copy, for evaluation only: without gradients of its parameters it takes less memory.
            self.decoder = VAE.load(checkpoint).eval().requires_grad_(False)
        vae = self._vae
        self.spec, self.grid = vae.spec, vae.grid
        by_channel = (len(vae.spec), 1, 1)
        if tuple(vae.error_std.shape) not in (by_channel, (len(vae.spec), vae.grid.shape[0], 1)):
            raise ValueError(f"error_std is {tuple(vae.error_std.shape)}, not by channel (and latitude)")

    @property
    def _vae(self) -> Decoder:
        return cast(Decoder, self.decoder)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._vae.latent_shape)

    def forward(self, w: Tensor) -> Tensor:
        """[*latent_shape] -> [C, H, W] in physical units, in the precision of ``error_std``."""
        error_std = self._vae.error_std
        # Leave reduced precision here: it is not for sums with a background.
        return self._vae.decode(w[None].to(error_std.dtype))[0].to(error_std.dtype) * error_std
