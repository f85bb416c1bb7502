"""A step of an ONNX forecaster on torch tensors in place, compared with the same model on host arrays.

    python -m vaevar.standins.forecaster
    python benchmarks/forecaster.py --device cuda

The plain way is that of published scripts: normalise with numpy, let the session copy arrays in and out, undo
the normalisation, and copy the result to the device. Both ways run the same file with the same number of
threads, from states on the device to a forecast on the device, and must agree. Ratios are within one run.
`--model`, `--mean` and `--std` name FengWu's own files.
"""

from __future__ import annotations

import statistics
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
import torch
from measuring import (
    Timer,
    bandwidth_gb_per_s,
    device_peak_gb,
    forget_peak,
    machine,
    peak_gb,
    try_results,
    write_results,
)
from torch import Tensor

from vaevar.errors import UserError
from vaevar.models.forecaster.fengwu import OnnxForecaster
from vaevar.scripts import run
from vaevar.standins.weather import SyntheticWeather

TIMES = np.datetime64("2020-01-01T00", "h") + np.timedelta64(6, "h") * np.arange(2)


class PlainForecaster:
    """Runs a model through arrays in host memory, as published code does.

    Args:
        model, mean, std: files of the forecaster.
        device: of states and forecasts.
    """

    def __init__(self, model: str, mean: str, std: str, device: str) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
        self.session = ort.InferenceSession(model, options, providers=[provider])
        self.mean, self.std = (np.load(path).astype(np.float32)[:, None, None] for path in (mean, std))
        self.device = device

    def step(self, states: Tensor) -> Tensor:
        """[1, 2, C, H, W] -> [1, C, H, W], physical units."""
        normalised = (states.cpu().numpy() - self.mean) / self.std
        (output,) = self.session.run(None, {"input": normalised.reshape(1, -1, *normalised.shape[-2:])})
        return torch.from_numpy(output[:, : len(self.mean)] * self.std + self.mean).to(self.device)


def main(
    model: str = "data/full_size/forecaster.onnx",
    mean: str = "data/full_size/forecaster_mean.npy",
    std: str = "data/full_size/forecaster_std.npy",
    device: Literal["cpu", "cuda"] = "cpu",
    steps: int = 5,
    json_path: str | None = None,
) -> None:
    """Print the seconds of a step both ways, and their ratio.

    Args:
        model: the forecaster's file.
        mean: of each channel.
        std: of each channel.
        device: cpu or cuda.
        steps: number of timed steps, after a warm-up step; the result is their median.
        json_path: of the results.
    """
    try_results(json_path)
    ours = OnnxForecaster(model, mean, std, device=device)
    weather = SyntheticWeather(ours.spec, ours.grid)
    states = torch.from_numpy(np.stack([weather.state(time) for time in TIMES]))[None].to(device)
    forecast, bound = _timed(ours, states, steps, device)
    memory = {"peak_gb": peak_gb(), "torch_device_peak_gb": device_peak_gb(device)}
    expected, plain = _timed(PlainForecaster(model, mean, std, device), states, steps, device)
    spread = torch.from_numpy(np.load(std)).float()[:, None, None].to(device)
    difference = float(((forecast - expected) / spread).abs().max())
    # The lower limit: read the states once, write the forecast once.
    least = (states.nbytes + forecast.nbytes) / 1e9 / bandwidth_gb_per_s(device)
    result = {
        "model": model,
        "points": list(ours.grid.shape),
        **bound,
        **{f"plain_{name}": value for name, value in plain.items()},
        "largest_difference_in_std": difference,
        "seconds_to_read_and_write": least,
        **memory,
        **machine(device),
    }
    print(
        f"{' × '.join(map(str, ours.grid.shape))} points: {bound['seconds']:.3g} s a step bound in place, "
        f"{plain['seconds']:.3g} s through host arrays: {plain['busy_seconds'] / bound['busy_seconds']:.2f} "
        f"times faster, largest difference {difference:.1g} std\nthe limit is the model itself and memory "
        f"bandwidth: reading states and writing the forecast once takes {least / bound['busy_seconds']:.0%}"
    )
    write_results(json_path, result)
    if not difference < 1e-3:
        raise UserError(f"{model}: the two ways differ by {difference:g} std; one of them is wrong")


def _timed(forecaster: Any, states: Tensor, steps: int, device: str) -> tuple[Tensor, dict[str, float]]:
    """A forecast, and the median seconds of a step."""
    forecast = forecaster.step(states)
    forget_peak(device)
    timers = []
    for _ in range(steps):
        with Timer(device) as timer:
            forecaster.step(states)
        timers.append(timer)
    return forecast, {
        name: statistics.median(getattr(timer, name) for timer in timers)
        for name in ("seconds", "busy_seconds")
    }


if __name__ == "__main__":
    run(main)
