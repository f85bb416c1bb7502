"""Reads WeatherBench 2 stores of any layout as arrays in channel order.

Stores differ in the direction of latitude, the order of dimensions and levels, the first longitude, units
of coordinates and their names (``lat``, ``latitude``): everything is selected and transposed by label. A
forecast store is read at one lead. :mod:`vaevar.data.weather.writer` writes stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import xarray as xr

from vaevar.data.times import moment
from vaevar.data.weather.leads import at_lead
from vaevar.data.weather.opening import open_weather
from vaevar.errors import UserError, first_line
from vaevar.plausible.judge import StateJudge
from vaevar.runs.expansion import expand_path
from vaevar.state import VARIABLES, State, StateSpec
from vaevar.state.coordinates import named, on_a_grid
from vaevar.state.fields import fields_of, slice_if_run

_HOUR = np.timedelta64(1, "h")


class WeatherStore:
    """A WeatherBench 2 store opened for reading, checked on opening.

    Args:
        path: a zarr store, local, zipped or anything fsspec opens (``gs://...``), or netCDF files.
        spec: the channels to read, in this order.
        lead_hours: the lead to read from a forecast store.

    Attributes:
        grid: of the store, north to south and eastward from 0.
        times: [T] datetime64[ns], valid times of the states (for forecasts: initial time + lead).

    Raises:
        UserError: when the store is missing, lacks a variable, level or lead, has units that are not known,
            or is not on a latitude × longitude grid.

    Example:
        >>> store = vaevar.WeatherStore(store.path, StateSpec([], ["z"], [500]))
        >>> store.state(store.times[0])["z500"].shape
        (16, 32)
    """

    def __init__(self, path: str | Path, spec: StateSpec, lead_hours: int | None = None) -> None:
        self.path, self.spec = expand_path(str(path)), spec
        if not isinstance(spec, StateSpec):
            raise UserError(f"spec is {spec!r}, expected a StateSpec, such as vaevar.StateSpec()")
        dataset, self.grid, self._flip, self._roll = on_a_grid(_open_states(self.path, lead_hours), self.path)
        self._arrays = fields_of(dataset, spec, self.path)
        self.times = dataset["time"].values
        self._judge = StateJudge(self.path, spec, self.grid, in_sequence=lead_hours is None)
        self._position = {time: i for i, time in enumerate(self.times)}
        if len(self._position) != self.times.size:
            times, counts = np.unique(self.times, return_counts=True)
            raise UserError(
                f"{self.path}: times repeat, such as {moment(times[counts > 1][0])}; leave one of each"
            )

    def read(self, times: Sequence[np.datetime64] | np.ndarray) -> np.ndarray:
        """States at these times, [T, C, H, W] float32, physical units, north to south.

        Raises:
            UserError: for a time that the store lacks, or a field that cannot be what its name says.
        """
        requested = np.asarray(times).astype("datetime64[ns]").reshape(-1)
        missing = [time for time in requested if time not in self._position]
        if missing:
            raise UserError(f"{self.path}: {self._not_there(missing)}")
        positions = slice_if_run([self._position[time] for time in requested])
        out = np.empty((requested.size, len(self.spec), *self.grid.shape), dtype=np.float32)
        pieces = {}
        for name, array in self._arrays.items():
            try:
                values = array.isel(time=positions).values
            except Exception as error:  # codecs and file systems raise many kinds
                raise UserError(self._unreadable(name, requested, error)) from None
            if self._flip:
                values = values[..., ::-1, :]
            if self._roll:
                values = np.roll(values, self._roll, axis=-1)
            pieces[name] = self._taken(name, values, out, requested)
        self._judge.together(
            np.concatenate([pieces[name] for name in (*self.spec.surface, *self.spec.upper)], axis=1),
            requested,
        )
        return out

    def _taken(self, name: str, values: np.ndarray, out: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Copy a variable into states, field by field, and judge each while it is at hand.

        Returns:
            the pieces of the fields that tell of states as wholes, [T, levels, h, w].
        """
        part = self.spec.variable_slice(name)
        channels, fields = self.spec.channels[part], out[:, part]
        pieces = []
        for target, state, time in zip(
            fields, values if name in self.spec.upper else values[:, None], times, strict=True
        ):
            for field, now, channel in zip(target, state, channels, strict=True):
                field[:] = now
                pieces.append(self._judge.field(field, channel, time))
        return np.array(pieces, np.float32).reshape(times.size, len(channels), *self._judge.piece_shape)

    def _unreadable(self, name: str, times: np.ndarray, error: Exception) -> str:
        """What is said of fields that cannot be read, with the first of their times."""

        def fails(time: np.datetime64) -> bool:
            try:
                self._arrays[name].isel(time=self._position[time]).load()
            except Exception:  # of any kind, as where they were read together
                return True
            return False

        first = next(filter(fails, times), times[0])
        return (
            f"{self.path}: {VARIABLES[name].long_name} at {moment(first)} cannot be read "
            f"({first_line(error)}): what holds it is cut short, damaged or out of reach; write or fetch it "
            "again"
        )

    def _not_there(self, missing: list[np.datetime64]) -> str:
        """What is missing, and what is there instead."""
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        first, last = self.times.min(), self.times.max()
        text = f"no state at {moment(missing[0])}{more}; it holds {moment(first)} to {moment(last)}"
        nearest = self.times[np.abs(self.times - missing[0]).argmin()]
        if first <= missing[0] <= last:
            text += f", and the nearest is {moment(nearest)}"
        if np.unique((self.times - missing[0]) % _HOUR).tolist() not in ([], [0]):
            text += (
                "; its times are not on the hour (means over an hour?): give them those that they stand for"
            )
        return text

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

    Example:
        >>> vaevar.StoreSource(store.path).open(store.spec).grid
        Grid(16 × 32, Gaussian)
    """

    def __init__(self, path: str, lead_hours: int | None = None) -> None:
        self.path, self.lead_hours = expand_path(str(path)), lead_hours

    @property
    def description(self) -> str:
        return self.path if self.lead_hours is None else f"{self.path}, {self.lead_hours} h forecasts"

    def prepare(self, start: np.datetime64, end: np.datetime64) -> None:
        """Check that the store covers the period.

        Raises:
            UserError: when it cannot be opened, starts too late, ends too early, or lacks the lead.
        """
        times = _open_states(self.path, self.lead_hours)["time"].values
        first, last = times.min(), times.max()
        if first > start or last < end:
            raise UserError(
                f"{self.path}: holds {moment(first)} to {moment(last)}, but {start} to {end} is needed"
            )

    def open(self, spec: StateSpec) -> WeatherStore:
        return WeatherStore(self.path, spec, self.lead_hours)


def _open_states(path: str | Path, lead_hours: int | None) -> xr.Dataset:
    """A store with the coordinate names of this package, at one lead, with valid times.

    Raises:
        UserError: when it cannot be opened, or lacks times or the lead.
    """
    return at_lead(named(open_weather(path)), str(path), lead_hours)
