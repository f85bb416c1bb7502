"""Writes a network as an ONNX forecaster with FengWu's contract, on request or when a fit ends."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import ClassVar

import lightning as L
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from vaevar.errors import UserError
from vaevar.files import replacing, require_writable, save_array, save_text
from vaevar.models.forecaster.fengwu import METADATA_KEY
from vaevar.models.forecaster.training import ForecasterModule
from vaevar.models.training.checkpoint import write_weights
from vaevar.models.training.shared_weights import shared_with
from vaevar.provenance import fit_record
from vaevar.runs.aside import keeping
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


class ExportForecaster(L.Callback):
    """Writes the forecaster when a fit ends: ``<path>``, ``<stem>_mean.npy``, ``<stem>_std.npy``,
    ``<stem>.json``, and ``<stem>.ckpt``, the network with its gradient
    (:class:`~vaevar.models.forecaster.learned.LearnedForecaster`), whose weights are those of the ONNX file.

    Args:
        path: the ONNX file, such as ``weights/forecaster.onnx``.
    """

    outputs: ClassVar = ("path",)

    def __init__(self, path: str = "weights/forecaster.onnx") -> None:
        self.path = Path(path)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check before the fit that the forecaster can be exported after it.

        Raises:
            UserError: when the module is no forecaster, or the file cannot be written.
        """
        if not isinstance(pl_module, ForecasterModule):
            raise UserError(f"ExportForecaster exports a ForecasterModule, not a {type(pl_module).__name__}")
        if trainer.is_global_zero and stage == "fit":
            require_writable(self.path)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not (trainer.is_global_zero and isinstance(pl_module, ForecasterModule)):
            return
        record = fit_record(trainer)
        record["validation"] = record.pop("scores")
        if getattr(trainer, "fast_dev_run", False):
            print(f"{self.path}: not written, since `fast_dev_run` trains nothing")
            return
        ends = ("_mean.npy", "_std.npy", ".json", ".ckpt")
        beside = [self.path.with_name(f"{self.path.stem}{end}") for end in ends]
        with keeping(self.path, *beside):
            export_forecaster(pl_module, self.path, record)
        if "unfinished" in record:
            print(f"{self.path}: a fit that is not finished ({record['unfinished']}); give it more time")


def export_forecaster(module: ForecasterModule, path: Path, provenance: dict[str, object]) -> None:
    """Export a trained module.

    Args:
        module: the module; its network is moved to the CPU and to evaluation mode.
        path: the ONNX file; ``<stem>_mean.npy``, ``<stem>_std.npy``, ``<stem>.json`` and ``<stem>.ckpt`` go
            beside it.
        provenance: plain values (command, scores) for the JSON file.
    """
    network = module.network.cpu().float().eval()
    export(network, path, module.spec, module.grid)
    save_array(path.with_name(f"{path.stem}_mean.npy"), module.mean.cpu().numpy())
    save_array(path.with_name(f"{path.stem}_std.npy"), module.std.cpu().numpy())
    content = {"parameters": sum(p.numel() for p in network.parameters())} | provenance
    save_text(path.with_suffix(".json"), json.dumps(content, indent=2) + "\n")
    shared = shared_with(path, module.state_dict())
    write_weights(path.with_suffix(".ckpt"), module, module.weights_format, provenance, shared=shared)


TOLERANCE = 1e-4  # of a standard deviation, between torch and ONNX Runtime


class _Contract(nn.Module):
    """A network with FengWu's number of output channels.

    FengWu's last C outputs are a log-variance; they are zeros for a network that forecasts only the state.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, states: Tensor) -> Tensor:
        """[B, 2C, H, W] -> [B, 2C, H, W], normalised."""
        forecast: Tensor = self.network(states)
        if forecast.shape[1] == states.shape[1]:
            return forecast
        return torch.cat([forecast, torch.zeros_like(forecast)], dim=1)


def export(
    network: nn.Module,
    path: str | Path,
    spec: StateSpec,
    grid: Grid,
    step_hours: int = 6,
    metadata: bool = True,
) -> Path:
    """Write ``network`` to an ``.onnx`` file that :class:`~vaevar.models.forecaster.fengwu.OnnxForecaster`
    opens.

    The file takes any batch size. It appears at ``path`` only after ONNX Runtime has reproduced the network's
    output with it.

    Args:
        network: from normalised [B, 2C, H, W] (t − 6 h, then t) to normalised [B, C or 2C, H, W], whose first
            C channels are t + 6 h. The network itself is not changed.
        path: the file to write.
        spec: the C channels.
        grid: the H × W points.
        step_hours: the time step.
        metadata: store channels, grid and time step in the file; FengWu's own file lacks them.

    Returns:
        ``path``.

    Raises:
        ValueError: when the network's output has the wrong shape, or ONNX Runtime's output differs from it by
            more than ``TOLERANCE``.
    """
    path = Path(path)
    copied = _Contract(copy.deepcopy(network)).cpu().float().eval()
    # Two batch sizes: a trace that froze its batch size fails with the other.
    generator = torch.Generator().manual_seed(0)
    traced, checked = (torch.randn(b, 2 * len(spec), *grid.shape, generator=generator) for b in (2, 1))
    with torch.no_grad():
        expected = copied(checked)
    if expected.shape != checked.shape:
        raise ValueError(
            f"the network's output is {tuple(expected.shape)} (zeros appended) for {tuple(checked.shape)}; "
            "expected the same shape, or half the channels"
        )
    with replacing(path) as partial:
        with warnings.catch_warnings():
            # This exporter needs no further package, but warns that it is old, and about what it traces.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                copied,
                (traced,),
                str(partial),
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
                opset_version=17,
                dynamo=False,
            )
        if metadata:
            _embed_metadata(partial, spec, grid, step_hours)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        session = ort.InferenceSession(str(partial), options, providers=["CPUExecutionProvider"])
        (output,) = session.run(None, {"input": checked.numpy()})
        difference = float((torch.from_numpy(output) - expected).abs().max())
        if not difference <= TOLERANCE:
            raise ValueError(f"ONNX Runtime and torch differ by {difference:.2g}, more than {TOLERANCE:g}")
    return path


def _embed_metadata(path: Path, spec: StateSpec, grid: Grid, step_hours: int) -> None:
    model = onnx.load(str(path))
    metadata = {
        "channels": spec.names,
        "step_hours": step_hours,
        "latitude": grid.latitude.tolist(),
        "longitude": grid.longitude.tolist(),
    }
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
    onnx.save(model, str(path))
