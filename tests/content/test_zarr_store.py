"""A store that was replaced in place, or in one chunk, one coordinate or one unit, is another store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import xarray as xr
import zarr

from vaevar.content.digest import Digest, content_digest, same_content
from vaevar.data.weather.writer import create_store, write_states
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

TIMES = 12


def dataset(times: int = TIMES) -> xr.Dataset:
    values = np.random.default_rng(0).normal(size=(40, 2, 5, 8)).astype("f4")[:times]
    variables = {
        "temperature": (("time", "level", "latitude", "longitude"), values, {"units": "K"}),
        "2m_temperature": (("time", "latitude", "longitude"), values[:, 0], {"units": "K"}),
    }
    coordinates = {
        "time": np.datetime64("2021-01-01", "ns") + np.timedelta64(6, "h") * np.arange(times),
        "level": [500, 850],
        "latitude": np.linspace(90, -90, 5),
        "longitude": np.arange(8) * 45.0,
    }
    return xr.Dataset(variables, coordinates, attrs={"title": "weather"})


def write(path: Path, data: xr.Dataset, chunk: int, zarr_format: Literal[2, 3], **how: Any) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    encoding = {name: {"chunks": (chunk, *data[name].shape[1:])} for name in data.data_vars}
    data.to_zarr(path, zarr_format=zarr_format, encoding=encoding, consolidated=zarr_format == 2, **how)
    return path


def described(path: Path) -> dict[str, Any]:
    digest = content_digest(str(path))
    assert digest is not None
    return {"file": str(path), **digest._asdict()}


def changed(**names: Callable[[Any], Any]) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda data: data.assign({name: change(data[name]) for name, change in names.items()})


def at(number: int) -> Callable[[xr.Dataset], xr.Dataset]:
    """Other values at one time of one variable."""

    def change(data: xr.Dataset) -> xr.Dataset:
        data["temperature"][number] += 1.0
        return data

    return change


CHANGES: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "first time": at(0),
    "a time in the middle": at(6),
    "last time": at(TIMES - 1),
    "stronger": changed(temperature=lambda x: (x * 3).assign_attrs(x.attrs)),
    "units": changed(temperature=lambda x: x.assign_attrs(units="degC")),
    "no units": changed(temperature=lambda x: x.assign_attrs(units="")),
    "title": lambda x: x.assign_attrs(title="other weather"),
    "later": lambda x: x.assign_coords(time=x.time + np.timedelta64(6, "h")),
    "south to north": lambda x: x.assign_coords(latitude=x.latitude[::-1].values),
    "levels in Pa": lambda x: x.assign_coords(level=x.level * 100),
    "shifted longitudes": lambda x: x.assign_coords(longitude=x.longitude - 180),
    "order of levels": lambda x: x.isel(level=[1, 0]).assign_coords(level=x.level),
    "swapped names": lambda x: x.rename(temperature="geopotential"),
    "one variable less": lambda x: x.drop_vars("2m_temperature"),
    "float64": changed(temperature=lambda x: x.astype("f8")),
    "shorter": lambda x: x.isel(time=slice(TIMES - 1)),
}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("chunk", [1, 5, TIMES, 40])
@pytest.mark.parametrize("name", CHANGES)
def test_a_store_that_was_replaced_is_another(
    tmp_path: Path, name: str, chunk: int, zarr_format: Literal[2, 3]
) -> None:
    path = write(tmp_path / "era5.zarr", dataset(), chunk, zarr_format)
    before = described(path)
    assert described(path) == before
    write(path, CHANGES[name](dataset()), chunk, zarr_format)
    assert not same_content(before, described(path))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("chunk", [1, 5, TIMES, 40])
def test_a_store_that_has_grown_is_the_same(tmp_path: Path, chunk: int, zarr_format: Literal[2, 3]) -> None:
    path = write(tmp_path / "era5.zarr", dataset(), chunk, zarr_format)
    before = described(path)
    dataset(20).isel(time=slice(TIMES, None)).drop_vars(["level", "latitude", "longitude"]).to_zarr(
        path, append_dim="time", consolidated=zarr_format == 2
    )
    grown = described(path)
    assert (before["times"], grown["times"]) == (TIMES, 20)
    assert same_content(before, grown)
    assert not same_content(grown, before)
    write(path, at(3)(dataset(20)), chunk, zarr_format)
    assert not same_content(before, described(path))


def test_a_copy_elsewhere_is_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "era5.zarr", dataset(), 1, 2)
    shutil.copytree(path, tmp_path / "copy.zarr")
    assert same_content(described(path), described(tmp_path / "copy.zarr"))


def test_a_store_that_is_filled_step_by_step_is_the_same_and_a_mended_hole_is_not(tmp_path: Path) -> None:
    spec, grid = StateSpec(surface=("t2m",), upper=(), levels=()), Grid.gaussian(4)
    times = np.datetime64("2021-01-01", "h") + 6 * np.arange(9)
    values = np.random.default_rng(0).normal(280, 1, size=(9, 1, 4, 8))
    path = tmp_path / "analysis.zarr"
    create_store(path, times, spec, grid, {})
    write_states(path, 0, values[:3], spec)
    write_states(path, 4, values[4:5], spec)
    before = described(path)
    assert before["times"] == 5
    write_states(path, 5, values[5:], spec)
    assert same_content(before, described(path))
    write_states(path, 3, values[3:4], spec)
    assert not same_content(before, described(path))


def test_what_a_consolidated_copy_says_counts_too(tmp_path: Path) -> None:
    path = write(tmp_path / "era5.zarr", dataset(), 1, 2)
    before = described(path)
    metadata = path / ".zmetadata"
    metadata.write_text(metadata.read_text().replace('"units": "K"', '"units": "degC"'))
    assert not same_content(before, described(path))


def test_shards_count_as_chunks_do(tmp_path: Path) -> None:
    def make(values: np.ndarray) -> dict[str, Any]:
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
        group.create_array("t", data=values, chunks=(1, 4), shards=(4, 4), dimension_names=("time", "x"))
        return described(tmp_path / "a.zarr")

    values = np.random.default_rng(0).normal(size=(10, 4))
    before = make(values)
    assert same_content(before, make(np.concatenate([values, values])))
    values[9] += 1
    assert not same_content(before, make(values))


def test_few_bytes_of_a_long_store_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "era5.zarr", dataset(40), 1, 2)
    monkeypatch.setattr("vaevar.content.zarr_store._CHUNKS", 3)
    before = described(path)
    # What lies between the places that are looked at, and has the same size, cannot be noticed.
    for number, same in ((0, False), (5, True), (20, False), (39, False)):
        chunk = path / "temperature" / f"{number}.0.0.0"
        kept = chunk.read_bytes()
        chunk.write_bytes(bytes(reversed(kept)))
        assert same_content(before, described(path)) is same, number
        chunk.write_bytes(kept)


def test_what_is_damaged_has_no_digest(tmp_path: Path) -> None:
    path = write(tmp_path / "era5.zarr", dataset(), 1, 2)
    (path / "time" / ".zarray").write_text("{")
    (path / ".zmetadata").unlink()
    assert content_digest(str(path)) is None
    assert content_digest("gs://bucket/era5.zarr") is None
    assert isinstance(content_digest(str(tmp_path / "era5.zarr" / "level" / ".zattrs")), Digest)
