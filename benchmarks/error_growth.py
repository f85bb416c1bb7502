"""The two parts of a cycle's background errors: errors carried over, and the forecaster's own.

    python benchmarks/error_growth.py

From consecutive backgrounds x_b of a recorded cycle (configs/cycle_errors.yaml) and the truth x_t, for one
step of the forecaster M from both states of its history, without an analysis:

    M(x_b) − truth  =  [M(x_b) − M(x_t)]  +  [M(x_t) − truth]
                        carried over          the forecaster's own

Sizes are root mean squares over the sphere and all channels, relative to the climatological std. Samples are
grouped into quarters by the size of their error. The forecaster's own part is new at each step: no earlier
background or increment contains it.
"""

from __future__ import annotations

import numpy as np
import torch

from vaevar.data.samples.store import SampleStore
from vaevar.data.weather.climatology import load_climatological_std
from vaevar.forecast import Forecaster
from vaevar.models.forecaster.fengwu import OnnxForecaster
from vaevar.scripts import run
from vaevar.state import StateSpec
from vaevar.verification.tables import markdown_table


def main(
    path: str = "data/cycle_errors.zarr",
    model: str = "weights/forecaster.onnx",
    mean: str = "weights/forecaster_mean.npy",
    std: str = "weights/forecaster_std.npy",
    climatology: str = "weights/climatological_std.npy",
    every: int = 7,
) -> None:
    """Print a table with a row for each quarter of the samples.

    Args:
        path: a store of a cycle's errors.
        model, mean, std: of the cycle's forecaster.
        climatology: std of each channel.
        every: use one sample in ``every``.
    """
    spec, store = StateSpec(), SampleStore(path, ("background", "error", "coverage"))
    forecaster = OnnxForecaster(model, mean, std)
    scale = torch.as_tensor(load_climatological_std(climatology, spec)).float()[:, None, None]
    before = forecaster.history
    step = np.timedelta64(forecaster.step_hours, "h")
    rows = []
    for number in range(before, len(store), every):
        times = store.times[number - before : number + 1]
        stored = store.__getitems__(list(range(number - before, number + 1)))
        backgrounds, errors = store.decode("background", stored[0]), store.decode("error", stored[1])
        coverage = stored[2]
        # A cycle that restarted in between has no coverage at its beginning.
        if (np.diff(times) == step).all() and bool((coverage[1:].amax((1, 2, 3)) > 0).all()):
            rows.append(sizes(forecaster, backgrounds, backgrounds + errors, scale))
    table = np.array(rows)
    table = table[np.argsort(table[:, 0])]
    print(f"{path}: {len(table)} steps of {forecaster.step_hours} h")
    head = ["background error before", "carried over", "the forecaster's own", "correlation", "error after"]
    quarters = [[f"{value:.4f}" for value in part.mean(0)] for part in np.array_split(table, 4)]
    print(markdown_table(head, quarters, align="rrrrr"))


def sizes(
    forecaster: Forecaster, backgrounds: torch.Tensor, truth: torch.Tensor, scale: torch.Tensor
) -> list[float]:
    """Sizes of the error before a step, of the part carried over and of the forecaster's own; the correlation
    of these parts; and the size of the error after the step.

    Args:
        forecaster: M.
        backgrounds, truth: [history + 1, C, H, W].
        scale: [C, 1, 1], climatological std.
    """
    past = torch.stack([backgrounds[:-1], truth[:-1]])
    from_background, from_truth = forecaster.step(past) / scale
    now, ago = truth[-1] / scale, (backgrounds[-2] - truth[-2]) / scale
    carried, own = from_background - from_truth, from_truth - now

    def product(one: torch.Tensor, other: torch.Tensor) -> float:
        return float(forecaster.grid.area_mean(one * other).mean())

    def size(field: torch.Tensor) -> float:
        return product(field, field) ** 0.5

    together = product(carried, own) / (size(carried) * size(own))
    return [size(ago), size(carried), size(own), together, size(from_background - now)]


if __name__ == "__main__":
    run(main)
