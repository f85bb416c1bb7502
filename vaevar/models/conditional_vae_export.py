"""After a fit: the best conditional VAE as a slim checkpoint, with what it was made of."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from vaevar.models.conditional_vae import ConditionalVAE
from vaevar.provenance import fit_record


class ExportConditionalVAE(L.Callback):
    """Writes the weights of the fit's best checkpoint (else its last state) to ``path``.

    Args:
        path: the slim checkpoint.
    """

    def __init__(self, path: str = "runs/conditional_vae/weights.ckpt") -> None:
        self.path = Path(path)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if not isinstance(pl_module, ConditionalVAE):
            raise TypeError(f"ExportConditionalVAE exports a ConditionalVAE, not {type(pl_module).__name__}")
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        model = ConditionalVAE.load(best) if best else pl_module
        data = trainer.datamodule  # type: ignore[attr-defined]
        record = fit_record(trainer) | {"data": {"path": data.path, "samples": len(data.training)}}
        model.save_weights(self.path, record)
