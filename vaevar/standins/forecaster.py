"""A forecaster with FengWu's contract and size but no skill, for tests and timings without FengWu.

    python -m vaevar.standins.forecaster --path data/full_size/forecaster.onnx

It advects departures from the zonal mean eastward, smooths them slightly and damps them. Like FengWu's own
file, it does not state its channels and grid. ``forecaster: DriftForecaster`` is the same in torch, with a
gradient, and needs no file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.errors import UserError
from vaevar.files import require_writable, save_array
from vaevar.models.forecaster.export import export
from vaevar.models.forecaster.gradient import NetworkForecaster, beside
from vaevar.runs.aside import keeping
from vaevar.scripts import run
from vaevar.sphere.grid import Grid
from vaevar.standins.climate import typical_climate
from vaevar.state import StateSpec
from vaevar.state.normalizer import Normalizer


class Drift(nn.Module):
    """[B, 2C, H, W] normalised, t − 6 h and t -> [B, C, H, W], t + 6 h.

    All values stay within the range on their circle of latitude, so that roll-outs are bounded.

    Args:
        channels, columns: C and W.
        degrees: eastward shift per step, interpolated between columns.
        fading: fraction of the departures from the zonal mean lost per step.
    """

    weight: Tensor

    def __init__(self, channels: int, columns: int, degrees: float = 2.5, fading: float = 0.02) -> None:
        super().__init__()
        whole, part = divmod(degrees * columns / 360.0, 1.0)
        self.channels, self.columns = channels, columns
        self.shift, self.fading = int(whole), fading
        # Smooth over three columns, then shift by a fraction of a column; the farthest upstream comes first.
        taps = np.convolve([part, 1 - part], [0.25, 0.5, 0.25]) * (1 - fading)
        self.register_buffer("weight", torch.from_numpy(taps).float().expand(channels, 1, 1, -1).clone())

    def forward(self, states: Tensor) -> Tensor:
        now = states[:, self.channels :]
        # Periodic padding: the eastern end first, and one more point if the shift is less than a column.
        parts = [now[..., -(self.shift + 2) :], now] + [now[..., :1]] * (self.shift == 0)
        shifted = nn.functional.conv2d(torch.cat(parts, -1), self.weight, groups=self.channels)
        return shifted[..., : self.columns] + self.fading * now.mean(-1, keepdim=True)


class DriftForecaster(NetworkForecaster):
    """:class:`Drift` as a forecaster with a gradient, in FengWu's 69 channels; it needs no file.

    Args:
        rows, columns: of the grid, with both poles.
        checkpointing: keep only the states of a trajectory for its gradient, and make each step again on the
            way back.

    Raises:
        UserError: for an impossible grid.
    """

    step_hours = 6

    def __init__(self, rows: int = 721, columns: int = 1440, checkpointing: bool = False) -> None:
        self.spec, self.grid = StateSpec(), _equiangular(rows, columns)
        self.checkpointing = checkpointing
        self.normalizer = Normalizer(*typical_climate(self.spec))
        self.network = Drift(len(self.spec), columns)

    def following(self, normalised: Tensor) -> Tensor:
        following: Tensor = beside(self.network, normalised)(normalised)
        return following


def _equiangular(rows: int, columns: int) -> Grid:
    if columns < 1:
        raise UserError(f"forecaster: {columns} columns are impossible: give one or more, such as 1440")
    try:
        return Grid.equiangular(rows, columns)
    except ValueError as error:
        raise UserError(f"forecaster: {rows} × {columns} points are impossible: {error}") from None


def write(path: str = "data/full_size/forecaster.onnx", rows: int = 721, columns: int = 1440) -> None:
    """Write the ONNX file, and ``<stem>_mean.npy`` and ``<stem>_std.npy`` beside it.

    Args:
        path: the file to write.
        rows: number of latitudes, both poles included.
        columns: number of longitudes.

    Raises:
        UserError: for an impossible grid.
    """
    spec, target = StateSpec(), Path(path)
    grid = _equiangular(rows, columns)
    require_writable(target)
    # A real forecaster may lie there.
    beside = [target.with_name(f"{target.stem}_{name}.npy") for name in ("mean", "std")]
    with keeping(target, *beside):
        export(Drift(len(spec), columns), target, spec, grid, metadata=False)
        for name, values in zip(("mean", "std"), typical_climate(spec), strict=True):
            save_array(target.with_name(f"{target.stem}_{name}.npy"), values)
    print(f"wrote {target}, {target.stem}_mean.npy and {target.stem}_std.npy")


if __name__ == "__main__":
    with torch.no_grad():
        run(write)
