"""The one format of samples to learn from: zarr stores of errors, and of what they are the errors of.

NMC differences, errors of forecasts and errors recorded from a cycle differ in how they are made
(:mod:`vaevar.data.samples.nmc`, :mod:`vaevar.data.samples.forecast_errors`,
:mod:`vaevar.assim.cycle.error_recorder`). All are kept as described here and read by
:class:`vaevar.data.samples.store.SampleStore`.

Fields, in float16:

| array | dimensions | physical values |
| --- | --- | --- |
| ``error`` | time, lead, channel, latitude, longitude | ``error`` · error_scale |
| ``background`` (optional) | the same | ``background`` · background_scale + background_offset |
| ``coverage`` (optional) | time, map, latitude, longitude | as stored |

``background`` is the forecast that the error belongs to: background + error stands for the truth.
``coverage`` tells where a cycle was observed before (:mod:`vaevar.data.observations.coverage`). ``time`` is
the initial time of that forecast and ``lead`` its age in hours, so a sample is valid at time + lead. Forecast
errors have a lead axis because one roll-out yields several; NMC differences and cycles have a single lead.

Physical units would not fit float16 (specific humidity sinks below its normal range). So values are scaled by
channel: ``error_scale`` [lead, channel] is a power of two near the size of the first sample's error;
``background_offset`` and ``background_scale`` [channel] are the mean of the first sample's longest forecast
and a power of two near its standard deviation. A power of two changes no digit.

Statistics of all samples, float64, physical units: ``error_mean``, ``error_std`` and, with a background,
``background_mean``, ``background_std`` [lead, channel], weighted by area; ``zonal_error_std`` [lead, channel,
latitude], about the zonal mean error.

Each chunk holds one sample's field at one lead, compressed by lz4, with a checksum
(:mod:`vaevar.data.checksums`). ``error_checksum`` and the like, [time, lead], are those of all chunks, so
that another sample in a chunk's place is noticed; a digest of them, of coordinates and statistics is among
the attributes. A store is zarr v2; or zarr v3, with several samples in a file (a shard).
Attributes are the record of how the samples were made, ``format`` among them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
import zarr

from vaevar.data.checksums import fast, plain, seal
from vaevar.data.observations.coverage import MAPS
from vaevar.data.samples.reader import ItemReader
from vaevar.data.weather.leads import TIME_UNITS
from vaevar.errors import UserError
from vaevar.shipped import typed
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

FORMAT = "vaevar-samples-1"
SCALED = ("error", "background")
_FIELDS: dict[str, tuple[str, ...]] = {
    "error": ("time", "lead", "channel", "latitude", "longitude"),
    "background": ("time", "lead", "channel", "latitude", "longitude"),
    "coverage": ("time", "map", "latitude", "longitude"),
}
# Scales and statistics, and their dimensions.
STATISTICS: dict[str, tuple[str, ...]] = {
    "error_scale": ("lead", "channel"),
    "error_mean": ("lead", "channel"),
    "error_std": ("lead", "channel"),
    "zonal_error_std": ("lead", "channel", "latitude"),
    "background_offset": ("channel",),
    "background_scale": ("channel",),
    "background_mean": ("lead", "channel"),
    "background_std": ("lead", "channel"),
}
SUMS = tuple(f"{name}_checksum" for name in _FIELDS)
SEALED = ("time", "lead", "channel", "units", "latitude", "longitude", *STATISTICS, *SUMS)
RECORD_A_CYCLE = typed("predict --config configs/cycle_sparse.yaml --config configs/cycle_errors.yaml")
# Arrays by which earlier formats are recognised, and the command that makes such samples now.
_EARLIER = {
    "background_error": typed("predict --config configs/background_errors.yaml"),
    "coverage": RECORD_A_CYCLE,
    "residual": typed("fit --config configs/diffda.yaml"),
}


def check_format(path: Path) -> dict[str, Any]:
    """The attributes of a store of samples.

    Raises:
        UserError: when it is unreadable, of an earlier format, or something else.
    """
    try:
        group = zarr.open_group(path, mode="r")
        attributes, names = dict(group.attrs), set(group.array_keys())
    except Exception as error:  # zarr raises many kinds; each means "not readable"
        raise UserError(f"{path}: cannot be opened as a zarr store ({error})") from None
    if attributes.get("format") == FORMAT:
        return attributes
    for name, command in _EARLIER.items():
        if "format" not in attributes and name in names:
            raise UserError(
                f"{path}: is in an earlier format of samples (it holds {name!r}), which is no longer read; "
                f"delete it and make it again: {command}"
            )
    raise UserError(f"{path}: its format is {attributes.get('format')!r}; samples have {FORMAT!r}")


def lay_out(
    path: Path,
    fields: Sequence[str],
    times: np.ndarray,
    leads: Sequence[int],
    spec: StateSpec,
    grid: Grid,
    attributes: Mapping[str, str | int],
    samples_per_file: int = 1,
) -> None:
    """Write an empty store, which a :class:`SampleWriter` fills.

    Args:
        path: where.
        fields: ``error``, and any of ``background`` and ``coverage``.
        times: [N] datetime64, initial times.
        leads: hours, ascending.
        spec, grid: channels and points.
        attributes: how the samples are made.
        samples_per_file: from 2 on, the store is zarr v3, and this many samples share a file.
    """
    import dask.array as da

    sizes = {"time": len(times), "lead": len(leads), "channel": len(spec), "map": MAPS}
    sizes |= dict(zip(("latitude", "longitude"), grid.shape, strict=True))
    sharded = samples_per_file > 1
    zarr_format: Literal[2, 3] = 3 if sharded else 2
    variables: dict[str, Any] = {}
    encoding: dict[str, dict[str, Any]] = {
        "time": {"units": TIME_UNITS, "dtype": "int64", "chunks": (len(times),)}
    }
    for name in fields:
        shape = tuple(sizes[dim] for dim in _FIELDS[name])
        chunk = tuple(1 if dim in ("time", "lead") else sizes[dim] for dim in _FIELDS[name])
        file = (samples_per_file, *chunk[1:])
        variables[name] = (_FIELDS[name], da.empty(shape, chunks=file, dtype=np.float16))
        encoding[name] = {"chunks": chunk, **fast(zarr_format)}
        if sharded:
            encoding[name]["shards"] = file
        outer = [dim for dim in _FIELDS[name] if dim in ("time", "lead")]
        variables[f"{name}_checksum"] = (outer, np.zeros([sizes[dim] for dim in outer], np.uint32))
    for name, dims in STATISTICS.items():
        if "background" in fields or not name.startswith("background"):
            variables[name] = (dims, np.full([sizes[dim] for dim in dims], np.nan))
    text: Any = object if sharded else str  # zarr v3 has no text of a fixed length
    coordinates = {
        "time": ("time", times.astype("datetime64[ns]"), {"long_name": "initial time"}),
        "lead": ("lead", np.array(leads), {"long_name": "age of the background in hours"}),
        "channel": ("channel", np.array(spec.names, text)),
        "units": ("channel", np.array([channel.units for channel in spec.channels], text)),
        "latitude": ("latitude", grid.latitude, {"units": "degrees_north"}),
        "longitude": ("longitude", grid.longitude, {"units": "degrees_east"}),
    }
    dataset = xr.Dataset(variables, coordinates, attrs={"format": FORMAT, **attributes})
    encoding = {str(name): plain(zarr_format) | encoding.get(str(name), {}) for name in dataset.variables}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        dataset.to_zarr(path, compute=False, encoding=encoding, consolidated=True, zarr_format=zarr_format)


class SampleWriter:
    """Fills a store that :func:`lay_out` has written.

    Args:
        path: the store.
        spec, grid: its channels and points.
    """

    def __init__(self, path: Path, spec: StateSpec, grid: Grid) -> None:
        self.path, self.spec, self.grid = path, spec, grid

    def array(self, name: str) -> zarr.Array:
        return zarr.open_array(self.path / name, mode="r+")

    @property
    def scaled(self) -> bool:
        """Whether the scales are set."""
        return bool(np.isfinite(np.asarray(self.array("error_scale")[:])).all())

    def set_scales(self, fields: Mapping[str, np.ndarray]) -> None:
        """Take the scales of all samples from one, [lead, C, H, W] each, physical units."""
        with np.errstate(invalid="ignore"):  # of infinities, which encode() reports
            sizes = [[_root_mean_square(field) for field in lead] for lead in fields["error"]]
            self.array("error_scale")[:] = _power_of_two(np.array(sizes))
            if "background" in fields:
                longest = fields["background"][-1]
                self.array("background_offset")[:] = [field.mean(dtype=np.float64) for field in longest]
                stds = np.array([field.std(dtype=np.float64) for field in longest])
                self.array("background_scale")[:] = _power_of_two(stds)

    def _scale(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Scale [lead, C] or [1, C], and offset [C], of a field."""
        scale = np.atleast_2d(np.asarray(self.array(f"{name}_scale")[:]))
        offset = np.asarray(self.array(f"{name}_offset")[:]) if name == "background" else np.zeros(1)
        return scale, np.broadcast_to(offset, scale.shape[1:])

    def encode(self, fields: Mapping[str, np.ndarray], valid: np.datetime64) -> dict[str, np.ndarray]:
        """A sample as it is stored.

        Args:
            fields: error and background [lead, C, H, W], physical units, and coverage [K, H, W].
            valid: valid time of the first lead, for messages.

        Returns:
            the same in float16.

        Raises:
            UserError: when a value is not finite or far beyond the usual size.
        """
        stored: dict[str, np.ndarray] = {}
        for name, values in fields.items():
            if name not in SCALED:
                stored[name] = values.astype(np.float16)
                continue
            self._judge(name, values, valid)
            scale, offset = self._scale(name)
            stored[name] = np.empty(values.shape, np.float16)
            # By channel: at 0.25° a sample in float64 is 0.6 GB.
            for index in np.ndindex(values.shape[:2]):
                lead, channel = index if len(scale) > 1 else (0, index[1])
                with np.errstate(over="ignore", invalid="ignore"):
                    stored[name][index] = (values[index] - offset[channel]) / scale[lead, channel]
            finite = np.isfinite(stored[name]).all((0, 2, 3))
            if not finite.all():
                bad = [label for label, good in zip(self.spec.names, finite, strict=True) if not good]
                raise UserError(
                    f"the {name} valid at {valid} is not finite, or 65 000 times its usual size, in "
                    f"{', '.join(bad)}; check the forecaster and its mean and std files"
                )
        return stored

    def _judge(self, name: str, values: np.ndarray, valid: np.datetime64) -> None:
        """Refuse backgrounds and errors that are far beyond what weather and its forecasts can be.

        Values that are not finite are left to :meth:`encode`.
        """
        for index in np.ndindex(values.shape[:2]):
            channel, field = self.spec.channels[index[1]], values[index]
            limits = channel.points
            low, high = float(field.min()), float(field.max())
            # A background may leave the range a little; an error is a difference of two values within it.
            lowest, highest = limits.low - limits.width, limits.high + limits.width
            if name == "error":
                lowest, highest = -2 * limits.width, 2 * limits.width
            if np.isfinite([low, high]).all() and (low < lowest or high > highest):
                raise UserError(
                    f"the {name} of {channel.name} valid at {valid} is between {low:.4g} and {high:.4g} "
                    f"{channel.units}, expected {lowest:.4g} to {highest:.4g}; check the forecaster and its "
                    "mean and std files"
                )

    def write(self, samples: range, stored: Mapping[str, np.ndarray]) -> None:
        """Write consecutive samples, [N, ...] of each field, as :meth:`encode` gives them."""
        for name, values in stored.items():
            self.array(name)[samples.start : samples.stop] = values

    def sums(self) -> Iterator[np.ndarray]:
        """:func:`zonal_sums` of each sample in the store."""
        arrays = {name: self.array(name) for name in SCALED if (self.path / name).is_dir()}
        for sample in range(arrays["error"].shape[0]):
            yield zonal_sums({n: np.asarray(a[sample : sample + 1]) for n, a in arrays.items()})

    def finish(self, sums: Iterable[np.ndarray]) -> None:
        """Write the statistics, from the :func:`zonal_sums` of all samples, and seal the store."""
        weights = self.grid.area_weights.numpy()
        total: np.ndarray = reduce(np.add, sums)
        for name, (mean, square) in zip(SCALED, total / self.array("error").shape[0], strict=False):
            scale, offset = self._scale(name)
            everywhere = (mean * weights).mean(-1)  # [lead, C]
            variance = (square * weights).mean(-1) - everywhere**2
            self.array(f"{name}_mean")[:] = everywhere * scale + offset
            self.array(f"{name}_std")[:] = np.sqrt(np.maximum(variance, 0.0)) * scale
            if name == "error":
                zonal_std = np.sqrt(np.maximum(square - mean**2, 0.0))
                self.array("zonal_error_std")[:] = zonal_std * scale[..., None]
        for name in _FIELDS:
            if (self.path / f"{name}_checksum").is_dir():  # not in a store that an earlier version began
                checksums = self.array(f"{name}_checksum")
                checksums[...] = ItemReader(self.path / name).stored_checksums(checksums.shape)
        seal(self.path, SEALED)


def zonal_sums(stored: Mapping[str, np.ndarray]) -> np.ndarray:
    """Zonal means of samples and of their squares, summed over the samples.

    Args:
        stored: error and, if there is one, background, [N, lead, C, H, W] float16 as stored.

    Returns:
        [fields, 2, lead, C, H] float64, error first.
    """
    fields = [stored[name] for name in SCALED if name in stored]
    totals = np.zeros((len(fields), 2, *fields[0].shape[1:4]))
    for total, samples in zip(totals, fields, strict=True):
        # By channel: at 0.25° a sample in float64 is 0.6 GB.
        for sample, lead, channel in np.ndindex(samples.shape[:3]):
            values = samples[sample, lead, channel].astype(np.float64)
            total[0, lead, channel] += values.mean(-1)
            total[1, lead, channel] += np.square(values).mean(-1)
    return totals


def _root_mean_square(field: np.ndarray) -> float:
    return float(np.sqrt(np.square(field, dtype=np.float64).mean()))


def _power_of_two(size: np.ndarray) -> np.ndarray:
    """The power of two nearest to each size; 1 for those that are 0 or not finite."""
    usable = np.isfinite(size) & (size > 0)
    return np.where(usable, np.exp2(np.round(np.log2(np.where(usable, size, 1.0)))), 1.0)
