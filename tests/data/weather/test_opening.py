"""Files of every form: read, or named for what they are; never "no such" for one that is there."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from tests.data.weather.worlds import GRID, SPEC, TIMES, dataset, message_of, truth, write
from vaevar.data.weather.holes import holes
from vaevar.data.weather.store import StoreSource, WeatherStore
from vaevar.state import StateSpec


def reads_as_the_world(path: Path | str) -> None:
    source = StoreSource(str(path))
    source.prepare(TIMES[0], TIMES[-1])
    store = source.open(SPEC)
    assert store.grid == GRID
    np.testing.assert_array_equal(store.read(TIMES[[3, 1]]), truth()[[3, 1]])
    np.testing.assert_array_equal(store.read(TIMES), truth())
    assert holes(store, TIMES) == {}


def netcdf4() -> str:
    return next((name for name in ("h5netcdf", "netcdf4") if name in xr.backends.list_engines()), "")


# --- what is read ---------------------------------------------------------------------------------


def test_netcdf_of_both_formats(tmp_path: Path) -> None:
    dataset().to_netcdf(tmp_path / "classic.nc", engine="scipy")
    reads_as_the_world(tmp_path / "classic.nc")
    if engine := netcdf4():
        dataset().to_netcdf(tmp_path / "four.nc", engine=engine)
        reads_as_the_world(tmp_path / "four.nc")
        # The form is in the file, not in its name.
        reads_as_the_world((tmp_path / "four.nc").rename(tmp_path / "four.zarr"))


def test_numbers_with_their_bytes_in_another_order(tmp_path: Path) -> None:
    ds = dataset()
    for name in ds.data_vars:
        ds[name] = ds[name].astype(">f4")
        ds[name].encoding["dtype"] = ">f4"
    for zarr_format in (2, 3):
        write(ds, tmp_path / f"v{zarr_format}.zarr", zarr_format=zarr_format, consolidated=False)
        reads_as_the_world(tmp_path / f"v{zarr_format}.zarr")
    if engine := netcdf4():
        ds.to_netcdf(tmp_path / "four.nc", engine=engine)
        reads_as_the_world(tmp_path / "four.nc")


def huge_zarr(path: Path, axis: str) -> None:
    write(dataset(), path)
    shutil.rmtree(path / axis)
    array = zarr.open_group(path, mode="r+", use_consolidated=False).create_array(
        axis, shape=(10**12,), chunks=(10**6,), dtype="f8"
    )
    array.attrs["_ARRAY_DIMENSIONS"] = [axis]
    zarr.consolidate_metadata(path)


@pytest.mark.parametrize("axis", ["time", "latitude"])
def test_an_axis_of_terabytes_is_refused_before_it_is_read(tmp_path: Path, axis: str) -> None:
    paths = [tmp_path / "huge.zarr"]
    huge_zarr(paths[0], axis)
    paths.append(Path(shutil.make_archive(str(tmp_path / "huge.zarr"), "zip", paths[0])))
    if netcdf4() == "h5netcdf":
        import h5netcdf

        paths.append(tmp_path / "huge.nc")
        with h5netcdf.File(paths[-1], "w") as file:
            file.dimensions = {axis: 10**12}
            file.create_variable(axis, (axis,), "f8", chunks=(1024,))
    for path in paths:
        assert path.stat().st_size < 10**6
        text = message_of(lambda path=path: WeatherStore(path, SPEC), path)  # type: ignore[misc]
        assert f"its axis {axis} claims 1000000000000 values, expected 10000000 at most" in text


def test_netcdf_as_the_cds_gives_it_but_for_the_names(tmp_path: Path) -> None:
    ds = dataset().isel(level=slice(None, None, -1)).rename(time="valid_time", level="pressure_level")
    ds = ds.assign_coords(
        number=0, expver="0001", pressure_level=("pressure_level", [850.0, 500.0, 200.0], {"units": "hPa"})
    )
    ds.to_netcdf(tmp_path / "cds.nc", engine="scipy")
    reads_as_the_world(tmp_path / "cds.nc")


def test_several_netcdf_files(tmp_path: Path) -> None:
    for number, part in enumerate((slice(0, 2), slice(2, 5))):
        dataset().isel(time=part).to_netcdf(tmp_path / f"month_{number}.nc", engine="scipy")
    reads_as_the_world(f"{tmp_path}/month_*.nc")
    for name in ("2m_temperature", "mean_sea_level_pressure"):
        dataset()[[name]].to_netcdf(tmp_path / f"by_{name}.nc", engine="scipy")
    dataset()[["geopotential", "temperature"]].to_netcdf(tmp_path / "by_upper.nc", engine="scipy")
    reads_as_the_world(f"{tmp_path}/by_*.nc")


@pytest.mark.parametrize("options", [{"zarr_format": 2}, {"zarr_format": 3, "consolidated": False}], ids=str)
@pytest.mark.parametrize("inside", [".", "era5.zarr", "data/era5.zarr"])
def test_a_zipped_store(tmp_path: Path, options: dict, inside: str) -> None:
    root = tmp_path / "root" / inside
    root.parent.mkdir(parents=True, exist_ok=True)
    write(dataset(), root, **options)
    reads_as_the_world(shutil.make_archive(str(tmp_path / "era5.zarr"), "zip", tmp_path / "root"))


def test_a_link_to_a_store(tmp_path: Path) -> None:
    write(dataset(), tmp_path / "store.zarr")
    (tmp_path / "link").symlink_to(tmp_path / "store.zarr")
    reads_as_the_world(tmp_path / "link")


# --- what is named --------------------------------------------------------------------------------


def tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("era5.zarr/.zgroup"))
    return content.getvalue()


FILES = {
    "GRIB": (b"GRIB\x00\x01\x02\x02" + bytes(50), "a GRIB file: convert it with xarray"),
    "BUFR": (b"BUFR" + bytes(50), "a BUFR file of observations"),
    "a pointer of Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
        "a pointer of Git LFS, not the file itself: fetch it with git lfs pull",
    ),
    "a web page": (b"\n<!DOCTYPE html><html>404", "a web page or XML ('<!DOCTYPE html><html>404')"),
    "an error of a bucket": (b"<?xml version='1.0'?><Error>", "as a failed download leaves: fetch it again"),
    "JSON": (b'{"version": 1, "refs": {}}', "a JSON file; one of kerchunk's"),
    "text": ("λ = 3, not a store".encode(), "a text file, which begins with 'λ = 3, not a store'"),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), "a gzip archive: unpack it"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(20), "a zstd archive: unpack it"),
    "bzip2": (b"BZh91AY" + bytes(20), "a bzip2 archive"),
    "xz": (b"\xfd7zXZ\x00" + bytes(20), "an xz archive"),
    "tar": (tar(), "a tar archive: unpack it with tar -xf"),
    "numpy": (b"\x93NUMPY\x01\x00", "a .npy file, which names neither times nor channels"),
    "Parquet": (b"PAR1" + bytes(20), "a Parquet file"),
    "HDF4": (b"\x0e\x03\x13\x01" + bytes(20), "an HDF4 file"),
    "nothing": (b"", "an empty file: fetch or make it again"),
    "anything": (b"\x00\x01\x02\xff" * 300, "a file of no form known here"),
    "a damaged zip": (b"PK\x03\x04" + bytes(40), "cannot be opened as a zip archive"),
    "a netCDF file cut short": (b"CDF\x01" + bytes(3), "cannot be opened as a netCDF file"),
    "HDF5 cut short": (b"\x89HDF\r\n\x1a\n" + bytes(20), "netCDF"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_another_form_is_named(tmp_path: Path, kind: str) -> None:
    content, says = FILES[kind]
    path = tmp_path / "era5.zarr"
    path.write_bytes(content)
    for call in (
        lambda: WeatherStore(path, SPEC),
        lambda: StoreSource(str(path)).prepare(TIMES[0], TIMES[1]),
    ):
        text = message_of(call, path)
        assert says in text
        assert "no such" not in text


def test_a_netcdf4_file_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "era5.nc"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    monkeypatch.setattr(xr.backends, "list_engines", lambda: {"scipy": None, "zarr": None})
    text = message_of(lambda: WeatherStore(path, SPEC), path)
    assert "a netCDF-4 (HDF5) file, for which a library is missing: pip install netCDF4" in text


def test_zip_archives_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "era5.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("era5.nc", b"CDF\x01")
    assert "a zip archive of 0 zarr stores (it holds era5.nc)" in message_of(
        lambda: WeatherStore(path, SPEC), path
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.zarr", "b.zarr"):
            archive.writestr(f"{name}/.zgroup", '{"zarr_format": 2}')
    assert "a zip archive of 2 zarr stores (it holds a.zarr, b.zarr), expected one" in message_of(
        lambda: WeatherStore(path, SPEC), path
    )


def test_directories_of_something_else(tmp_path: Path) -> None:
    def says(*names: str) -> str:
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text("{}")
        path.mkdir(exist_ok=True)
        return message_of(lambda: WeatherStore(path, SPEC), path).replace(str(path), "HERE")

    assert "; it is an empty directory" in says()
    assert "; it is a directory of netCDF files: give HERE/*.nc" in says("a.nc", "b.nc")
    assert "; it is a directory that holds stores: give HERE/era5.zarr" in says("era5.zarr/.zgroup")
    assert "; it is an icechunk repository" in says("snapshots/1", "manifests/1", "refs/main")
    assert "without .zgroup or zarr.json (it holds readme)" in says("readme")


def test_patterns_of_nothing_and_of_what_does_not_belong_together(tmp_path: Path) -> None:
    pattern = tmp_path / "*.nc"
    assert "no file has such a name" in message_of(lambda: WeatherStore(pattern, SPEC), pattern)
    dataset().isel(time=slice(0, 2)).to_netcdf(tmp_path / "a.nc", engine="scipy")
    dataset().isel(time=slice(2, 4), latitude=slice(0, 3)).to_netcdf(tmp_path / "b.nc", engine="scipy")
    assert "the files must differ only in their times or in their variables" in message_of(
        lambda: WeatherStore(pattern, SPEC), pattern
    )
    (tmp_path / "b.nc").write_text("no netCDF")
    bad = tmp_path / "b.nc"
    assert "a text file, which begins with 'no netCDF'" in message_of(
        lambda: WeatherStore(pattern, SPEC), bad
    )


def test_some_channels_of_a_file(tmp_path: Path) -> None:
    dataset()[["2m_temperature"]].to_netcdf(tmp_path / "t2m.nc", engine="scipy")
    spec = StateSpec(("t2m",), ())
    np.testing.assert_array_equal(WeatherStore(tmp_path / "t2m.nc", spec).read(TIMES), truth()[:, 1:2])
