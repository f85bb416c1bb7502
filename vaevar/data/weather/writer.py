"""Writes WeatherBench 2 stores: first the whole layout, then state by state.

The layout is that of WeatherBench 2's ERA5: dimensions (time, level, latitude, longitude), one time per
chunk, long names, units, and times as int64 hours.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import dask.array
import numpy as np
import xarray as xr
import zarr

from vaevar.data.checksums import plain, states
from vaevar.data.weather.leads import TIME_UNITS
from vaevar.errors import UserError
from vaevar.files import place_of_store
from vaevar.sphere.grid import Grid
from vaevar.state import VARIABLES, StateSpec

_EPOCH = np.datetime64(TIME_UNITS.rpartition(" ")[2], "h")


def create_store(
    path: str | Path,
    times: np.ndarray,
    spec: StateSpec,
    grid: Grid,
    attrs: Mapping[str, str],
    lead: np.timedelta64 | None = None,
) -> None:
    """Lay out an empty store; :func:`write_states` fills it.

    States that are not written read as NaN. Every chunk has a checksum. The layout appears whole or not at
    all.

    Args:
        path: the zarr store; an existing one is replaced.
        times: [T] datetime64; initial times when a lead is given.
        spec, grid: of the states.
        attrs: attributes of the dataset.
        lead: adds the dimension ``prediction_timedelta`` with this single value.
    """
    path = place_of_store(Path(path))
    path.parent.mkdir(parents=True, exist_ok=True)
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
        variable = VARIABLES[name]
        dims = (*outer, *(("level",) if name in spec.upper else ()), "latitude", "longitude")
        shape = tuple(len(coords[dim][1]) for dim in dims)
        lazy = dask.array.empty(shape, chunks=(1, *shape[1:]), dtype=np.float32)
        data[variable.long_name] = xr.DataArray(
            lazy, dims=dims, attrs={"units": variable.units, "short_name": name}
        )
        encoding[variable.long_name] = {
            **states(), "chunks": (1, *shape[1:]), "_FillValue": np.float32(np.nan),
        }  # fmt: skip
    dataset = xr.Dataset(data, coords=coords, attrs=dict(attrs))
    encoding = {str(name): plain(2) | encoding.get(str(name), {}) for name in dataset.variables}
    dataset.to_zarr(partial, compute=False, encoding=encoding, consolidated=True, zarr_format=2)
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)


def extend_store(path: str | Path, times: np.ndarray) -> None:
    """Make room for later times in a store of states or of samples; those that it holds stay.

    A call that was killed in the middle is completed by the next one.

    Args:
        path: the zarr store.
        times: [T] datetime64, all of them: those of the store, and then the new ones.

    Raises:
        UserError: when the store's times are not the first of these.
    """
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    axis = cast(zarr.Array, group["time"])
    new = (times.astype("datetime64[h]") - _EPOCH).astype(np.int64)
    held = np.asarray(axis[:])
    # An axis that was lengthened by a killed call and not written holds zeros.
    if len(held) > len(new) or not np.all((held == new[: len(held)]) | (held == 0)):
        raise UserError(
            f"{path}: its {len(held)} times are not the first of the {len(times)} from {times[0]} to "
            f"{times[-1]}; delete it to write it again, or give another path"
        )
    for name, array in group.arrays():
        if _dimensions(array)[0] == "time" and name != "time":
            array.resize((len(new), *array.shape[1:]))
    axis.resize((len(new),))
    axis[:] = new
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(group.store)


def _dimensions(array: zarr.Array) -> Sequence[str]:
    """Their names, of zarr v2 as xarray writes them, or of v3."""
    names = getattr(array.metadata, "dimension_names", None)
    return cast(Sequence[str], names or array.attrs["_ARRAY_DIMENSIONS"])


def write_states(path: str | Path, start: int, values: np.ndarray, spec: StateSpec) -> None:
    """Write consecutive states to a store made by :func:`create_store`.

    Args:
        path: the zarr store.
        start: position of the first state along time.
        values: [T, C, H, W], physical units.
        spec: the C channels, as in the store.

    Raises:
        ValueError: when they reach beyond the store's last time.
    """
    group = zarr.open_group(path, mode="r+")
    span = slice(start, start + values.shape[0])
    for name in (*spec.surface, *spec.upper):
        array = cast(zarr.Array, group[VARIABLES[name].long_name])
        if not 0 <= span.start <= span.stop <= array.shape[0]:  # zarr would drop the rest without an error
            raise ValueError(f"states {span.start} to {span.stop} do not fit the {array.shape[0]} of {path}")
        fields = values[:, spec.variable_slice(name)].astype(np.float32, copy=False)
        array[span] = fields.reshape(values.shape[0], *array.shape[1:])
