"""Between xarray's labels and arrays in channel order."""

from __future__ import annotations

import numpy as np
import xarray as xr
from torch import Tensor

from vaevar.errors import UserError
from vaevar.mistakes.notices import notice
from vaevar.sphere.grid import Grid
from vaevar.state.coordinates import levels_in_hpa, named, on_a_grid
from vaevar.state.fields import fields_of, under_other_names
from vaevar.state.spec import SURFACE_VARIABLES, UPPER_VARIABLES, VARIABLES, Channel, StateSpec

_WHAT = "the dataset"
_COORDINATES = {
    "latitude": {"units": "degrees_north", "standard_name": "latitude"},
    "longitude": {"units": "degrees_east", "standard_name": "longitude"},
    "level": {"units": "hPa", "standard_name": "air_pressure", "positive": "down"},
}


def from_dataset(dataset: xr.Dataset, spec: StateSpec | None) -> tuple[np.ndarray, StateSpec, Grid]:
    """The fields of one time in channel order.

    Args:
        dataset: with the long names of WeatherBench 2.
        spec: the channels. None: all that there are.

    Returns:
        values [C, H, W], north to south and eastward from 0, in double precision where a field is; their
        channels; their grid.

    Raises:
        UserError: when the dataset has no such fields, or several times.
    """
    if not isinstance(dataset, xr.Dataset):
        raise UserError(
            f"{_WHAT} is {type(dataset).__name__}, expected an xarray.Dataset with a variable for each of "
            "z, t, ...; a DataArray becomes one with .to_dataset(name=...)"
        )
    dataset = named(dataset)
    for name in ("time", "step", "prediction_timedelta"):
        if dataset.sizes.get(name, 1) > 1:
            raise UserError(f"{_WHAT} has {dataset.sizes[name]} {name}s; choose one with ds.isel({name}=0)")
        if name in dataset.dims:
            dataset = dataset.isel({name: 0})
    dataset, grid, flip, roll = on_a_grid(
        dataset.drop_vars("time", errors="ignore").expand_dims("time"), _WHAT
    )
    spec = spec or _all_channels(dataset)
    fields = fields_of(dataset, spec, _WHAT)
    wide = any(array.dtype == np.float64 for array in fields.values())
    out = np.empty((len(spec), *grid.shape), dtype=np.float64 if wide else np.float32)
    for name, array in fields.items():
        values = array.values[0, ..., ::-1, :] if flip else array.values[0]
        out[spec.variable_slice(name)] = np.roll(values, roll, axis=-1)
    return out, spec, grid


def to_array(values: Tensor, channel: Channel, grid: Grid) -> xr.DataArray:
    """A copy of one channel, [..., H, W], with its coordinates: xarray's operators may work in place."""
    variable = VARIABLES[channel.variable]
    attributes = {"units": variable.units, "long_name": variable.long_name.replace("_", " ")}
    coordinates = _around(grid) | ({} if channel.level is None else {"level": channel.level})
    return xr.DataArray(
        values.detach().cpu().numpy().copy(),
        coordinates,
        [*_leading(values.ndim - 2), "latitude", "longitude"],
        channel.name,
        attributes,
    )


def to_dataset(values: Tensor, spec: StateSpec, grid: Grid, time: np.datetime64 | None = None) -> xr.Dataset:
    """Copies of fields [..., C, H, W] by the long names of WeatherBench 2."""
    coordinates = _around(grid)
    if spec.upper:
        coordinates["level"] = xr.Variable("level", list(spec.levels), _COORDINATES["level"])
    if time is not None:
        coordinates["time"] = time.astype("datetime64[ns]")
    array, leading = values.detach().cpu().numpy(), _leading(values.ndim - 3)
    variables = {}
    for name in (*spec.surface, *spec.upper):
        fields = array[..., spec.variable_slice(name), :, :]
        dims = [*leading, *(["level"] if name in spec.upper else []), "latitude", "longitude"]
        fields = fields if name in spec.upper else fields[..., 0, :, :]
        variables[VARIABLES[name].long_name] = (dims, fields.copy(), {"units": VARIABLES[name].units})
    return xr.Dataset(variables, coordinates)


def _around(grid: Grid) -> dict[str, object]:
    return {
        name: xr.Variable(name, getattr(grid, name), _COORDINATES[name]) for name in ("latitude", "longitude")
    }


def _leading(count: int) -> list[str]:
    """Names of the dimensions before [C, H, W] or [H, W]."""
    return ["sample"] if count == 1 else [f"sample_{number}" for number in range(count)]


def _all_channels(dataset: xr.Dataset) -> StateSpec:
    """The channels that a dataset has.

    Raises:
        UserError: when it has none.
    """
    surface, upper = (
        [name for name in names if VARIABLES[name].long_name in dataset.data_vars]
        for names in (SURFACE_VARIABLES, UPPER_VARIABLES)
    )
    if not (surface or upper):
        fields_of(dataset, StateSpec(), _WHAT)  # says what it has instead
    absent = [name for name in (*SURFACE_VARIABLES, *UPPER_VARIABLES) if name not in (*surface, *upper)]
    if others := under_other_names(dataset, absent):
        notice(
            f"{_WHAT}: {', '.join(others)} have other names than WeatherBench 2's, and are left out; to have "
            f"them too, ds.rename({others})"
        )
    levels = sorted(levels_in_hpa(dataset, _WHAT)) if upper else []
    whole = [int(level) for level in levels]
    if whole != levels:
        raise UserError(f"{_WHAT} has the levels {levels} hPa; give the spec with those that are wanted")
    return StateSpec(surface, upper, whole)
