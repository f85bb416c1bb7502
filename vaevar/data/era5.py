"""WeatherBench 2 stores: any layout in, tensors in channel order out, by label.

Stores differ in latitude direction, dimension order, level order and coordinate names (``lat``,
``latitude``); everything here is selected and transposed by label. What is written follows the
ERA5 store of WeatherBench 2: dims (time, level, latitude, longitude), one time per chunk.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

import dask.array
import numpy as np
import torch
import xarray as xr
import zarr

from vaevar.errors import UserError
from vaevar.sphere import Grid
from vaevar.state import VARIABLES, State, StateSpec

TIME_UNITS = "hours since 1959-01-01"
EPOCH = np.datetime64("1959-01-01T00", "h")
COORDINATE_NAMES = {"lat": "latitude", "lon": "longitude", "plev": "level", "pressure_level": "level"}


class WeatherStore:
    """A WeatherBench 2 zarr store opened for reading, checked on opening.

    Args:
        path: a zarr store, local or anything fsspec opens (``gs://...``).
        spec: the channels wanted, in this order.

    Attributes:
        grid: of the store, north to south.
        times: [T] datetime64[ns].

    Raises:
        UserError: when the store is missing, lacks a variable or level, has other units, or a
            grid that is not latitude × longitude.
    """

    def __init__(self, path: str | Path, spec: StateSpec) -> None:
        self.path, self.spec = str(path), spec
        dataset = open_zarr(path)
        dataset = dataset.rename(
            {k: v for k, v in COORDINATE_NAMES.items() if k in dataset.variables or k in dataset.dims}
        )
        self.times = _times(dataset, self.path)
        self._check(dataset)
        latitude = np.asarray(dataset["latitude"].values, dtype=np.float64)
        self._flip = bool(latitude[0] < latitude[-1])
        try:
            self.grid = Grid(latitude[::-1] if self._flip else latitude, dataset["longitude"].values)
        except ValueError as error:
            raise UserError(f"{self.path}: {error}") from None
        self._position = {time: i for i, time in enumerate(self.times)}
        if len(self._position) != self.times.size:
            raise UserError(f"{self.path}: times repeat")
        self._arrays = {}
        for name in (*spec.surface, *spec.upper):
            array = dataset[VARIABLES[name].long_name]
            if name in spec.upper:
                array = array.sel(level=list(spec.levels))
            dims = ("time", *(("level",) if name in spec.upper else ()), "latitude", "longitude")
            self._arrays[name] = array.transpose(*dims)

    def _check(self, dataset: xr.Dataset) -> None:
        for name in ("latitude", "longitude"):
            _check_dimension(dataset, name, self.path)
        wanted = [VARIABLES[name].long_name for name in (*self.spec.surface, *self.spec.upper)]
        missing = [name for name in wanted if name not in dataset.data_vars]
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
            known = VARIABLES[name]
            units = str(dataset[known.long_name].attrs.get("units", known.units))
            if _plain(units) != _plain(known.units):
                raise UserError(
                    f"{self.path}: {known.long_name} is in {units!r}, expected {known.units!r}; "
                    "convert the store to WeatherBench 2 units"
                )
            expected = {"time", "latitude", "longitude"} | ({"level"} if name in self.spec.upper else set())
            dims = dataset[known.long_name].dims
            if set(dims) != expected:
                raise UserError(
                    f"{self.path}: {known.long_name} has the dimensions {', '.join(map(str, dims))}; "
                    f"expected {', '.join(sorted(expected))}"
                )

    def read(self, times: Sequence[np.datetime64] | np.ndarray) -> np.ndarray:
        """States at these times, [T, C, H, W] float32, physical units, north to south.

        Raises:
            UserError: for a time the store does not hold, or a field that is not finite there.
        """
        wanted = np.asarray(times).astype("datetime64[ns]").reshape(-1)
        missing = [time for time in wanted if time not in self._position]
        if missing:
            raise UserError(
                f"{self.path}: no state at {missing[0].astype('datetime64[m]')} (and {len(missing) - 1} "
                f"more); it holds {self.times[0].astype('datetime64[h]')} to "
                f"{self.times[-1].astype('datetime64[h]')}"
            )
        positions = [self._position[time] for time in wanted]
        out = np.empty((wanted.size, len(self.spec), *self.grid.shape), dtype=np.float32)
        for name, array in self._arrays.items():
            try:
                values = array.isel(time=positions).values
            except Exception as error:  # each codec and file system has its own kinds
                raise UserError(
                    f"{self.path}: {VARIABLES[name].long_name} cannot be read ({_first_line(error)})"
                ) from None
            if self._flip:
                values = values[..., ::-1, :]
            channels = self.spec.variable_slice(name)
            out[:, channels] = values if name in self.spec.upper else values[:, None]
            finite = np.isfinite(out[:, channels]).all(axis=(1, 2, 3))
            if not finite.all():
                bad = wanted[~finite][0].astype("datetime64[h]")
                raise UserError(
                    f"{self.path}: {VARIABLES[name].long_name} at {bad} has values that are not finite "
                    "(not written, or damaged); regenerate or repair the store"
                )
        return out

    def state(self, time: np.datetime64) -> State:
        """One state, checked against the range of each variable.

        Raises:
            UserError: as :meth:`read`, and when a field cannot be what its name says.
        """
        try:
            return State(torch.from_numpy(self.read([time])[0]), self.spec, self.grid)
        except ValueError as error:
            raise UserError(f"{self.path} at {time}: {error}") from None


class Source(Protocol):
    """Where truth comes from: made or checked by ``prepare``, then opened."""

    @property
    def description(self) -> str:
        """What the data are, for the attributes of what is computed from them."""

    def prepare(self, start: np.datetime64, end: np.datetime64) -> None:
        """Make sure that states from ``start`` to ``end`` (inclusive) can be read."""

    def open(self, spec: StateSpec) -> WeatherStore:
        """Open what is there."""


class StoreSource:
    """A store that exists already, such as ERA5 from WeatherBench 2.

    Args:
        path: the zarr store.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def description(self) -> str:
        return self.path

    def prepare(self, start: np.datetime64, end: np.datetime64) -> None:
        """Check that the store covers the period.

        Raises:
            UserError: when it cannot be opened or ends too early or begins too late.
        """
        times = _times(open_zarr(self.path), self.path)
        first, last = times.min().astype("datetime64[h]"), times.max().astype("datetime64[h]")
        if first > start or last < end:
            raise UserError(f"{self.path}: holds {first} to {last}, but {start} to {end} is needed")

    def open(self, spec: StateSpec) -> WeatherStore:
        return WeatherStore(self.path, spec)


def open_zarr(path: str | Path) -> xr.Dataset:
    """Open a zarr store lazily.

    Raises:
        UserError: when there is none, or it cannot be read.
    """
    if "://" not in str(path) and not Path(path).is_dir():
        raise UserError(f"{path}: no such zarr store; check the path in your config")
    try:
        with warnings.catch_warnings():
            # A store without consolidated metadata only opens more slowly.
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated", RuntimeWarning)
            return xr.open_zarr(path, chunks=None)
    except Exception as error:  # zarr and fsspec raise many kinds; each means "not readable"
        raise UserError(f"{path}: cannot be opened as a zarr store ({_first_line(error)})") from None


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
    """The same text for ``m s**-1``, ``m s-1``, ``m s^-1`` and ``m/s``."""
    powers = re.sub(r"/\s*([a-zA-Z]+)[*^]*(\d*)", lambda m: f"{m[1]}-{m[2] or 1}", units)
    return powers.replace("**", "").replace("^", "").replace(" ", "").lower()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "").strip() or type(error).__name__
