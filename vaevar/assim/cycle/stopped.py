"""An arm that has to stop while the others go on: how that is noticed, and where it is written down."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from vaevar.files import save_text
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec, not_finite

_STOPPED = "stopped.json"


@dataclass(frozen=True)
class Stop:
    """Where an arm had to stop.

    Attributes:
        index: of its last analysis, which is repeated when the run goes on.
        time: of that analysis.
        cause: in one line.
    """

    index: int
    time: str
    cause: str

    def write(self, directory: Path) -> None:
        """Write ``stopped.json`` into the directory of the arm."""
        save_text(directory / _STOPPED, json.dumps(asdict(self), indent=2) + "\n")


def stop_of(directory: Path) -> Stop | None:
    """Where the arm of this directory stopped, if it did."""
    path = directory / _STOPPED
    if not path.is_file():
        return None
    return Stop(**json.loads(path.read_text(encoding="utf-8")))


def forget_stop(directory: Path) -> None:
    """The arm of this directory is tried again."""
    (directory / _STOPPED).unlink(missing_ok=True)


def runaway(values: Tensor, spec: StateSpec, grid: Grid) -> str:
    """Why a forecast cannot be weather: not finite, or far out of range; empty if nothing is wrong.

    Far out of range is a mean beyond the channel's plausible range, or a value beyond that range by more than
    its width.

    Args:
        values: [C, H, W], physical units.
        spec, grid: of the values.
    """
    # Not aminmax, which takes twenty times as long along dimensions.
    low, high = values.amin((-2, -1)).double().cpu(), values.amax((-2, -1)).double().cpu()
    mean = values.mean((-2, -1), dtype=torch.float64).cpu()
    lowest, highest = spec.points
    mean_low, mean_high = spec.means
    width = highest - lowest
    fine = (low >= lowest - width) & (high <= highest + width) & (mean >= mean_low) & (mean <= mean_high)
    if bool(fine.all()):
        try:
            State(values, spec, grid)
        except ValueError as error:  # heights in disorder
            return str(error)
        return ""
    if found := not_finite(values, spec, grid):
        return found
    number = int(fine.int().argmin())
    channel = spec.channels[number]
    return (
        f"{channel.name} runs away: from {low[number]:.4g} to {high[number]:.4g} with mean "
        f"{mean[number]:.4g} {channel.units}; plausible are {lowest[number]:g} to {highest[number]:g}"
    )
