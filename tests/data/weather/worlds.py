"""A small world in the layout of WeatherBench 2, which tests lay out anew or spoil."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import VARIABLES, StateSpec

SPEC = StateSpec(surface=("msl", "t2m"), upper=("z", "t"), levels=(200, 500, 850))
GRID = Grid.gaussian(4)
TIMES = np.datetime64("2020-02-28T18", "h") + np.arange(5) * np.timedelta64(6, "h")
CENTRES = {
    "msl": 101_000.0, "t2m": 280.0, "z200": 115_000.0, "z500": 54_000.0, "z850": 14_200.0,
    "t200": 218.0, "t500": 250.0, "t850": 260.0,
}  # fmt: skip


def truth() -> np.ndarray:
    """[T, C, H, W]: all numbers different, and in range."""
    count = TIMES.size * len(SPEC) * GRID.shape[0] * GRID.shape[1]
    pattern = np.arange(count, dtype=np.float32).reshape(TIMES.size, len(SPEC), *GRID.shape) / 128
    centres = np.array([CENTRES[name] for name in SPEC.names])
    return pattern + centres.astype(np.float32)[:, None, None]


def dataset(level_dtype: str = "int64") -> xr.Dataset:
    """The world in the layout of WeatherBench 2's ERA5."""
    values, data = truth(), {}
    for name in (*SPEC.surface, *SPEC.upper):
        fields = values[:, SPEC.variable_slice(name)]
        dims = (
            ("time", "level", "latitude", "longitude")
            if name in SPEC.upper
            else ("time", "latitude", "longitude")
        )
        data[VARIABLES[name].long_name] = (
            dims,
            fields if name in SPEC.upper else fields[:, 0],
            {"units": VARIABLES[name].units},
        )
    coords = {
        "time": TIMES.astype("datetime64[ns]"),
        "level": np.array(SPEC.levels, dtype=level_dtype),
        "latitude": GRID.latitude.astype(np.float32),
        "longitude": GRID.longitude.astype(np.float32),
    }
    return xr.Dataset(data, coords=coords)


def write(ds: xr.Dataset, path: Path, **options) -> Path:
    ds.to_zarr(path, **({"zarr_format": 2, "consolidated": True} | options))
    return path


def message_of(call: Callable[[], object], path: Path) -> str:
    """The message of the UserError: one line that begins with the path."""
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text
