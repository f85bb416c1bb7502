"""Packs states of a store into one small file, which every reader of zarr opens: the quick world.

    python -m vaevar.data.weather.packing

Each channel is rounded to multiples of a power of two, which is at most a given fraction of its
climatological std, and kept as differences in time. All codecs are those of numcodecs, so
:class:`WeatherStore` and xarray open the file as it is: a zipped WeatherBench 2 store whose last dimension is
time.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import numpy as np
import xarray as xr
from numcodecs import Blosc, Delta, FixedScaleOffset

from vaevar.data.checksums import plain
from vaevar.data.times import six_hourly
from vaevar.data.weather.climatology import load_climatological_std
from vaevar.data.weather.leads import TIME_UNITS
from vaevar.data.weather.speedy import SpeedyWorld
from vaevar.data.weather.store import Source
from vaevar.errors import UserError
from vaevar.files import replacing, size_text
from vaevar.runs.aside import keeping
from vaevar.scripts import run
from vaevar.state import VARIABLES, StateSpec


def steps_of(std: np.ndarray, fraction: float) -> np.ndarray:
    """The step of each channel: the largest power of two that is at most ``fraction`` of its std.

    Args:
        std: [C], physical units.
        fraction: such as 1/200.

    Returns:
        [C] float64, physical units.
    """
    return 2.0 ** np.floor(np.log2(fraction * np.asarray(std, np.float64)))


def rounded(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """States whose channels are multiples of their steps.

    Args:
        values: [T, C, H, W], physical units.
        steps: [C], powers of two.

    Returns:
        [T, C, H, W] float32, which differ from the values by half a step at most.

    Raises:
        ValueError: when a value is so many steps that float32 cannot hold the multiple.
    """
    counts = np.rint(values / steps[:, None, None])
    if np.abs(counts).max(initial=0) >= 2**24:
        raise ValueError(f"{np.abs(counts).max():.3g} steps, expected fewer than 2²⁴: the step is too small")
    return (counts * steps[:, None, None]).astype(np.float32)


def write(
    source: Source | None = None,
    start: str = "2022-01-01T00",
    end: str = "2022-01-08T00",
    climatology: str = "weights/climatological_std.npy",
    fraction: float = 0.005,
    path: str = "weights/speedy/quick.zarr.zip",
    spec: StateSpec | None = None,
) -> None:
    """Pack the 6-hourly states of a period.

    Args:
        source: of the states. None: the embedded world's test period.
        start, end: of the period, both included. The defaults are what ``configs/quick.yaml`` needs: 20
            analyses from 2022-01-03T06, and the two states where the forecast of 48 h before them begins.
        climatology: ``.npy`` file of the climatological std by channel.
        fraction: of that std which the rounding's step may be, at most.
        path: the file to write.
        spec: channels. None: FengWu's 69.

    Raises:
        UserError: when the source lacks a time, or the fraction is not positive.
    """
    if not 0 < fraction < 1:
        raise UserError(f"fraction is {fraction}, must be between 0 and 1")
    spec, source = spec or StateSpec(), source or SpeedyWorld("test")
    times = six_hourly(start, end)
    source.prepare(times[0], times[-1])
    store = source.open(spec)
    steps = steps_of(load_climatological_std(climatology, spec), fraction)
    values = rounded(store.read(times), steps)
    dataset, encoding = _packed(values, times, spec, steps)
    dataset["latitude"] = ("latitude", store.grid.latitude.astype(np.float32), {"units": "degrees_north"})
    dataset["longitude"] = ("longitude", store.grid.longitude.astype(np.float32), {"units": "degrees_east"})
    dataset.attrs = {
        "source": source.description,
        "rounding": f"each channel to multiples of a power of two, at most {fraction} climatological stds",
    }
    coordinates = {str(name): plain(2) for name in dataset.coords if name != "time"}
    with tempfile.TemporaryDirectory() as directory, keeping(Path(path)), replacing(Path(path)) as partial:
        dataset.to_zarr(directory, encoding=encoding | coordinates, consolidated=False, zarr_format=2)
        _zip(Path(directory), partial)
    print(f"{path}: {times.size} states in {size_text(Path(path).stat().st_size)}")


def _packed(
    values: np.ndarray, times: np.ndarray, spec: StateSpec, steps: np.ndarray
) -> tuple[xr.Dataset, dict[str, dict]]:
    """Variables with time last, and how they are kept: a chunk holds one level at all times."""
    data: dict[str, xr.DataArray] = {}
    encoding: dict[str, dict] = {"time": {"units": TIME_UNITS, "dtype": "int64", **plain(2)}}
    for name in (*spec.surface, *spec.upper):
        variable, part = VARIABLES[name], spec.variable_slice(name)
        fields = np.ascontiguousarray(np.moveaxis(values[:, part], 0, -1))
        dims: tuple[str, ...] = ("level", "latitude", "longitude", "time")
        if name not in spec.upper:
            fields, dims = fields[0], dims[1:]
        data[variable.long_name] = xr.DataArray(
            fields, dims=dims, attrs={"units": variable.units, "short_name": name}
        )
        # One scale for all levels, the finest: a coarser level's multiples end in zeros, which take no room.
        scale = FixedScaleOffset(0, float(1 / steps[part].min()), "<f4", "<i4")
        packing = (scale, Delta("<i4"), Blosc("zstd", clevel=9, shuffle=Blosc.BITSHUFFLE))
        chunks = tuple(1 if dim == "level" else size for dim, size in zip(dims, fields.shape, strict=True))
        encoding[variable.long_name] = {"filters": packing, "compressors": None, "chunks": chunks}
    coords = {
        "time": times.astype("datetime64[ns]"),
        "level": ("level", np.asarray(spec.levels), {"units": "hPa"}),
    }
    return xr.Dataset(data, coords=coords), encoding


def _zip(directory: Path, target: Path) -> None:
    """The files of a directory as they are, in one of which equal content makes equal bytes."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            archive.writestr(zipfile.ZipInfo(path.relative_to(directory).as_posix()), path.read_bytes())


if __name__ == "__main__":
    run(write)
