"""Background errors by the NMC method: differences of forecasts valid at the same time.

Parrish and Derber (1992): the 48 h minus the 24 h forecast stands for the error of a background.
Both come from one roll-out per initial time, so a sample costs 8 steps of 6 h and not 12:

    error(v) = forecast from v − 48 h, valid at v  −  forecast from v − 24 h, valid at v.

The result is a zarr store with ``background_error`` [time, channel, latitude, longitude] in float16,
one time per chunk, of zarr v2, or of v3 with several chunks in a file (a shard). Physical units would not
fit float16 (specific humidity sinks below its normal range), so values are divided by ``scale`` [channel], a
power of two near the error's size: ``background_error * scale`` is physical. Of all samples there are, in
physical units, ``error_std`` and ``error_mean`` [channel], weighted by area, and ``zonal_error_std``
[channel, latitude].
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numcodecs import Blosc
from torch import Tensor
from zarr.codecs import BloscCodec

from vaevar.data.samples.making import ResumableStore
from vaevar.data.weather.store import TIME_UNITS, Source
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.sphere.coarsening import Coarsening
from vaevar.sphere.grid import Grid

SHORT_HOURS, LONG_HOURS = 24, 48


class BackgroundErrorMaking(ResumableStore):
    """The store in the making.

    Args:
        path: the zarr store to be.
        source: states that forecasts start from, prepared for ``start`` to ``end``.
        forecaster: rolled out over 48 h.
        start, end: first and last state to be read.
        every_hours: between initial times; a divisor of 24.
        batch_size: initial times rolled out together.
        coarse: grid that the errors are kept on, as means over its cells; by default the forecaster's.
        samples_per_file: from 2 on in a shard of zarr v3; held in memory until it is written.

    Raises:
        UserError: when the settings do not fit each other, and, in the making, when the store there was
            made otherwise, or the forecaster's output is not finite.
    """

    title = "background errors (48 h roll-outs)"

    def __init__(
        self,
        path: Path,
        source: Source,
        forecaster: Forecaster,
        start: np.datetime64,
        end: np.datetime64,
        every_hours: int = 12,
        batch_size: int = 8,
        coarse: Grid | None = None,
        samples_per_file: int = 1,
    ) -> None:
        super().__init__(path, source, forecaster, start, end, batch_size, samples_per_file)
        step = forecaster.step_hours
        if every_hours < 1 or SHORT_HOURS % every_hours:
            raise UserError(
                f"every_hours must divide {SHORT_HOURS} so that forecasts pair up, got {every_hours}"
            )
        if SHORT_HOURS % step:
            raise UserError(f"the forecaster steps {step} h, which does not divide {SHORT_HOURS} h")
        self.lag = SHORT_HOURS // every_hours
        hours = np.timedelta64(1, "h")
        first = start + (forecaster.history - 1) * step * hours
        self.initial = np.arange(first, end + hours, every_hours * hours).astype("datetime64[h]")
        if self.initial.size <= self.lag:
            raise UserError(
                f"{start} to {end} is too short for background errors: it needs two initial times "
                f"{SHORT_HOURS} h apart"
            )
        self.times = self.initial[: -self.lag] + LONG_HOURS * hours
        self.recipe = self.recipe_with(every_hours=every_hours)
        self.kept_on: Grid = self.grid
        if coarse is not None and coarse != self.grid:
            try:
                self.kept_on, self.reduce = coarse, Coarsening(self.grid, coarse)
            except ValueError as error:
                raise UserError(f"{path}: {error}") from None
            self.recipe["coarsened_to"] = repr(coarse)

    def parts(self, sample: int) -> list[tuple[int, int]]:
        return [(sample, LONG_HOURS), (sample + self.lag, SHORT_HOURS)]

    def combine(self, sample: int, forecasts: list[Tensor]) -> dict[str, np.ndarray]:
        long, short = forecasts
        return {"background_error": (long.float() - short.float()).numpy()}

    def set_scales(self, fields: dict[str, np.ndarray]) -> None:
        self.array("scale")[:] = _power_of_two(fields["background_error"])

    @cached_property
    def scale(self) -> np.ndarray:
        """[C], physical units per unit of what is stored."""
        return np.asarray(self.array("scale")[:])

    def encode(self, sample: int, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with np.errstate(over="ignore"):
            scaled = (fields["background_error"] / self.scale[:, None, None]).astype(np.float16)
        if not np.isfinite(scaled).all():
            bad = [
                n for n, field in zip(self.spec.names, scaled, strict=True) if not np.isfinite(field).all()
            ]
            raise UserError(
                f"the background error valid at {self.times[sample]} is not finite, or 65 000 times "
                f"its usual size, in {', '.join(bad)}; check the forecaster and its mean and std files"
            )
        return {"background_error": scaled}

    def summary(self, fields: dict[str, np.ndarray]) -> np.ndarray:
        return zonal_sums(fields["background_error"])

    def finish(self, summaries: Iterator[np.ndarray]) -> None:
        weights = self.kept_on.area_weights.numpy()
        mean, square = reduce(np.add, summaries) / self.samples  # [C, H]
        everywhere = (mean * weights).mean(-1)
        variance = (square * weights).mean(-1) - everywhere**2
        self.array("error_mean")[:] = everywhere * self.scale
        self.array("error_std")[:] = np.sqrt(np.maximum(variance, 0.0)) * self.scale
        zonal_std = np.sqrt(np.maximum(square - mean**2, 0.0))
        self.array("zonal_error_std")[:] = zonal_std * self.scale[:, None]

    def lay_out(self, recipe: dict[str, str | int]) -> None:
        import dask.array as da

        channels, (rows, columns) = len(self.spec), self.kept_on.shape
        shape, chunk = (len(self.times), channels, rows, columns), (1, channels, rows, columns)
        file = (self.samples_per_file, *chunk[1:])
        unknown = np.full(channels, np.nan)
        dataset = xr.Dataset(
            {
                "background_error": (
                    ("time", "channel", "latitude", "longitude"),
                    da.empty(shape, chunks=file, dtype=np.float16),
                    {"long_name": "48 h minus 24 h forecast, divided by scale"},
                ),
                "scale": ("channel", unknown, {"long_name": "physical units per unit of background_error"}),
                "error_std": ("channel", unknown, {"long_name": "area-weighted std, physical units"}),
                "error_mean": ("channel", unknown, {"long_name": "area-weighted mean, physical units"}),
                "zonal_error_std": (
                    ("channel", "latitude"),
                    np.full((channels, rows), np.nan),
                    {"long_name": "std about the zonal mean error, physical units"},
                ),
            },
            coords={
                "time": ("time", self.times.astype("datetime64[ns]"), {"long_name": "valid time"}),
                "channel": ("channel", np.array(self.spec.names)),
                "units": ("channel", np.array([channel.units for channel in self.spec.channels])),
                "latitude": ("latitude", self.kept_on.latitude, {"units": "degrees_north"}),
                "longitude": ("longitude", self.kept_on.longitude, {"units": "degrees_east"}),
            },
            attrs={
                "title": "Background errors by the NMC method",
                "scheme": f"{LONG_HOURS} h minus {SHORT_HOURS} h forecast, valid at the same time",
                **recipe,
            },
        )
        encoding: dict[str, dict[str, Any]] = {
            "background_error": {"chunks": chunk},
            "time": {"units": TIME_UNITS, "dtype": "int64", "chunks": (len(self.times),)},
        }
        if self.samples_per_file == 1:
            encoding["background_error"]["compressors"] = (Blosc("lz4", clevel=1, shuffle=Blosc.BITSHUFFLE),)
        else:
            encoding["background_error"] |= {
                "shards": file,
                "compressors": (BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),),
            }
            # zarr v3 has no text of a fixed length.
            dataset = dataset.assign_coords({n: dataset[n].astype(object) for n in ("channel", "units")})
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
            dataset.to_zarr(
                self.partial,
                compute=False,
                encoding=encoding,
                consolidated=True,
                zarr_format=2 if self.samples_per_file == 1 else 3,
            )


def zonal_sums(samples: np.ndarray) -> np.ndarray:
    """Zonal means of [N, C, H, W] and of their squares, summed over N in float64, [2, C, H].

    By channel, since a sample of 0.25° in float64 is 0.6 GB.
    """
    totals = np.zeros((2, *samples.shape[1:3]))
    for sample in samples:
        for channel, field in enumerate(sample):
            values = field.astype(np.float64)
            totals[0, channel] += values.mean(-1)
            totals[1, channel] += np.square(values).mean(-1)
    return totals


def _power_of_two(values: np.ndarray) -> np.ndarray:
    """[C]: the power of two nearest to each channel's root mean square; 1 where it is all zero."""
    size = np.sqrt([np.square(field.astype(np.float64)).mean() for field in values])
    finite = np.isfinite(size) & (size > 0)
    return np.where(finite, np.exp2(np.round(np.log2(np.where(finite, size, 1.0)))), 1.0)
