"""Writes the trained weights and their provenance when a fit ends."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import lightning as L

from vaevar.errors import UserError
from vaevar.files import require_writable
from vaevar.models.training.checkpoint import SavedModule
from vaevar.provenance import fit_record
from vaevar.runs.aside import keeping


class ExportWeights(L.Callback):
    """Writes the weights of the fit's best checkpoint, or of its last state if there is no best one.

    Weights that are replaced are kept beside the new ones (:func:`vaevar.runs.aside.keeping`).

    For the two VAEs and DiffDA's denoiser. If the data module has a ``record``, the provenance of the weights
    includes it.

    Args:
        path: the file, such as ``weights/vae.ckpt``.
    """

    outputs: ClassVar = ("path",)

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check before the fit that the weights can be written after it.

        Raises:
            UserError: when the module cannot save its weights, or the file cannot be written.
        """
        if not isinstance(pl_module, SavedModule):
            raise UserError(f"ExportWeights: a {type(pl_module).__name__} cannot save its weights")
        if trainer.is_global_zero and stage == "fit":
            require_writable(self.path)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not (trainer.is_global_zero and isinstance(pl_module, SavedModule)):
            return
        if getattr(trainer, "fast_dev_run", False):
            print(f"{self.path}: not written, since `fast_dev_run` trains nothing")
            return
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        trained = type(pl_module).load(best).to(pl_module.device) if best else pl_module
        record = fit_record(trainer)
        data = trainer.datamodule  # type: ignore[attr-defined]
        trained.require_finite(self.path)
        if hasattr(data, "record"):
            record["data"] = data.record
        with keeping(self.path):
            trained.save_weights(self.path, record)
        if "unfinished" in record:
            print(f"{self.path}: weights of an unfinished fit ({record['unfinished']}); give it more time")
