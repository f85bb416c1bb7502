"""Whether states and normalisation files belong together: a network is fed values of the size it learned.

FengWu v1 (ERA5) and v2 (operational analyses) have a mean and a std file each, of the same shape. Files of
another variable, order or unit, and states in other units, show in the normalised states. Two sets of files
that differ by less than the weather does cannot be told apart here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

# Of a channel's normalised states, over the sphere. In the embedded world with its own files the mean stays
# within 1.6 and the std below 1.7; with those of a climate that is not its own, within 2 and below 4.5. A t2m
# in degrees Celsius has a mean of −13, an msl in hPa of −75. A small std is no fault: a state of q50 has one.
MEAN_LIMIT, STD_LIMIT = 6.0, 10.0
ROWS, SHOWN = 90, 4


def check_normalised_range(states: Tensor, spec: StateSpec, grid: Grid, files: str) -> None:
    """Refuse normalised states that no weather can be.

    Every n-th row and column is looked at, so that about ``ROWS`` rows are: it costs next to nothing.

    Args:
        states: [..., C, H, W], normalised. Values that are not finite are not judged.
        spec: the C channels.
        grid: the H × W points.
        files: the names of the mean and std files, for the message.

    Raises:
        UserError: when a channel's mean over the sphere is beyond ``MEAN_LIMIT``, or its std about that mean
            beyond ``STD_LIMIT``; it names the worst channels.
    """
    step = max(1, grid.shape[0] // ROWS)
    some = states[..., ::step, ::step].flatten(0, -4).double()
    weight = grid.area_weights[::step, None].to(some)
    weight = weight / (weight.mean() * some.shape[0])
    mean = (some * weight).mean((-2, -1)).sum(0)
    std = ((some - mean[:, None, None]).square() * weight).mean((-2, -1)).sum(0).sqrt()
    excess = torch.maximum(mean.abs() / MEAN_LIMIT, std / STD_LIMIT).nan_to_num(0.0).tolist()
    wrong = sorted((i for i, value in enumerate(excess) if value > 1), key=lambda i: -excess[i])
    if wrong:
        shown = ", ".join(f"{spec.names[i]} (mean {mean[i]:.3g}, std {std[i]:.3g})" for i in wrong[:SHOWN])
        rest = f" and {len(wrong) - SHOWN} more channels" if len(wrong) > SHOWN else ""
        raise UserError(
            f"{files}: they normalise the first states to {shown}{rest}, expected means within "
            f"±{MEAN_LIMIT:g} and stds below {STD_LIMIT:g}: use the files that belong to this model "
            "(FengWu's v1 with v1, v2 with v2), and a store in WeatherBench 2's units"
        )
