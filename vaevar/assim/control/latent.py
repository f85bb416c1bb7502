"""The latent control transform of VAE-Var: the decoder of a VAE of background errors.

A decoder's output is not zero at w = 0. There are three ways to make an increment of it: the odd part of
the decoder (the default), its departure from D(0), and the output itself, as published.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from vaevar.assim.context import AnalysisContext
from vaevar.assim.control.base import ControlTransform
from vaevar.errors import UserError
from vaevar.models.vae.prior import LatentPrior
from vaevar.models.vae.vae import VAE
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec


class Decoder(Protocol):
    """The part of a VAE that is used here (:class:`vaevar.models.vae.vae.VAE`)."""

    spec: StateSpec
    grid: Grid
    error_std: Tensor

    @property
    def latent_shape(self) -> tuple[int, ...]: ...

    def generate(self, v: Tensor) -> Tensor:
        """White v [B, *latent_shape] -> [B, C, H, W], errors divided by ``error_std``."""


_PARTS = ("spec", "grid", "error_std", "latent_shape", "generate")


class LatentControl(ControlTransform):
    """D(w) = σ_b · ½ (decoder(w) − decoder(−w)), σ_b the background-error std by channel and latitude.

    An error is as likely as its opposite, and a VAE trained on both (``flip_sign``) has opposite codes
    for them, but its decoder still has an even part. That part is an increment whose sign does not
    depend on the observations: it is added to every analysis, and a cycle drifts away. Departures from
    decoder(0) do not remove it: w = 0 is a singular point of a decoder with normalising layers, and the
    even part is nearly complete again a short distance away.

    Args:
        checkpoint: path of a VAE checkpoint, or a VAE already in memory.

    Raises:
        UserError: for a checkpoint that is missing or not a VAE, or whose prior is not fitted.

    Example:
        >>> vaevar.LatentControl(vaevar.pretrained("cycle_vae")).grid
        Grid(48 × 96, Gaussian)
    """

    def __init__(self, checkpoint: str | Path | nn.Module) -> None:
        super().__init__()
        if isinstance(checkpoint, nn.Module):
            lacking = [name for name in _PARTS if not hasattr(checkpoint, name)]
            if lacking:
                raise UserError(
                    f"{type(self).__name__}: a {type(checkpoint).__name__} is no VAE, it lacks "
                    f"{', '.join(lacking)}; give a VAE, or its checkpoint (a ConditionalVAE is for "
                    "ConditionalControl)"
                )
            self.decoder = checkpoint
        else:
            # Its own copy, for evaluation only: without gradients of its parameters it takes less memory.
            self.decoder = VAE.load(checkpoint).eval().requires_grad_(False)
        self._name = "this VAE" if isinstance(checkpoint, nn.Module) else str(checkpoint)
        self._require_fitted()
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

    def for_analysis(self, background: State, context: AnalysisContext) -> ControlTransform:
        """D itself.

        Raises:
            UserError: when the VAE has been trained further since its prior was fitted.
        """
        self._require_fitted()
        return self

    def _require_fitted(self) -> None:
        prior = getattr(self.decoder, "prior", None)
        if isinstance(prior, LatentPrior):
            prior.require_fitted(self._name)

    def forward(self, w: Tensor) -> Tensor:
        """[*latent_shape] -> [C, H, W] in physical units, in the precision of ``error_std``."""
        return self._normalised(w) * self._vae.error_std

    def _normalised(self, w: Tensor) -> Tensor:
        one, other = self._decode(torch.stack([w, -w]))
        return (one - other) / 2

    def _decode(self, w: Tensor) -> Tensor:
        """[B, *latent_shape] -> [B, C, H, W]"""
        error_std = self._vae.error_std
        # Leave reduced precision here: differences and sums of it are not for bfloat16.
        return self._vae.generate(w.to(error_std.dtype)).to(error_std.dtype)


class CentredLatentControl(LatentControl):
    """D(w) = σ_b · (decoder(w) − decoder(0)).

    The output at zero is computed once: make a new object after a change of the decoder's weights.
    """

    def __init__(self, checkpoint: str | Path | nn.Module) -> None:
        super().__init__(checkpoint)
        self._origin: tuple[tuple[torch.device, torch.dtype], Tensor] | None = None

    def _normalised(self, w: Tensor) -> Tensor:
        return self._decode(w[None])[0] - self._decoded_origin(w)

    def _decoded_origin(self, w: Tensor) -> Tensor:
        """decoder(0), computed once for each device and precision.

        Precision matters: subtracted from an output of lower precision it would leave their difference
        as a spurious increment.
        """
        kind = w.device.type
        reduced = torch.is_autocast_enabled(kind)
        key = (w.device, torch.get_autocast_dtype(kind) if reduced else self._vae.error_std.dtype)
        if self._origin is None or self._origin[0] != key:
            with torch.inference_mode(False), torch.no_grad():
                self._origin = key, self._decode(torch.zeros_like(w)[None])[0]
        return self._origin[1]


class PublishedLatentControl(LatentControl):
    """D(w) = σ_b · decoder(w), not zero at w = 0 (Xiao et al., VAE-Var, ICLR 2025)."""

    def _normalised(self, w: Tensor) -> Tensor:
        return self._decode(w[None])[0]
