"""A tiny world from Python: truth, forecaster, a method and observations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vaevar
from tests.end_to_end.conftest import SPEC, START, STEP
from tests.end_to_end.conftest import world as world  # the fixture


@dataclass
class Tiny:
    """What the examples of the docstrings are about."""

    store: Any
    forecaster: Any
    path: Path
    climatology: np.ndarray

    @property
    def first(self) -> np.datetime64:
        return START + 9 * STEP

    @property
    def times(self) -> np.ndarray:
        return self.first + STEP * np.arange(5)

    def data(self, analyses: int = 5, **settings: Any) -> Any:
        arguments: dict[str, Any] = {
            "source": vaevar.StoreSource(str(self.path)),
            "start": str(self.first),
            "analyses": analyses,
            "network": vaevar.ColumnNetwork(count=20),
            "climatology": self.climatology,
            "spec": vaevar.StateSpec(**SPEC),
            "lead_hours": 12,
        }
        return vaevar.AnalysisTimes(**arguments | settings)

    def observe(self, time: np.datetime64) -> Any:
        errors = vaevar.ObservationErrors().with_climatology(self.store.spec, self.climatology)
        return vaevar.simulate(self.store.state(time), vaevar.ColumnNetwork(count=20), errors, time, seed=0)


@pytest.fixture
def tiny(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """In an empty directory."""
    monkeypatch.chdir(tmp_path)
    spec = vaevar.StateSpec(**SPEC)
    store = vaevar.WeatherStore(world / "truth.zarr", spec)

    def fading(states: Any) -> Any:
        now = states[:, -1]
        return now + 0.1 * (now.mean((-2, -1), keepdim=True) - now)

    forecaster = vaevar.Forecaster.from_function(fading, spec, store.grid, history=2)
    climatology = np.load(world / "climatological_std.npy")
    return Tiny(store, forecaster, world / "truth.zarr", climatology)


@pytest.fixture
def oi() -> Any:
    return vaevar.OptimalInterpolation(length_km=1500.0)


def weather() -> Any:
    """A state whose winds follow its geopotential."""
    grid = vaevar.Grid.gaussian(32)
    spec = vaevar.StateSpec([], ["z", "u", "v"], [300, 500, 850])
    latitude, longitude = np.meshgrid(np.radians(grid.latitude), np.radians(grid.longitude), indexing="ij")
    wave = 600.0 * np.cos(latitude) ** 2 * np.cos(4 * longitude + latitude)
    z = np.array([90e3, 55e3, 15e3])[:, None, None] - 4000.0 * np.sin(latitude) ** 2 + wave
    f = 1.4584e-4 * np.sin(latitude)
    f = np.where(np.abs(f) > 3e-5, f, np.copysign(3e-5, f))
    east = -np.gradient(z, latitude[:, 0], axis=1) / 6.371e6 / f
    north = np.gradient(z, longitude[0], axis=2) / 6.371e6 / np.cos(latitude) / f
    return vaevar.State(torch.from_numpy(np.concatenate([z, east, north])), spec, grid)
