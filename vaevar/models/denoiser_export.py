"""After a fit: the best denoiser as a slim checkpoint, with what it was made of."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from vaevar.data.forecast_pairs import ForecastPairs
from vaevar.models.denoiser import Denoiser
from vaevar.provenance import fit_record


class ExportDenoiser(L.Callback):
    """Writes the weights of the fit's best checkpoint (else its last state) to ``path``.

    Args:
        path: the slim checkpoint, such as ``weights/diffda_48h.ckpt``.
    """

    def __init__(self, path: str = "weights/diffda_48h.ckpt") -> None:
        self.path = Path(path)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if not isinstance(pl_module, Denoiser):
            raise TypeError(f"ExportDenoiser exports a Denoiser, not {type(pl_module).__name__}")
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        denoiser = Denoiser.load(best) if best else pl_module
        provenance = fit_record(trainer)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, ForecastPairs):
            provenance["data"] = {**data.recipe, "lead_hours": data.lead_hours, "samples": len(data.training)}
        denoiser.save_weights(self.path, provenance)
