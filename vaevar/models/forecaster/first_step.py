"""What the first step of a model shows: whether its files, its states and its output belong together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

# Limits on a channel's normalised states, over the sphere. In the embedded world with its own files the mean
# stays within 1.6 and the std below 1.7; with the files of another climate, within 2 and below 4.5. A t2m in
# degrees Celsius has a mean of −13, an msl in hPa of −75. A small std is no fault: that of q50 is small.
MEAN_LIMIT, STD_LIMIT = 6.0, 10.0
ROWS_CHECKED, CHANNELS_NAMED = 90, 4
LEAST_CORRELATION, LARGEST_GROWTH = 0.5, 5.0


def check_normalised_range(states: Tensor, spec: StateSpec, grid: Grid, files: str) -> None:
    """Check that states and normalisation files belong together.

    FengWu v1 (ERA5) and v2 (operational analyses) each have a mean and a std file, of the same shape. Files
    with other variables, order or units, and states in other units, show in the normalised states. Two sets
    of files that differ by less than the weather varies cannot be told apart. The check uses every n-th row
    and column, about ``ROWS_CHECKED`` rows, so that it costs almost nothing.

    Args:
        states: [..., C, H, W], normalised. Values that are not finite are ignored.
        spec: the C channels.
        grid: the H × W points.
        files: names of the mean and std files, for the message.

    Raises:
        UserError: when a channel's mean over the sphere is beyond ``MEAN_LIMIT``, or its std about that mean
            beyond ``STD_LIMIT``; it names the worst channels.
    """
    stride = max(1, grid.shape[0] // ROWS_CHECKED)
    sampled = states[..., ::stride, ::stride].flatten(0, -4).double()
    weight = grid.area_weights[::stride, None].to(sampled)
    weight = weight / (weight.mean() * sampled.shape[0])
    mean = (sampled * weight).mean((-2, -1)).sum(0)
    std = ((sampled - mean[:, None, None]).square() * weight).mean((-2, -1)).sum(0).sqrt()
    excess = torch.maximum(mean.abs() / MEAN_LIMIT, std / STD_LIMIT).nan_to_num(0.0).tolist()
    wrong = sorted((i for i, value in enumerate(excess) if value > 1), key=lambda i: -excess[i])
    if wrong:
        named = wrong[:CHANNELS_NAMED]
        shown = ", ".join(f"{spec.names[i]} (mean {mean[i]:.3g}, std {std[i]:.3g})" for i in named)
        rest = f" and {len(wrong) - len(named)} more channels" if len(wrong) > len(named) else ""
        raise UserError(
            f"{files}: they normalise the first states to {shown}{rest}, expected means within "
            f"±{MEAN_LIMIT:g} and stds below {STD_LIMIT:g}; use the files that belong to this model "
            "(FengWu's v1 with v1, v2 with v2), and a store in WeatherBench 2's units"
        )


def check_follows(output: Tensor, states: Tensor, grid: Grid, model: str) -> None:
    """Check that a model's output is the next state: it resembles the state before it.

    The change from one state to the next does not, nor does a state with another order of channels. A
    forecast of 6 h of the real atmosphere, in these units, has a correlation with its start above 0.8.

    Args:
        output: [B, C, H, W], normalised. One that is not finite is not judged here.
        states: [B, C, H, W], normalised, which the model started from.
        grid: the H × W points.
        model: the name of its file, for the message.

    Raises:
        UserError: when their correlation, over all channels and points, is below ``LEAST_CORRELATION``,
            or the output is more than ``LARGEST_GROWTH`` times as large.
    """
    stride = max(1, grid.shape[0] // ROWS_CHECKED)
    weight = grid.area_weights[::stride, None].to(output.device)
    after, before = (fields[..., ::stride, ::stride].double() for fields in (output, states))
    size_after, size_before = ((fields.square() * weight).sum().sqrt() for fields in (after, before))
    correlation = float((after * before * weight).sum() / (size_after * size_before))
    growth = float(size_after / size_before)
    # Of states without any departure, or of no numbers, there is nothing to compare.
    if correlation < LEAST_CORRELATION or LARGEST_GROWTH < growth < math.inf:
        raise UserError(
            f"{model}: its first output has {growth:.2g} times the size of the state it started from and a "
            f"correlation of {correlation:.2g} with it, expected at most {LARGEST_GROWTH:g} and at least "
            f"{LEAST_CORRELATION:g}: it seems to be a change, in physical units, or of channels in another "
            "order; export a model whose output is the next state, normalised"
        )
