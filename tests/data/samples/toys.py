"""A toy world where every number is known: its truth, and a forecaster that is wrong by a known amount."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from vaevar.data.observations.coverage import MAPS
from vaevar.data.samples.layout import SampleWriter, lay_out
from vaevar.data.samples.making import StoreBuilder
from vaevar.data.samples.nmc import NMCDifferences
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SPEC = StateSpec(surface=("u10",), upper=("q", "z"), levels=(500,))
GRID = Grid.gaussian(8)
START = np.datetime64("2020-01-01T00", "h")
END = np.datetime64("2020-01-05T18", "h")
# Per step of 6 h: what the forecaster adds, and what the truth gains, by channel.
ADDED = torch.tensor([0.5, 1e-6, 300.0])[:, None, None]
GAINED = torch.tensor([0.25, 3e-7, 70.0])[:, None, None]
LEVEL = torch.tensor([0.0, 1e-3, 54_000.0])[:, None, None]


class ToyStore:
    """Truth that grows linearly in time, from a pattern that differs from point to point."""

    path, spec, grid = "toy", SPEC, GRID

    def __init__(self, end: np.datetime64) -> None:
        self.times = np.arange(START, end + np.timedelta64(1, "h"), np.timedelta64(6, "h"))
        self.pattern = torch.randn(3, *GRID.shape, generator=torch.Generator().manual_seed(0)) * GAINED
        self.pattern = self.pattern + LEVEL

    def read(self, times: np.ndarray) -> np.ndarray:
        steps = (np.asarray(times) - START) / np.timedelta64(6, "h")
        assert steps.min() >= 0
        assert steps.max() < len(self.times)
        return torch.stack([self.pattern + s * GAINED for s in steps.tolist()]).float().numpy()


class ToySource:
    """The truth from ``START`` to ``end``."""

    description = "a toy"

    def __init__(self, end: np.datetime64) -> None:
        self.end = end

    def prepare(self, start: np.datetime64, end: np.datetime64) -> None:
        assert (start, end) == (START, self.end)

    def open(self, spec: StateSpec) -> Any:
        assert spec == SPEC
        return ToyStore(self.end)


class ToyForecaster:
    """Adds a known constant per step, whatever the truth does.

    Args:
        noise: of a term that depends on the state, so that samples differ from each other.
        factor: of every forecast.
        stop_after: steps after which it is killed.
    """

    history, step_hours, spec, grid = 2, 6, SPEC, GRID

    def __init__(self, noise: float = 0.0, factor: float = 1.0, stop_after: int | None = None) -> None:
        self.noise, self.factor, self.left = noise, factor, stop_after

    def step(self, states: Tensor) -> Tensor:
        if self.left is not None:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        now = states[:, -1]
        return (now + ADDED + self.noise * torch.sin(now / GAINED) * ADDED) * self.factor


def build_nmc(path: Path, forecaster: ToyForecaster, **changes: Any) -> None:
    """Make a store of NMC differences."""
    settings = {"start": START, "end": END, "every_hours": 6, "rollout_batch_size": 3} | changes
    StoreBuilder(path, NMCDifferences(ToySource(END), forecaster, **settings)).make()


def physical_errors(path: Path) -> np.ndarray:
    """The errors of a store at its first lead, [N, C, H, W]."""
    dataset = xr.open_zarr(path, chunks=None)
    return (dataset["error"].astype(np.float64) * dataset["error_scale"]).isel(lead=0).values


def build_cycle(path: Path, count: int = 40) -> None:
    """Write a store as recorded from a cycle; its errors grow from north to south."""
    size = np.array([0.5, 1e-5, 300.0])[:, None, None]
    level = np.array([1.0, 1e-3, 5e4])[:, None, None]
    growth = np.linspace(0.5, 2.0, GRID.shape[0])[:, None]
    times = START + 6 * np.arange(count)
    lay_out(path, ("error", "background", "coverage"), times, [6], SPEC, GRID, {"scheme": "a toy"})
    writer, random = SampleWriter(path, SPEC, GRID), np.random.default_rng(0)
    for number, time in enumerate(times):
        noise = random.normal(size=(2, 3, *GRID.shape))
        fields = {
            "background": (level + size * noise[0])[None],
            "error": (size * growth * noise[1])[None],
            "coverage": random.uniform(size=(MAPS, *GRID.shape)),
        }
        if not writer.scaled:
            writer.set_scales(fields)
        stored = writer.encode(fields, time)
        writer.write(range(number, number + 1), {name: values[None] for name, values in stored.items()})
    writer.finish(writer.sums())
