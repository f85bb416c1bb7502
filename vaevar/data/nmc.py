"""Background errors by the NMC method: differences of forecasts valid at the same time.

Parrish and Derber (1992): the 48 h minus the 24 h forecast stands for the error of a background.
Both come from one roll-out per initial time, so a sample costs 8 steps of 6 h and not 12:

    error(v) = forecast from v − 48 h, valid at v  −  forecast from v − 24 h, valid at v.

The result is a zarr store with ``background_error`` [time, channel, latitude, longitude] in float16,
one time per chunk. Physical units would not fit float16 (specific humidity sinks below its normal
range), so values are divided by ``scale`` [channel], a power of two near the error's size:
``background_error * scale`` is physical. Of all samples there are, in physical units, ``error_std`` and
``error_mean`` [channel], weighted by area, and ``zonal_error_std`` [channel, latitude].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import xarray as xr
import zarr
from numcodecs import Blosc
from torch import Tensor, nn

from vaevar.data.coarsening import Coarsening
from vaevar.data.era5 import TIME_UNITS, Source
from vaevar.data.resumable_store import ResumableStore
from vaevar.errors import UserError
from vaevar.models.protocol import Forecaster, rollout
from vaevar.sphere import Grid

SHORT_HOURS, LONG_HOURS = 24, 48


def build_background_errors(
    path: str | Path,
    source: Source,
    forecaster: Forecaster,
    start: np.datetime64,
    end: np.datetime64,
    every_hours: int = 12,
    batch_size: int = 8,
    coarse: Grid | None = None,
) -> None:
    """Make the store at ``path``, or go on where a killed process left off.

    How, and what happens to a store that is there: :class:`vaevar.data.resumable_store.ResumableStore`.

    Args:
        path: the zarr store to be.
        source: states that forecasts start from, prepared for ``start`` to ``end``.
        forecaster: rolled out over 48 h.
        start, end: first and last state to be read.
        every_hours: between initial times; a divisor of 24.
        batch_size: initial times rolled out together.
        coarse: grid that the errors are kept on, as means over its cells; by default the forecaster's.

    Raises:
        UserError: when the settings do not fit each other, the store there was made otherwise, or
            the forecaster's output is not finite.
    """
    _BackgroundErrors(Path(path), source, forecaster, start, end, every_hours, batch_size, coarse).make()


class _BackgroundErrors(ResumableStore):
    """The store in the making."""

    title = "background errors (48 h roll-outs)"

    def __init__(
        self,
        path: Path,
        source: Source,
        forecaster: Forecaster,
        start: np.datetime64,
        end: np.datetime64,
        every_hours: int,
        batch_size: int,
        coarse: Grid | None,
    ) -> None:
        step = forecaster.step_hours
        if every_hours < 1 or SHORT_HOURS % every_hours:
            raise UserError(
                f"every_hours must divide {SHORT_HOURS} so that forecasts pair up, got {every_hours}"
            )
        if SHORT_HOURS % step:
            raise UserError(f"the forecaster steps {step} h, which does not divide {SHORT_HOURS} h")
        if batch_size < 1:
            raise UserError(f"batch_size of the roll-outs must be positive, got {batch_size}")
        super().__init__(path, source, forecaster, start, end, batch_size)
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
        self.coarsen: nn.Module = nn.Identity()
        if coarse is not None and coarse != self.grid:
            try:
                self.kept_on, self.coarsen = coarse, Coarsening(self.grid, coarse)
            except ValueError as error:
                raise UserError(f"{path}: {error}") from None
            self.recipe["coarsened_to"] = repr(coarse)
        self.moments = _Moments(self.kept_on.area_weights.numpy())

    @property
    def samples(self) -> int:
        return len(self.times)

    def write_samples(self, array: Callable[[str], zarr.Array], done: int) -> Iterator[int]:
        errors, scales = array("background_error"), array("scale")
        for sample in range(done):
            self.moments.add(np.asarray(errors[sample]))
        for sample, values in self._samples(done):
            if sample == 0:
                scales[:] = _power_of_two(values)
            scaled = self._to_float16(values, np.asarray(scales[:]), sample)
            errors[sample] = scaled
            self.moments.add(scaled)
            yield sample + 1

    def finish(self, array: Callable[[str], zarr.Array]) -> None:
        scale = np.asarray(array("scale")[:])
        array("error_mean")[:] = self.moments.mean * scale
        array("error_std")[:] = self.moments.std * scale
        array("zonal_error_std")[:] = self.moments.zonal_std * scale[:, None]

    def _samples(self, done: int) -> Iterator[tuple[int, np.ndarray]]:
        """Numbers and fields [C, H, W], physical units, of the samples from ``done`` on."""
        step = self.forecaster.step_hours
        waiting: dict[int, Tensor] = {}
        for begin, initial, states in self.initial_states(self.open_source(), done):
            with torch.no_grad():
                forecasts = [
                    self.coarsen(forecast.cpu().float())
                    for hours, forecast in enumerate(rollout(self.forecaster, states, LONG_HOURS // step), 1)
                    if hours * step in (SHORT_HOURS, LONG_HOURS)
                ]
            for number, short, long in zip(range(begin, begin + initial.size), *forecasts, strict=True):
                waiting[number] = long
                sample = number - self.lag
                earlier = waiting.pop(sample, None)
                if earlier is not None and sample >= done:
                    yield sample, (earlier - short).numpy()

    def _to_float16(self, values: np.ndarray, scale: np.ndarray, sample: int) -> np.ndarray:
        with np.errstate(over="ignore"):
            scaled = (values / scale[:, None, None]).astype(np.float16)
        if not np.isfinite(scaled).all():
            bad = [
                n for n, field in zip(self.spec.names, scaled, strict=True) if not np.isfinite(field).all()
            ]
            raise UserError(
                f"the background error valid at {self.times[sample]} is not finite, or 65 000 times "
                f"its usual size, in {', '.join(bad)}; check the forecaster and its mean and std files"
            )
        return scaled

    def lay_out(self, partial: Path) -> None:
        import dask.array as da

        channels, (rows, columns) = len(self.spec), self.kept_on.shape
        shape, chunk = (len(self.times), channels, rows, columns), (1, channels, rows, columns)
        unknown = np.full(channels, np.nan)
        dataset = xr.Dataset(
            {
                "background_error": (
                    ("time", "channel", "latitude", "longitude"),
                    da.empty(shape, chunks=chunk, dtype=np.float16),
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
                **self.recipe,
            },
        )
        encoding = {
            "background_error": {
                "chunks": chunk,
                "compressors": (Blosc("lz4", clevel=1, shuffle=Blosc.BITSHUFFLE),),
            },
            "time": {"units": TIME_UNITS, "dtype": "int64", "chunks": (len(self.times),)},
        }
        dataset.to_zarr(partial, compute=False, encoding=encoding, consolidated=True, zarr_format=2)


class _Moments:
    """Means and standard deviations by channel and latitude, sample after sample, in float64."""

    def __init__(self, area_weights: np.ndarray) -> None:
        self.weights = area_weights  # [H], mean 1
        self.count, self.total, self.squares = 0, np.zeros(()), np.zeros(())

    def add(self, sample: np.ndarray) -> None:
        """[C, H, W]"""
        values = sample.astype(np.float64)
        self.count += 1
        self.total = self.total + values.mean(-1)
        self.squares = self.squares + np.square(values).mean(-1)

    @property
    def mean(self) -> np.ndarray:
        """[C], weighted by area."""
        return np.asarray((self.total / self.count * self.weights).mean(-1))

    @property
    def std(self) -> np.ndarray:
        """[C] about that mean."""
        squares = (self.squares / self.count * self.weights).mean(-1)
        return np.sqrt(np.maximum(squares - self.mean**2, 0.0))

    @property
    def zonal_std(self) -> np.ndarray:
        """[C, H] about the mean at each latitude."""
        return np.sqrt(np.maximum(self.squares / self.count - (self.total / self.count) ** 2, 0.0))


def _power_of_two(values: np.ndarray) -> np.ndarray:
    """[C]: the power of two nearest to each channel's root mean square; 1 where it is all zero."""
    size = np.sqrt(np.square(values.astype(np.float64)).mean((1, 2)))
    finite = np.isfinite(size) & (size > 0)
    return np.where(finite, np.exp2(np.round(np.log2(np.where(finite, size, 1.0)))), 1.0)
