"""After a fit: the trained weights as a slim checkpoint that says where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from vaevar.errors import UserError
from vaevar.models.vae.vae import VAE
from vaevar.provenance import fit_record


class ExportWeights(L.Callback):
    """Writes the weights of the fit's best checkpoint (else its last state); of a VAE with its prior fitted.

    For modules with ``load`` and ``save_weights``: the VAE, the conditional VAE, DiffDA's denoiser.

    Args:
        path: the slim checkpoint, such as ``weights/vae.ckpt``.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse before a fit what cannot be written after it.

        Raises:
            UserError: when the module has no slim checkpoints.
        """
        if not all(hasattr(pl_module, name) for name in ("load", "save_weights")):
            raise UserError(f"ExportWeights: a {type(pl_module).__name__} has no slim checkpoints")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        kind: Any = type(pl_module)
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        trained: Any = kind.load(best).to(pl_module.device) if best else pl_module
        record = fit_record(trainer)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if hasattr(data, "record"):
            if isinstance(trained, VAE):
                trained.fit_prior(data.training_in_order())
            record["data"] = data.record
        trained.save_weights(self.path, record)
