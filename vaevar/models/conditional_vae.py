"""The conditional VAE: the background's error given the background, and where it was observed before.

    p(w) = N(0, I),   δ | w, c  =  D(w; c) + noise,   D(w; c) = S U_p [ m(c) + e^{s(c)} ⊙ T_c (U_v U_h w) ],

c being the background x_b and its coverage (:mod:`vaevar.data.coverage`). It begins as 3DVar's
U = S U_p U_v U_h (:mod:`vaevar.models.covariance`), and learns by how much, and into what, the errors of a
day differ from the homogeneous and stationary ones that U knows: their size s, what they mean together T_c,
and their mean m.

D is linear in w, so that the posterior of w is a Gaussian that need not be learned: the encoder of
Kingma and Welling's VAE (2014) is exact, and the evidence lower bound is the evidence itself. With
x = (S U_p)⁻¹ δ, y = T_c⁻¹ e^{−s} (x − m) and noise of variance σ² in y,

    −log p(δ | c) = ½ Σ_l ‖(C_l + τ² I)^{−½} y_l‖² + (lmax + 1)² Σ_i ⟨s_i⟩ + const,   τ² = σ²/(lmax + 1)²,

⟨·⟩ the mean over the sphere: T_c keeps volumes, and the log-determinant of multiplying with e^s within the
truncation is that of its symbol (Szegő's theorem, for s smooth beside the truncation).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaevar.data.coverage import MAPS
from vaevar.errors import UserError
from vaevar.models.conditional_network import ContextNetwork, Heads, Modulation
from vaevar.models.covariance import CovarianceTransform
from vaevar.models.covariance_statistics import CovarianceStatistics
from vaevar.models.optimisation import ClippedModule, adamw
from vaevar.models.slim_checkpoint import read_slim, save_slim
from vaevar.sphere import quadrature_weights
from vaevar.wind import field_of, to_coefficients, to_waves, waves_of

WEIGHTS_FORMAT = "vaevar-conditional-vae-1"
_HINT = "train one with `python main.py fit --config configs/conditional_vae.yaml`"


class ConditionalVAE(ClippedModule):
    """p(truth − background | background, coverage).

    Args:
        covariance: statistics of 3DVar's B, where this begins; on the grid of the samples.
        widths, depth, maps, dropout: of :class:`vaevar.models.conditional_network.ContextNetwork`.
        features, pairs: of :class:`vaevar.models.conditional_network.Modulation`.
        sigma: σ, in units of the standardised variables.
        with_mean: learn m(c); otherwise m = 0. In a cycle that the samples are not from, a learned mean
            feeds on itself (docs/vaevar.md).
        learning_rate, weight_decay: of AdamW.
        warmup_steps: optimiser steps of a linear warm-up; a cosine to 0 follows.

    Attributes:
        spec, grid: of backgrounds and errors.
        background_mean, background_std: [C, 1, 1], taken from the data module when fitting begins, and
            part of every checkpoint, as is the checksum of the statistics.

    Raises:
        UserError: for statistics that are missing or damaged, or a setting out of range.
    """

    background_mean: Tensor
    background_std: Tensor
    covariance_sha256: Tensor
    whitening: Tensor
    area: Tensor

    def __init__(
        self,
        covariance: str,
        widths: Sequence[int] = (96, 144, 192),
        depth: int = 1,
        maps: int = 8,
        dropout: float = 0.1,
        features: int = 64,
        pairs: int = 2,
        sigma: float = 0.2,
        with_mean: bool = False,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        if not (sigma > 0 and learning_rate > 0 and 0 <= dropout < 1 and widths and features > 0):
            raise UserError(
                f"ConditionalVAE: sigma {sigma}, learning_rate {learning_rate}, features {features} and "
                f"widths {list(widths)} must be positive, and dropout {dropout} in [0, 1)"
            )
        self.save_hyperparameters()
        statistics = CovarianceStatistics.load(covariance)
        self.transform = CovarianceTransform(statistics)
        self.spec, self.grid = statistics.spec, statistics.grid
        count = len(self.spec)
        self.context = ContextNetwork(
            count + MAPS, self.grid, tuple(widths), depth, maps, min(12, statistics.lmax), dropout
        )
        self.modulation = Modulation(statistics.variables.names, widths[0], features, pairs)
        if not with_mean:
            self.modulation.mean.requires_grad_(False)
        self.modes = (statistics.lmax + 1) ** 2
        values, vectors = statistics.eigen()
        inverse = 1 / np.sqrt(values + sigma**2 / self.modes)
        whitening = np.einsum("lik,lk,ljk->lij", vectors, inverse, vectors)
        self.register_buffer("whitening", torch.from_numpy(whitening).float(), persistent=False)
        area = torch.from_numpy(quadrature_weights(self.grid))
        self.register_buffer("area", (area / area.mean()).float()[:, None], persistent=False)
        digest = hashlib.sha256(Path(covariance).read_bytes()).digest()
        self.register_buffer("covariance_sha256", torch.tensor(list(digest), dtype=torch.uint8))
        self.register_buffer("background_mean", torch.zeros(count, 1, 1))
        self.register_buffer("background_std", torch.ones(count, 1, 1))

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Shape of w."""
        return self.transform.shape

    def heads(self, background: Tensor, coverage: Tensor) -> Heads:
        """s, m and the couplings' gates of a day.

        Args:
            background: [B, C, H, W], physical units.
            coverage: [B, K, H, W].
        """
        normalised = (background - self.background_mean) / self.background_std
        return self.modulation.heads(self.context(normalised, coverage))

    def decode(self, w: Tensor, heads: Heads) -> Tensor:
        """D(w; c) − D(0; c): [B, *latent_shape] -> [B, C, H, W] in physical units; linear in w."""
        scale, mean, gates = heads
        with torch.autocast(w.device.type, enabled=False):
            matrix = self.transform.balance.inner.synthesis_matrix
            homogeneous = field_of(to_waves(matrix, self.transform.coloured(w)), self.grid.shape[1])
            return self._physical(self.modulation(homogeneous, (scale, torch.zeros_like(mean), gates)))

    def mean(self, heads: Heads) -> Tensor:
        """D(0; c), the mean error that the day's background has: [B, C, H, W] in physical units."""
        return self._physical(heads[1])

    def _physical(self, x: Tensor) -> Tensor:
        waves = waves_of(x, self.transform.lmax + 1)
        return self.transform.balanced(to_coefficients(self.transform.balance.inner.analysis_matrix, waves))

    def _variables(self, errors: Tensor) -> Tensor:
        """(S U_p)⁻¹ of errors [B, C, H, W] in physical units: fields [B, n, H, W]."""
        matrix = self.transform.balance.inner.synthesis_matrix
        return field_of(to_waves(matrix, self.transform.standardised(errors)), self.grid.shape[1])

    def evidence(self, x: Tensor, heads: Heads) -> Tensor:
        """−log p of standardised variables [B, n, H, W], per latent unit and less a constant: [B]."""
        y = self.modulation.inverse(x, heads)
        matrix = self.transform.balance.inner.analysis_matrix
        coefficients = to_coefficients(matrix, waves_of(y.float(), self.transform.lmax + 1))
        white = torch.einsum("lij,bjlmr->bilmr", self.whitening, coefficients)
        # Orders m and −m.
        norm = 2 * white.square().sum((1, 2, 3, 4)) - white[..., 0, :].square().sum((1, 2, 3))
        volume = self.modes * (heads[0].float() * self.area).mean((2, 3)).sum(1)
        return (norm / 2 + volume) / (self.modes * len(self.spec))

    # ---- Lightning ----------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take the backgrounds' mean and standard deviation from the data module.

        Raises:
            UserError: when its channels or grid are not those of the statistics.
        """
        if stage != "fit":
            return
        data = getattr(self.trainer, "datamodule", None)
        names = ("background_mean", "background_std")
        if data is None or not all(hasattr(data, name) for name in (*names, "spec", "grid")):
            raise UserError("ConditionalVAE: fit on vaevar.data.cycle_errors.CycleErrors")
        if data.spec != self.spec or data.grid != self.grid:
            raise UserError(
                f"ConditionalVAE: the errors are {data.spec} on {data.grid}, but the covariance is of "
                f"{self.spec} on {self.grid}; calibrate it on the same samples"
            )
        for name in names:
            getattr(self, name).copy_(getattr(data, name)[:, None, None])

    def _losses(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean loss of a batch, and that of 3DVar's B alone."""
        background, errors, coverage = batch
        with torch.no_grad(), torch.autocast(errors.device.type, enabled=False):
            x = self._variables(errors)
        heads = self.heads(background, coverage)
        heads = heads[0].float(), heads[1].float(), [gate.float() for gate in heads[2]]
        with torch.autocast(errors.device.type, enabled=False):
            loss = self.evidence(x, heads).mean()
            with torch.no_grad():
                nothing = torch.zeros_like(x), torch.zeros_like(x), [torch.zeros_like(g) for g in heads[2]]
                static = self.evidence(x, nothing).mean()
        return loss, static

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        loss, static = self._losses(batch)
        self.log_dict({"train/loss": loss, "train/gain": static - loss}, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """``val/loss``; ``val/gain``: by how much it is below that of 3DVar's B, nats per latent unit."""
        loss, static = self._losses(batch)
        count = len(batch[0])
        self.log_dict(
            {"val/loss": loss, "val/gain": static - loss}, prog_bar=True, batch_size=count, sync_dist=True
        )

    def configure_optimizers(self) -> Any:
        """AdamW; linear warm-up, then a cosine down to 0."""
        settings = self.hparams
        total, warmup = max(int(self.trainer.estimated_stepping_batches), 1), settings["warmup_steps"]

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / max(warmup, 1))
            return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))

        return adamw(self, settings["learning_rate"], settings["weight_decay"], factor)

    # ---- files --------------------------------------------------------------------------------

    def save_weights(self, path: str | Path, provenance: Mapping[str, Any]) -> None:
        """Write a slim checkpoint: hyperparameters, weights, and where they come from."""
        save_slim(path, self, WEIGHTS_FORMAT, provenance)

    @classmethod
    def load(cls, path: str | Path) -> ConditionalVAE:
        """Open what :meth:`save_weights` wrote, or an ordinary checkpoint of a fit; on the CPU.

        Raises:
            UserError: when the file is missing, damaged, or of another model, or the statistics it was
                trained with are not there any more.
        """
        content = read_slim(path, WEIGHTS_FORMAT, _HINT)
        try:
            model = cls(**content["hyper_parameters"])
        except TypeError as error:
            raise UserError(f"{path}: not a checkpoint of a conditional VAE ({error})") from None
        digest = model.covariance_sha256.clone()
        try:
            model.load_state_dict(content["state_dict"])
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path}: not a checkpoint of this conditional VAE ({reason})") from None
        if not torch.equal(digest, model.covariance_sha256):
            raise UserError(
                f"{path}: was trained with other statistics than {content['hyper_parameters']['covariance']} "
                f"now holds; bring those back, or {_HINT}"
            )
        return model.eval()
