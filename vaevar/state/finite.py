"""Where a field is not finite."""

from __future__ import annotations

import torch
from torch import Tensor

from vaevar.sphere.grid import Grid, place
from vaevar.state.spec import StateSpec


def not_finite(values: Tensor, spec: StateSpec, grid: Grid) -> str:
    """Where values are NaN or infinite, such as ``z500 is NaN at 3 of 512 points, the first at 45° N, 0° E``.

    Args:
        values: [..., C, H, W].
        spec, grid: of the values.

    Returns:
        the first channel and its first point; empty if all are finite.
    """
    fields = values.detach().reshape(-1, *values.shape[-3:])
    wrong = ~torch.isfinite(fields)
    channels = wrong.any(-1).any(-1).any(0)
    if not bool(channels.any()):
        return ""
    number = int(channels.int().argmax())
    sample, row, column = wrong[:, number].nonzero()[0].tolist()
    others = int(channels.sum()) - 1
    value = str(float(fields[sample, number, row, column])).replace("nan", "NaN")
    return (
        f"{spec.names[number]} is {value} at "
        f"{int(wrong[:, number].sum())} of {fields[:, number].numel()} points, the first at "
        f"{place(grid.latitude[row], grid.longitude[column])}"
        f"{f', and {others} more channels are not finite' if others else ''}"
    )
