"""Write a network as an ONNX forecaster of FengWu's contract."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path

import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from vaevar.models.onnx import METADATA_KEY
from vaevar.sphere import Grid
from vaevar.state import StateSpec

TOLERANCE = 1e-4  # of a standard deviation, between torch and ONNX Runtime


class _Contract(nn.Module):
    """A network with FengWu's number of output channels.

    FengWu's last C are a log-variance; a network that forecasts the state alone gets zeros.
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
    """Write ``network`` to an ``.onnx`` file that :class:`~vaevar.models.onnx.OnnxForecaster` opens.

    The file takes any batch size, and says in its metadata which channels, grid and time step it
    has. It appears at ``path`` only after ONNX Runtime gave the network's own output from it.

    Args:
        network: normalised [B, 2C, H, W] (t − 6 h, then t) to normalised [B, C or 2C, H, W] of
            which the first C are t + 6 h. A plain module; it is copied, and left as it was.
        path: the file to write.
        spec: the C channels.
        grid: the H × W points.
        step_hours: the time step.
        metadata: say in the file which channels, grid and time step it has; FengWu's own does not.

    Returns:
        ``path``.

    Raises:
        ValueError: when the network's output has another shape, or ONNX Runtime's output differs
            from it by more than ``TOLERANCE``.
    """
    path = Path(path)
    copied = _Contract(copy.deepcopy(network)).cpu().float().eval()
    # Two batch sizes: a trace that froze the one it saw fails on the other.
    generator = torch.Generator().manual_seed(0)
    traced, checked = (torch.randn(b, 2 * len(spec), *grid.shape, generator=generator) for b in (2, 1))
    with torch.no_grad():
        expected = copied(checked)
    if expected.shape != checked.shape:
        raise ValueError(
            f"the network makes {tuple(expected.shape)} (zeros appended) from {tuple(checked.shape)}; "
            "expected the same shape, or half the channels"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with warnings.catch_warnings():
            # The exporter that needs no further package announces its own old age and what it traces.
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
        (made,) = session.run(None, {"input": checked.numpy()})
        difference = float((torch.from_numpy(made) - expected).abs().max())
        if not difference <= TOLERANCE:
            raise ValueError(f"ONNX Runtime and torch differ by {difference:.2g}, more than {TOLERANCE:g}")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
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
