"""After a fit: the forecaster as an ONNX file of FengWu's contract, with its mean and std files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lightning as L
import numpy as np

from vaevar.models.forecaster import ForecasterModule
from vaevar.models.onnx_export import export


class ExportForecaster(L.Callback):
    """Writes ``<path>``, ``<stem>_mean.npy``, ``<stem>_std.npy`` and ``<stem>.json`` when a fit ends.

    Args:
        path: the ONNX file, such as ``weights/forecaster.onnx``.
    """

    def __init__(self, path: str = "weights/forecaster.onnx") -> None:
        self.path = Path(path)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if not isinstance(pl_module, ForecasterModule):
            raise TypeError(f"ExportForecaster exports a ForecasterModule, not {type(pl_module).__name__}")
        scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
        export_forecaster(pl_module, self.path, {"command": " ".join(sys.argv), "validation": scores})


def export_forecaster(module: ForecasterModule, path: Path, provenance: dict[str, object]) -> None:
    """Export a trained module; ``provenance`` goes beside it as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    network = module.network.cpu().float().eval()
    export(network, path, module.spec, module.grid)
    np.save(path.with_name(f"{path.stem}_mean.npy"), module.mean.cpu().numpy())
    np.save(path.with_name(f"{path.stem}_std.npy"), module.std.cpu().numpy())
    content = {"parameters": sum(p.numel() for p in network.parameters())} | provenance
    path.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n")
