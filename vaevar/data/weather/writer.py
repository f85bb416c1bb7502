"""WeatherBench 2 stores, written: laid out whole, then filled state by state.

What is written follows the ERA5 store of WeatherBench 2: dims (time, level, latitude, longitude), one time
per chunk, long names, units and int64 hours.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import dask.array
import numpy as np
import xarray as xr
import zarr

from vaevar.data.weather.store import TIME_UNITS
from vaevar.sphere.grid import Grid
from vaevar.state import VARIABLES, StateSpec


def create_store(
    path: str | Path,
    times: np.ndarray,
    spec: StateSpec,
    grid: Grid,
    attrs: Mapping[str, str],
    lead: np.timedelta64 | None = None,
) -> None:
    """Lay out an empty WeatherBench 2 store; states are filled in by :func:`write_states`.

    Long names, units, int64 hours, one time per chunk; unwritten times read as NaN. The layout
    appears whole or not at all.

    Args:
        path: the zarr store; one that is there is replaced.
        times: [T] datetime64; initial times where a lead is given.
        spec, grid: of the states.
        attrs: attributes of the dataset.
        lead: adds the dimension ``prediction_timedelta`` with this one value.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    coords: dict[str, tuple] = {"time": ("time", times.astype("datetime64[ns]"))}
    outer: tuple[str, ...] = ("time",)
    if lead is not None:
        coords["prediction_timedelta"] = ("prediction_timedelta", [lead.astype("timedelta64[ns]")])
        outer = ("time", "prediction_timedelta")
    if spec.upper:
        coords["level"] = ("level", np.asarray(spec.levels, dtype=np.int64), {"units": "hPa"})
    coords["latitude"] = ("latitude", grid.latitude.astype(np.float32), {"units": "degrees_north"})
    coords["longitude"] = ("longitude", grid.longitude.astype(np.float32), {"units": "degrees_east"})
    data = {}
    encoding: dict[str, dict] = {"time": {"units": TIME_UNITS, "dtype": "int64", "chunks": (len(times),)}}
    if lead is not None:
        encoding["prediction_timedelta"] = {"units": "hours", "dtype": "int64"}
    for name in (*spec.surface, *spec.upper):
        known = VARIABLES[name]
        dims = (*outer, *(("level",) if name in spec.upper else ()), "latitude", "longitude")
        shape = tuple(len(coords[dim][1]) for dim in dims)
        lazy = dask.array.empty(shape, chunks=(1, *shape[1:]), dtype=np.float32)
        data[known.long_name] = xr.DataArray(
            lazy, dims=dims, attrs={"units": known.units, "short_name": name}
        )
        encoding[known.long_name] = {"chunks": (1, *shape[1:]), "_FillValue": np.float32(np.nan)}
    dataset = xr.Dataset(data, coords=coords, attrs=dict(attrs))
    dataset.to_zarr(partial, compute=False, encoding=encoding, consolidated=True, zarr_format=2)
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)


def write_states(path: str | Path, start: int, values: np.ndarray, spec: StateSpec) -> None:
    """Fill states [T, C, H, W] into a store made by :func:`create_store`, from position ``start``.

    Raises:
        ValueError: when they reach beyond the store's last time.
    """
    group = zarr.open_group(path, mode="r+")
    span = slice(start, start + values.shape[0])
    for name in (*spec.surface, *spec.upper):
        array = cast(zarr.Array, group[VARIABLES[name].long_name])
        if not 0 <= span.start <= span.stop <= array.shape[0]:  # zarr would drop the rest silently
            raise ValueError(f"states {span.start} to {span.stop} do not fit the {array.shape[0]} of {path}")
        fields = values[:, spec.variable_slice(name)].astype(np.float32, copy=False)
        array[span] = fields.reshape(values.shape[0], *array.shape[1:])
