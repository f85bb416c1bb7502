"""Writes the report of a fit at its end."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from vaevar.errors import first_line
from vaevar.mistakes.notices import notice
from vaevar.models.training.checkpoint import SavedModule
from vaevar.models.training.history import NAME as HISTORY
from vaevar.provenance import unfinished_fit
from vaevar.runs.directory import run_directory
from vaevar.verification.fits.page import write_fit_report
from vaevar.verification.report.page import NAME


class FitReport(L.Callback):
    """Writes ``<run>/report.html`` when a fit ends: losses, and what the model makes of held-out samples.

    Its losses are those that :class:`vaevar.models.training.history.FitHistory` has written; a fit that has
    none, such as a calibration of B, has no report. Pictures are of the best checkpoint, or of the last state
    where none is chosen. A fit is complete without it: where it cannot be written, a line says why.
    """

    def __init__(self) -> None:
        self._directory = Path()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit" and not getattr(trainer, "fast_dev_run", False):
            self._directory = run_directory(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write it, on the first process."""
        directory = self._directory
        unused = getattr(trainer, "fast_dev_run", False) or not (directory / HISTORY).is_file()
        if unused or not trainer.is_global_zero:
            return
        try:
            data = trainer.datamodule  # type: ignore[attr-defined]
            module = _trained(trainer, pl_module)
            write_fit_report(directory, module, data, ended=not unfinished_fit(trainer))
            print(f"Look at all of it in a browser: {directory / NAME}", flush=True)
        except Exception as error:  # hours of a fit must not end in an error of a picture
            notice(
                f"{directory / NAME}: not written ({type(error).__name__}: {first_line(error)}); "
                f"`python -m vaevar.verification.report {directory}` tries again"
            )


def _trained(trainer: L.Trainer, pl_module: L.LightningModule) -> L.LightningModule:
    """The model of the best checkpoint that a score has chosen, on the device of the fit; else as it is."""
    chosen = trainer.checkpoint_callback
    best = chosen.best_model_path if isinstance(chosen, ModelCheckpoint) and chosen.monitor else ""
    module = type(pl_module).load(best) if best and isinstance(pl_module, SavedModule) else pl_module
    # Who has written the weights may have moved a part of the module.
    return module.to(trainer.strategy.root_device)
