"""Holes of a store are found by the names of its files, in any layout, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from vaevar.data.weather.holes import holes
from vaevar.data.weather.store import WeatherStore
from vaevar.state import StateSpec

SPEC = StateSpec(surface=("t2m",), upper=("t",), levels=(500, 850))
TIMES = np.datetime64("2021-01-01T00", "h") + 6 * np.arange(6)


def write(path: Path, chunk: int, **options: Any) -> WeatherStore:
    fields = np.full((6, 2, 4, 8), 250.0, np.float32) + np.arange(6, dtype=np.float32)[:, None, None, None]
    fields += 0.1 * np.arange(8, dtype=np.float32)
    dims = ("time", "level", "latitude", "longitude")
    data = {
        "temperature": (dims, fields, {"units": "K"}),
        "2m_temperature": (("time", *dims[2:]), fields[:, 0], {"units": "K"}),
    }
    latitude = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(4)[0]))[::-1]
    coords = {
        "time": TIMES.astype("datetime64[ns]"), "level": [500, 850], "latitude": latitude,
        "longitude": np.arange(8) * 45.0,
    }  # fmt: skip
    encoding = {"temperature": {"chunks": (chunk, 1, 4, 8)}, "2m_temperature": {"chunks": (chunk, 4, 8)}}
    xr.Dataset(data, coords).to_zarr(path, mode="w", encoding=encoding, **options)
    return WeatherStore(path, SPEC)


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ({"zarr_format": 2, "consolidated": True}, "temperature/2.0.0.0"),
        ({"zarr_format": 3, "consolidated": False}, "temperature/c/2/0/0/0"),
    ],
)
def test_a_chunk_that_is_gone_or_empty_is_a_hole(tmp_path: Path, options: dict[str, Any], file: str) -> None:
    store = write(tmp_path / "truth.zarr", 1, **options)
    assert holes(store, TIMES) == {}
    path = tmp_path / "truth.zarr" / file
    content = path.read_bytes()
    path.write_bytes(b"")
    assert list(holes(store, TIMES)) == [TIMES[2]]
    path.unlink()
    assert list(holes(store, TIMES)) == [TIMES[2]]
    assert holes(store, TIMES[3:]) == {}
    path.write_bytes(content)
    assert holes(store, TIMES) == {}


def test_a_chunk_of_several_times_takes_them_all_with_it(tmp_path: Path) -> None:
    store = write(tmp_path / "truth.zarr", 3, zarr_format=2)
    (tmp_path / "truth.zarr" / "2m_temperature" / "1.0.0").unlink()
    found = holes(store, TIMES)
    assert list(found) == list(TIMES[3:])
    assert "2m_temperature" in found[TIMES[3]]


def test_times_that_the_store_lacks_are_holes(tmp_path: Path) -> None:
    store = write(tmp_path / "truth.zarr", 1, zarr_format=2)
    later = np.concatenate([TIMES, TIMES[-1:] + 6])
    found = holes(store, later)
    assert list(found) == [later[-1]]
    assert "no state at" in found[later[-1]]


def test_a_field_of_zeros_that_nobody_had_to_write_is_none(tmp_path: Path) -> None:
    """Dry air high up is weather; 0 K is not."""
    path = tmp_path / "truth.zarr"
    write(path, 1, zarr_format=2)
    dataset = xr.open_zarr(path, chunks=None).load()
    dataset["specific_humidity"] = (0.0 * dataset["temperature"]).assign_attrs(units="kg kg**-1")
    dataset["temperature"][2] = 0.0
    dataset = dataset.assign_coords(level=[50, 850])
    for array in dataset.variables.values():
        array.encoding = {}
    encoding = {
        name: {"chunks": (1, 2, 4, 8), "_FillValue": None} for name in ("specific_humidity", "temperature")
    }
    dataset.to_zarr(tmp_path / "zeros.zarr", encoding=encoding, zarr_format=2)
    for name in encoding:
        (tmp_path / "zeros.zarr" / name / "2.0.0.0").unlink(missing_ok=True)
    dry = WeatherStore(tmp_path / "zeros.zarr", StateSpec((), ("q",), (50,)))
    assert holes(dry, TIMES) == {}
    cold = WeatherStore(tmp_path / "zeros.zarr", StateSpec((), ("t",), (850,)))
    assert "temperature at 850 hPa" in holes(cold, TIMES)[TIMES[2]]
