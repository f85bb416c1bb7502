"""A store of forecasts and of how far the truth was from them, at several lead times.

One roll-out per initial time gives all leads. The zarr store holds, in float16, ``forecast`` and
``residual`` [time, lead, channel, latitude, longitude], one field set per chunk: ``forecast`` · scale +
offset is physical, and ``residual`` · residual_scale is truth − forecast. Of all samples there are, in
physical units and weighted by area, ``forecast_mean``, ``forecast_std`` and ``residual_std``
[lead, channel].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, reduce
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from numcodecs import Blosc
from torch import Tensor

from vaevar.data.observations.coverage import MAPS
from vaevar.data.samples.making import ResumableStore
from vaevar.data.weather.store import TIME_UNITS, Source, WeatherStore
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

_HOUR = np.timedelta64(1, "h")
_TINY = 1e-30


class ForecastPairMaking(ResumableStore):
    """The store in the making.

    Args:
        path: the zarr store to be.
        source: the truth; also what the forecasts start from.
        forecaster: rolled out as far as the longest lead.
        start, end: first and last state to be read.
        leads: hours, ascending multiples of the forecaster's step.
        every_hours: between initial times.
        batch_size: initial times rolled out together.

    Raises:
        UserError: when the settings do not fit each other, and, in the making, when the store there was
            made otherwise, or a forecast is not finite.
    """

    def __init__(
        self,
        path: Path,
        source: Source,
        forecaster: Forecaster,
        start: np.datetime64,
        end: np.datetime64,
        leads: Sequence[int] = (6, 48),
        every_hours: int = 24,
        batch_size: int = 8,
    ) -> None:
        super().__init__(path, source, forecaster, start, end, batch_size)
        step = forecaster.step_hours
        if (
            not leads
            or any(lead < step or lead % step for lead in leads)
            or list(leads) != sorted(set(leads))
        ):
            raise UserError(f"leads must ascend in multiples of the forecaster's {step} h, got {list(leads)}")
        if every_hours < 1:
            raise UserError(f"every_hours must be positive, got {every_hours}")
        self.leads, self.title = tuple(leads), f"forecasts and their errors ({leads[-1]} h roll-outs)"
        first, last = start + (forecaster.history - 1) * step * _HOUR, end - leads[-1] * _HOUR
        if first > last:
            raise UserError(f"{start} to {end} is too short for a forecast of {leads[-1]} h")
        self.initial = np.arange(first, last + _HOUR, every_hours * _HOUR).astype("datetime64[h]")
        self.times = self.initial
        self.recipe = self.recipe_with(every_hours=every_hours, leads=", ".join(map(str, leads)))

    @cached_property
    def _truth(self) -> WeatherStore:
        return self.open_source()

    def parts(self, sample: int) -> list[tuple[int, int]]:
        return [(sample, lead) for lead in self.leads]

    def combine(self, sample: int, forecasts: list[Tensor]) -> dict[str, np.ndarray]:
        forecast = np.stack([values.double().numpy() for values in forecasts])
        truth = self._truth.read(self.initial[sample] + np.array(self.leads) * _HOUR)
        return {"forecast": forecast, "residual": truth.astype(np.float64) - forecast}

    def set_scales(self, fields: dict[str, np.ndarray]) -> None:
        set_pair_scales(self.array, fields["forecast"], fields["residual"])

    def encode(self, sample: int, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        forecast, residual = fields["forecast"], fields["residual"]
        scaled, unit = encode_pair(self.array, forecast, residual, self.spec, self.initial[sample])
        return {"forecast": scaled, "residual": unit}

    def summary(self, fields: dict[str, np.ndarray]) -> np.ndarray:
        return pair_sums(fields["forecast"], fields["residual"], self.grid)

    def finish(self, summaries: Iterator[np.ndarray]) -> None:
        finish_pairs(self.array, summaries)

    def lay_out(self, recipe: dict[str, str | int]) -> None:
        lay_out_pairs(self.partial, self.initial, self.leads, self.spec, self.grid, recipe)


def write_pair(
    array: Callable[[str], zarr.Array],
    sample: int,
    forecast: np.ndarray,
    residual: np.ndarray,
    spec: StateSpec,
    initial: np.datetime64,
) -> None:
    """Fill one sample of a store; the first one written gives all of them their scales.

    Args:
        array: the store's arrays by name.
        sample: its number.
        forecast, residual: [lead, C, H, W] float64, physical units.
        spec, initial: channels and initial time, for messages.

    Raises:
        UserError: when a forecast is not finite, or out of all proportion.
    """
    if not np.isfinite(np.asarray(array("scale")[:])).all():
        set_pair_scales(array, forecast, residual)
    scaled, unit = encode_pair(array, forecast, residual, spec, initial)
    array("forecast")[sample], array("residual")[sample] = scaled, unit


def set_pair_scales(array: Callable[[str], zarr.Array], forecast: np.ndarray, residual: np.ndarray) -> None:
    """One sample's own scales, [lead, C, H, W], bring all of them within float16's range."""
    array("offset")[:] = forecast[-1].mean((1, 2))
    array("residual_scale")[:] = np.maximum(np.sqrt(np.square(residual).mean((2, 3))), _TINY)
    array("scale")[:] = np.maximum(forecast[-1].std((1, 2)), _TINY)


def encode_pair(
    array: Callable[[str], zarr.Array],
    forecast: np.ndarray,
    residual: np.ndarray,
    spec: StateSpec,
    initial: np.datetime64,
) -> tuple[np.ndarray, np.ndarray]:
    """A sample as it is stored; arguments and errors as of :func:`write_pair`."""
    offset, scale = np.asarray(array("offset")[:]), np.asarray(array("scale")[:])
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = ((forecast - offset[:, None, None]) / scale[:, None, None]).astype(np.float16)
        unit = (residual / np.asarray(array("residual_scale")[:])[..., None, None]).astype(np.float16)
    finite = np.isfinite(scaled) & np.isfinite(unit)
    if not finite.all():
        bad = [name for number, name in enumerate(spec.names) if not finite[:, number].all()]
        raise UserError(
            f"the forecast from {initial} is not finite, or 65 000 times its usual size, in "
            f"{', '.join(bad)}; check the forecaster and its mean and std files"
        )
    return scaled, unit


def pair_sums(forecast: np.ndarray, residual: np.ndarray, grid: Grid) -> np.ndarray:
    """Area means of forecast, its square and residual's square, summed over N, as stored, [N, lead, C, H, W].

    Returns:
        [3, lead, C] float64.
    """
    weights = grid.area_weights.numpy()[:, None]
    total = np.zeros((3, *forecast.shape[1:3]))
    for stored in zip(forecast, residual, strict=True):
        x, error = (values.astype(np.float64) for values in stored)
        total += np.stack([(field * weights).mean((2, 3)) for field in (x, np.square(x), np.square(error))])
    return total


def stored_pair_sums(array: Callable[[str], zarr.Array], grid: Grid) -> Iterator[np.ndarray]:
    """:func:`pair_sums` of each sample of a store."""
    for sample in range(array("forecast").shape[0]):
        one = slice(sample, sample + 1)
        yield pair_sums(np.asarray(array("forecast")[one]), np.asarray(array("residual")[one]), grid)


def finish_pairs(array: Callable[[str], zarr.Array], sums: Iterable[np.ndarray]) -> None:
    """Means and stds over all that is stored, in physical units, from the :func:`pair_sums` of its parts."""
    mean, square, error = reduce(np.add, sums) / array("forecast").shape[0]
    offset, scale = np.asarray(array("offset")[:]), np.asarray(array("scale")[:])
    array("forecast_mean")[:] = offset + scale * mean
    array("forecast_std")[:] = scale * np.sqrt(np.maximum(square - mean**2, 1e-12))
    array("residual_std")[:] = np.asarray(array("residual_scale")[:]) * np.sqrt(np.maximum(error, 1e-12))


def lay_out_pairs(
    partial: Path,
    initial: np.ndarray,
    leads: Sequence[int],
    spec: StateSpec,
    grid: Grid,
    recipe: Mapping[str, str | int],
) -> None:
    """Write an empty store of pairs, to be filled by :func:`write_pair`.

    Args:
        partial: where.
        initial: [N] datetime64, initial times.
        leads: hours.
        spec, grid: of the fields.
        recipe: what the store is made of; its attributes.
    """
    import dask.array as da

    channels, points = len(spec), grid.shape
    shape, chunk = (len(initial), len(leads), channels, *points), (1, 1, channels, *points)
    dims = ("time", "lead", "channel", "latitude", "longitude")
    by_lead = np.full((len(leads), channels), np.nan)
    names = {"forecast": "(forecast − offset) / scale", "residual": "(truth − forecast) / residual_scale"}
    dataset = xr.Dataset(
        {
            name: (dims, da.empty(shape, chunks=chunk, dtype=np.float16), {"long_name": text})
            for name, text in names.items()
        }
        | {name: ("channel", by_lead[0].copy()) for name in ("offset", "scale")}
        | {
            name: (("lead", "channel"), by_lead.copy(), {"long_name": "physical units"})
            for name in ("residual_scale", "forecast_mean", "forecast_std", "residual_std")
        },
        coords={
            "time": ("time", initial.astype("datetime64[ns]"), {"long_name": "initial time"}),
            "lead": ("lead", np.array(leads), {"long_name": "hours"}),
            "channel": ("channel", np.array(spec.names)),
            "latitude": ("latitude", grid.latitude, {"units": "degrees_north"}),
            "longitude": ("longitude", grid.longitude, {"units": "degrees_east"}),
        },
        attrs={"title": "Forecasts and their errors", **recipe},
    )
    compressed = {
        "chunks": chunk,
        "compressors": (Blosc("lz4", clevel=1, shuffle=Blosc.BITSHUFFLE),),
    }
    encoding = {
        "forecast": compressed,
        "residual": compressed,
        "time": {"units": TIME_UNITS, "dtype": "int64", "chunks": (len(initial),)},
    }
    dataset.to_zarr(partial, compute=False, encoding=encoding, consolidated=True, zarr_format=2)


def lay_out_coverage(partial: Path, samples: int, grid: Grid) -> None:
    """Add an empty ``coverage`` [time, map, latitude, longitude] to a store of pairs."""
    shape = (samples, MAPS, *grid.shape)
    empty = xr.DataArray(
        np.zeros(shape, dtype=np.float16),
        dims=("time", "map", "latitude", "longitude"),
        attrs={
            "long_name": "where the cycle was observed before",
            "maps": "vaevar.data.observations.coverage",
        },
    )
    encoding = {"coverage": {"chunks": (1, *shape[1:])}}
    # A write that adds to a store puts its own attributes in place of the store's.
    attributes = dict(zarr.open_group(partial, mode="r").attrs)
    xr.Dataset({"coverage": empty}, attrs=attributes).to_zarr(
        partial, mode="a", encoding=encoding, consolidated=True, zarr_format=2
    )
