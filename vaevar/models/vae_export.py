"""After a fit: the best VAE as a slim checkpoint, with what it was made of."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from vaevar.data.background_errors import BackgroundErrors
from vaevar.models.vae import VAE
from vaevar.provenance import fit_record


class ExportVAE(L.Callback):
    """Writes the weights of the fit's best checkpoint (else its last state) to ``path``, its prior fitted.

    Args:
        path: the slim checkpoint, such as ``weights/vae.ckpt``.
    """

    def __init__(self, path: str = "weights/vae.ckpt") -> None:
        self.path = Path(path)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if not isinstance(pl_module, VAE):
            raise TypeError(f"ExportVAE exports a VAE, not {type(pl_module).__name__}")
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        vae = VAE.load(best).to(pl_module.device) if best else pl_module
        provenance = fit_record(trainer)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, BackgroundErrors):
            vae.fit_prior(data.training_in_order())
            provenance["data"] = {
                "source": data.source.description,
                "forecaster": str(getattr(data.forecaster, "description", type(data.forecaster).__name__)),
                "period": f"{data.start} to {data.end}",
                "samples": len(data.training),
            }
        vae.save_weights(self.path, provenance)
