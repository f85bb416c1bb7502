"""The embedded world on the GPU. Without one, every test here is skipped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vaevar

TIME = np.datetime64("2022-01-04T06", "h")
STEP = np.timedelta64(6, "h")
TRUTH = Path("weights/speedy/quick.zarr.zip")


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The first GPU."""
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU with CUDA")
    return torch.device("cuda", 0)


@dataclass
class Day:
    """A background that is a day old, and what is observed meanwhile.

    Attributes:
        store: the truth.
        start: [2, C, H, W], the states of which the last is the background.
        observations: of four times, from that of the background on.
        std: [C, 1, 1], of the climate.
    """

    store: Any
    start: torch.Tensor
    observations: list[Any]
    std: torch.Tensor

    @property
    def background(self) -> Any:
        return vaevar.State(self.start[-1], self.store.spec, self.store.grid)

    def background_on(self, device: torch.device) -> Any:
        return replace(self.background, values=self.start[-1].to(device))

    def size(self, fields: torch.Tensor) -> float:
        """Root mean square in standard deviations."""
        return float((fields.cpu().double() / self.std).square().mean().sqrt())


@pytest.fixture(scope="session")
def day(gpu: torch.device) -> Day:
    if not TRUTH.is_file():
        pytest.skip(f"{TRUTH} is not there")
    store = vaevar.StoreSource(str(TRUTH)).open(vaevar.StateSpec())
    forecaster = vaevar.pretrained("forecaster_torch")
    start = forecaster.stacked(forecaster.forecast(store, hours=24, time=TIME - 4 * STEP))
    climatology = vaevar.pretrained("climatological_std")
    errors = vaevar.ObservationErrors().with_climatology(store.spec, climatology)
    network = vaevar.ColumnNetwork(count=250)
    times = TIME + STEP * np.arange(4)
    observations = [
        vaevar.simulate(store.state(time), network, errors, time, seed=number)
        for number, time in enumerate(times)
    ]
    std = torch.from_numpy(np.asarray(climatology, dtype=np.float64))[:, None, None]
    return Day(store, start, observations, std)
