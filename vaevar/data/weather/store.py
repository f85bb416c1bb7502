"""Reads WeatherBench 2 stores of any layout as arrays in channel order.

Stores differ in the direction of latitude, the order of dimensions and levels, the first longitude, and
coordinate names (``lat``, ``latitude``): everything is selected and transposed by label. A forecast store is
read at one lead. :mod:`vaevar.data.weather.writer` writes stores.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import xarray as xr

from vaevar.errors import UserError
from vaevar.plausible.judge import StateJudge
from vaevar.sphere.grid import Grid
from vaevar.state import VARIABLES, State, StateSpec

TIME_UNITS = "hours since 1959-01-01"
LEAD = "prediction_timedelta"
COORDINATE_NAMES = {"lat": "latitude", "lon": "longitude", "plev": "level", "pressure_level": "level"}


class WeatherStore:
    """A WeatherBench 2 zarr store opened for reading, checked on opening.

    Args:
        path: a zarr store, local or anything fsspec opens (``gs://...``).
        spec: the channels to read, in this order.
        lead_hours: the lead to read from a forecast store (one with the dimension ``prediction_timedelta``).

    Attributes:
        grid: of the store, north to south and eastward from 0.
        times: [T] datetime64[ns], valid times of the states (for forecasts: initial time + lead).

    Raises:
        UserError: when the store is missing, lacks a variable, level or lead, has other units, or is not on
            a latitude × longitude grid.
    """

    def __init__(self, path: str | Path, spec: StateSpec, lead_hours: int | None = None) -> None:
        self.path, self.spec = str(path), spec
        dataset = _open_states(path, lead_hours)
        self.times = dataset["time"].values
        self._check(dataset)
        latitude = np.asarray(dataset["latitude"].values, dtype=np.float64)
        self._flip = bool(latitude[0] < latitude[-1])
        longitude = _from_0_to_360(dataset["longitude"].values)
        # Columns from the store's first longitude to the grid's, counted westward.
        self._roll = -int(longitude.argmin()) if longitude.size else 0
        try:
            self.grid = Grid(latitude[::-1] if self._flip else latitude, np.roll(longitude, self._roll))
        except ValueError as error:
            raise UserError(f"{self.path}: {error}") from None
        self._judge = StateJudge(self.path, spec, self.grid, in_sequence=lead_hours is None)
        self._position = {time: i for i, time in enumerate(self.times)}
        if len(self._position) != self.times.size:
            raise UserError(f"{self.path}: times repeat")
        self._arrays = {}
        for name in (*spec.surface, *spec.upper):
            array = dataset[VARIABLES[name].long_name]
            if name in spec.upper:
                levels = dataset["level"].values.tolist()
                array = array.isel(level=_slice_if_run([levels.index(level) for level in spec.levels]))
            dims = ("time", *(("level",) if name in spec.upper else ()), "latitude", "longitude")
            self._arrays[name] = array.transpose(*dims)

    def _check(self, dataset: xr.Dataset) -> None:
        for name in ("latitude", "longitude"):
            _check_dimension(dataset, name, self.path)
        needed = [VARIABLES[name].long_name for name in (*self.spec.surface, *self.spec.upper)]
        missing = [name for name in needed if name not in dataset.data_vars]
        if missing:
            raise UserError(
                f"{self.path}: lacks {', '.join(missing)}; it has {', '.join(map(str, dataset.data_vars))}"
            )
        if self.spec.upper:
            _check_dimension(dataset, "level", self.path)
            levels = dataset["level"].values.tolist()
            absent = [level for level in self.spec.levels if levels.count(level) != 1]
            if absent:
                raise UserError(f"{self.path}: lacks the levels {absent} hPa; it has {sorted(levels)}")
        for name in (*self.spec.surface, *self.spec.upper):
            variable = VARIABLES[name]
            units = str(dataset[variable.long_name].attrs.get("units", variable.units))
            if _plain(units) != _plain(variable.units):
                raise UserError(
                    f"{self.path}: {variable.long_name} is in {units!r}, expected {variable.units!r}; "
                    "convert the store to WeatherBench 2 units"
                )
            expected = {"time", "latitude", "longitude"} | ({"level"} if name in self.spec.upper else set())
            dims = dataset[variable.long_name].dims
            if set(dims) != expected:
                raise UserError(
                    f"{self.path}: {variable.long_name} has the dimensions {', '.join(map(str, dims))}; "
                    f"expected {', '.join(sorted(expected))}"
                )

    def read(self, times: Sequence[np.datetime64] | np.ndarray) -> np.ndarray:
        """States at these times, [T, C, H, W] float32, physical units, north to south.

        Raises:
            UserError: for a time that the store lacks, or a field that cannot be what its name says.
        """
        requested = np.asarray(times).astype("datetime64[ns]").reshape(-1)
        missing = [time for time in requested if time not in self._position]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UserError(
                f"{self.path}: no state at {missing[0].astype('datetime64[m]')}{more}; it holds "
                f"{self.times[0].astype('datetime64[h]')} to "
                f"{self.times[-1].astype('datetime64[h]')}"
            )
        positions = _slice_if_run([self._position[time] for time in requested])
        out = np.empty((requested.size, len(self.spec), *self.grid.shape), dtype=np.float32)
        for name, array in self._arrays.items():
            try:
                values = array.isel(time=positions).values
            except Exception as error:  # codecs and file systems raise many kinds
                raise UserError(
                    f"{self.path}: {VARIABLES[name].long_name} cannot be read ({_first_line(error)})"
                ) from None
            if self._flip:
                values = values[..., ::-1, :]
            if self._roll:
                values = np.roll(values, self._roll, axis=-1)
            fields = out[:, self.spec.variable_slice(name)]
            fields[:] = values if name in self.spec.upper else values[:, None]
            self._judge(name, fields, requested)
        self._judge.together(out, requested)
        return out

    def state(self, time: np.datetime64) -> State:
        """One state, checked against the plausible range of each variable.

        Raises:
            UserError: as for :meth:`read`, and for a field that cannot be what its name says.
        """
        try:
            return State(torch.from_numpy(self.read([time])[0]), self.spec, self.grid)
        except ValueError as error:
            raise UserError(f"{self.path} at {time}: {error}") from None


class Source(Protocol):
    """Where the truth comes from: ``prepare`` generates or checks it, ``open`` opens it."""

    @property
    def description(self) -> str:
        """What the data are, for the attributes of results computed from them."""

    def prepare(self, start: np.datetime64, end: np.datetime64) -> None:
        """Make sure that the states from ``start`` to ``end`` (inclusive) can be read."""

    def open(self, spec: StateSpec) -> WeatherStore:
        """Open the store for these channels."""


class StoreSource(Source):
    """An existing store, such as WeatherBench 2's ERA5.

    Args:
        path: the zarr store.
        lead_hours: the lead to read from a forecast store; its times are then valid times.
    """

    def __init__(self, path: str, lead_hours: int | None = None) -> None:
        self.path, self.lead_hours = path, lead_hours

    @property
    def description(self) -> str:
        return self.path if self.lead_hours is None else f"{self.path}, {self.lead_hours} h forecasts"

    def prepare(self, start: np.datetime64, end: np.datetime64) -> None:
        """Check that the store covers the period.

        Raises:
            UserError: when it cannot be opened, starts too late, ends too early, or lacks the lead.
        """
        times = _open_states(self.path, self.lead_hours)["time"].values
        first, last = times.min().astype("datetime64[h]"), times.max().astype("datetime64[h]")
        if first > start or last < end:
            raise UserError(f"{self.path}: holds {first} to {last}, but {start} to {end} is needed")

    def open(self, spec: StateSpec) -> WeatherStore:
        return WeatherStore(self.path, spec, self.lead_hours)


def open_zarr(path: str | Path) -> xr.Dataset:
    """Open a zarr store lazily.

    Raises:
        UserError: when it is missing or unreadable.
    """
    if "://" not in str(path) and not Path(path).is_dir():
        raise UserError(f"{path}: no such zarr store; check the path in your config")
    try:
        with warnings.catch_warnings():
            # A store without consolidated metadata is only slower to open.
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated", RuntimeWarning)
            return xr.open_zarr(path, chunks=None, decode_timedelta=True)
    except Exception as error:  # zarr and fsspec raise many kinds; all mean "not readable"
        raise UserError(f"{path}: cannot be opened as a zarr store ({_first_line(error)})") from None


def _open_states(path: str | Path, lead_hours: int | None) -> xr.Dataset:
    """A store with the coordinate names of this module, at one lead, with valid times.

    Raises:
        UserError: when it cannot be opened, or lacks times or the lead.
    """
    dataset = open_zarr(path)
    dataset = dataset.rename(
        {k: v for k, v in COORDINATE_NAMES.items() if k in dataset.variables or k in dataset.dims}
    )
    times = _times(dataset, str(path))
    if LEAD not in dataset.variables and LEAD not in dataset.dims:
        if lead_hours is not None:
            raise UserError(
                f"{path}: holds states, not forecasts (no dimension {LEAD!r}), so there is no lead of "
                f"{lead_hours} h; leave lead_hours out"
            )
        return dataset.assign_coords(time=times)
    # A store written after one lead was selected has a coordinate without a dimension.
    leads = np.atleast_1d(dataset[LEAD].values)
    if LEAD not in dataset.coords or leads.dtype.kind != "m":
        raise UserError(
            f"{path}: {LEAD} holds {leads.dtype}, expected time differences with units, such as hours"
        )
    if lead_hours is None:
        raise UserError(
            f"{path}: holds forecasts, of {_leads_text(leads)}; say with lead_hours which to read"
        )
    lead = np.timedelta64(lead_hours, "h").astype("timedelta64[ns]")
    positions = np.flatnonzero(leads.astype("timedelta64[ns]") == lead)
    if positions.size != 1:
        raise UserError(
            f"{path}: has no forecasts of {lead_hours} h; it has {_leads_text(leads)}; set lead_hours to one "
            "of them"
        )
    if LEAD in dataset.dims:
        dataset = dataset.isel({LEAD: int(positions[0])})
    return dataset.assign_coords(time=times + lead)


def _slice_if_run(positions: list[int]) -> slice | list[int]:
    """Consecutive positions as a slice: zarr reads it in half the time, with one copy less in memory."""
    run = positions and positions == list(range(positions[0], positions[0] + len(positions)))
    return slice(positions[0], positions[-1] + 1) if run else positions


def _leads_text(leads: np.ndarray) -> str:
    """Such as ``0 to 240 h, every 6 h``."""
    hours = np.sort(leads) / np.timedelta64(1, "h")
    steps = np.unique(np.diff(hours))
    if hours.size > 3 and steps.size == 1:
        return f"{hours[0]:g} to {hours[-1]:g} h, every {steps[0]:g} h"
    return f"{', '.join(f'{hour:g}' for hour in hours)} h"


def _from_0_to_360(longitude: np.ndarray) -> np.ndarray:
    """Degrees east in [0, 360); slightly less than 0 is 0 that was rounded, not 360."""
    rounding = 1e-3
    return np.clip(np.mod(np.asarray(longitude, dtype=np.float64) + rounding, 360.0) - rounding, 0.0, None)


def _check_dimension(dataset: xr.Dataset, name: str, path: str) -> None:
    if name not in dataset.coords or dataset[name].dims != (name,):
        raise UserError(
            f"{path}: no dimension {name!r} with coordinates; its coordinates are "
            f"{', '.join(sorted(map(str, dataset.coords))) or 'none'}; expected a WeatherBench 2 store"
        )


def _times(dataset: xr.Dataset, path: str) -> np.ndarray:
    _check_dimension(dataset, "time", path)
    times = dataset["time"].values
    if times.size == 0 or times.dtype.kind != "M":
        raise UserError(
            f"{path}: time holds {times.size} values of type {times.dtype}, expected dates, "
            f"such as integers with the units {TIME_UNITS!r}"
        )
    return times.astype("datetime64[ns]")


def _plain(units: str) -> str:
    """Units in one spelling: the same for ``m s**-1``, ``m s-1``, ``m s^-1`` and ``m/s``."""
    powers = re.sub(r"/\s*([a-zA-Z]+)[*^]*(\d*)", lambda m: f"{m[1]}-{m[2] or 1}", units)
    return powers.replace("**", "").replace("^", "").replace(" ", "").lower()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "").strip() or type(error).__name__
