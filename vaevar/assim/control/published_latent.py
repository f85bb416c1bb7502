"""The latent control transform of VAE-Var as published: the decoder itself, with the prior N(0, I)."""

from __future__ import annotations

from typing import Protocol, cast

from torch import Tensor

from vaevar.assim.control.latent import PublishedLatentControl


class _Decodes(Protocol):
    def decode(self, w: Tensor) -> Tensor: ...


class DecoderControl(PublishedLatentControl):
    """D(w) = σ_b · decoder(w), w the code itself (Xiao et al., VAE-Var, ICLR 2025).

    :class:`~vaevar.assim.control.latent.PublishedLatentControl` decodes codes of a prior that is fitted after
    training. Here the prior is the N(0, I) that the loss of the VAE is for, whatever was fitted.

    Args:
        checkpoint: path of a VAE's checkpoint, or a VAE already in memory.

    Raises:
        UserError: for a checkpoint that is missing or not a VAE.
    """

    def _require_fitted(self) -> None:
        """A prior that is not used needs no fit."""

    def _decode(self, w: Tensor) -> Tensor:
        error_std = self._vae.error_std
        return cast(_Decodes, self.decoder).decode(w.to(error_std.dtype)).to(error_std.dtype)
