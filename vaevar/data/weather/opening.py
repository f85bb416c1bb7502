"""Opens the file or directory that holds weather: zarr, also zipped, and netCDF.

Anything else is named for what it is. What the fields and coordinates in it mean is not looked at here.
"""

from __future__ import annotations

import glob
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import xarray as xr
import zarr

from vaevar.content.kinds import of_beginning
from vaevar.data.weather.bounds import require_bounded_netcdf, require_bounded_zarr
from vaevar.errors import UserError, first_line
from vaevar.shipped import missing_weights

_GROUP_FILES = (".zgroup", "zarr.json")
_CONVERT = "convert it with xarray, xr.open_dataset(...).to_zarr(...)"


def open_weather(path: str | Path) -> xr.Dataset:
    """Open a store lazily, whatever its form.

    Args:
        path: a zarr store (a directory, a ``.zip`` of one, or anything fsspec opens), a netCDF file, or
            several netCDF files by a pattern such as ``era5/*.nc``.

    Raises:
        UserError: when it is missing, unreadable or of another form, which is named.
    """
    text = str(path)
    if "://" in text or Path(text).is_dir():
        return open_zarr(path)
    if Path(text).is_file():
        return _open_file(Path(text))
    if glob.has_magic(text):
        return _open_several(text)
    raise UserError(
        f"{path}: no such zarr store or netCDF file; check the path in your config{missing_weights(path)}"
    )


def open_zarr(path: str | Path) -> xr.Dataset:
    """Open a zarr store lazily.

    Raises:
        UserError: when it is missing or unreadable.
    """
    if "://" not in str(path) and not Path(path).is_dir():
        raise UserError(f"{path}: no such zarr store; check the path in your config")

    def read() -> xr.Dataset:
        with warnings.catch_warnings():
            # A store without consolidated metadata is only slower to open.
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated", RuntimeWarning)
            return xr.open_zarr(path, chunks=None, decode_timedelta=True)

    remote = "://" in str(path)
    if not remote:
        require_bounded_zarr(path)
    hint = "" if remote else _of_directory(Path(path))
    return _opened(path, "a zarr store", read, hint)


def _opened(path: str | Path, form: str, read: Callable[[], xr.Dataset], hint: str = "") -> xr.Dataset:
    try:
        return read()
    except UserError:
        raise
    except Exception as error:  # zarr, fsspec and the codecs raise many kinds; all mean "not readable"
        raise UserError(f"{path}: cannot be opened as {form} ({first_line(error)}){hint}") from None


def _open_file(path: Path) -> xr.Dataset:
    with path.open("rb") as file:
        beginning = file.read(1024)
    if beginning.startswith(b"PK\x03\x04"):
        return _open_zip(path)
    if beginning.startswith((b"CDF", b"\x89HDF\r\n\x1a\n")):
        return _open_netcdf(path, beginning)
    raise UserError(f"{path}: {_kind_of(beginning)}; expected a zarr store or a netCDF file")


def _open_zip(path: Path) -> xr.Dataset:
    """A zarr store that was zipped, as it is or with its directory."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [PurePosixPath(name) for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: cannot be opened as a zip archive ({first_line(error)})") from None
    groups = {name.parent for name in names if name.name in _GROUP_FILES}
    least = min((len(group.parts) for group in groups), default=0)
    roots = sorted(str(group) for group in groups if len(group.parts) == least)
    if len(roots) != 1:
        holds = ", ".join(sorted({name.parts[0] for name in names if name.parts})[:5]) or "nothing"
        raise UserError(
            f"{path}: a zip archive of {len(roots)} zarr stores (it holds {holds}), expected one; unpack it"
        )
    group = None if roots[0] == "." else roots[0]

    def read() -> xr.Dataset:
        store = zarr.storage.ZipStore(path, mode="r")
        require_bounded_zarr(path, store, group)
        # Consolidated metadata are looked for at the root of the archive only.
        return xr.open_zarr(store, group=group, consolidated=False, chunks=None, decode_timedelta=True)

    return _opened(path, "a zipped zarr store", read)


def _open_netcdf(path: Path, beginning: bytes) -> xr.Dataset:
    # Without the library that reads netCDF-4, xarray's own list of engines says nothing about the file.
    if not beginning.startswith((b"CDF\x01", b"CDF\x02")) and not _reads_netcdf4():
        raise UserError(
            f"{path}: a netCDF-4 (HDF5) file, for which a library is missing: pip install netCDF4, or "
            f"{_CONVERT}"
        )
    require_bounded_netcdf(path)
    return _opened(path, "a netCDF file", lambda: xr.open_dataset(path, **_options()))


def _open_several(pattern: str) -> xr.Dataset:
    """NetCDF files that continue each other in time, or each hold some of the variables."""
    paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise UserError(f"{pattern}: no file has such a name; check the path in your config")
    for path in paths:
        # Each is looked at by itself first: its own fault is told with its own name.
        _open_file(Path(path)).close()
    options: dict[str, Any] = {"combine": "by_coords", "join": "exact", "combine_attrs": "drop_conflicts"}
    options |= {"data_vars": "minimal", "coords": "minimal", "compat": "equals"}

    def read() -> xr.Dataset:
        return xr.open_mfdataset(paths, **options, **_options())

    hint = "; the files must differ only in their times or in their variables"
    return _opened(pattern, f"{len(paths)} netCDF files", read, hint)


def _options() -> dict[str, Any]:
    return {"decode_timedelta": True, "cache": False}


def _reads_netcdf4() -> bool:
    return bool({"netcdf4", "h5netcdf"} & set(xr.backends.list_engines()))


def _of_directory(path: Path) -> str:
    """What a directory that is no zarr store seems to be, with what to do; empty where nothing shows it."""
    names = sorted(entry.name for entry in path.iterdir())
    stores = [name for name in names if any((path / name / group).is_file() for group in _GROUP_FILES)]
    if any(name in (*_GROUP_FILES, ".zmetadata") for name in names):
        return ""
    if {"snapshots", "manifests"} <= set(names):
        return "; it is an icechunk repository: write the version that you need to a zarr store with xarray"
    if any(name.endswith(".nc") for name in names):
        return f"; it is a directory of netCDF files: give {path}/*.nc"
    if stores:
        return f"; it is a directory that holds stores: give {path / stores[0]}"
    if not names:
        return "; it is an empty directory"
    return f"; it is a directory without .zgroup or zarr.json (it holds {', '.join(names[:3])})"


# What to do with files that people take for stores.
_ADVICE = {
    b"GRIB": f": {_CONVERT} and the engine cfgrib",
    b"\x0e\x03\x13\x01": f": {_CONVERT}",
    b"\x93NUMPY": ", which names neither times nor channels",
}


def _kind_of(beginning: bytes) -> str:
    """What a file is that begins so."""
    if (kind := of_beginning(beginning)) is not None:
        return kind + next((text for magic, text in _ADVICE.items() if beginning.startswith(magic)), "")
    if beginning[257:262] == b"ustar":
        return "a tar archive: unpack it with tar -xf"
    if not beginning:
        return "an empty file: fetch or make it again"
    try:
        text = beginning.decode("utf-8", errors="strict" if len(beginning) < 1024 else "ignore").strip()
    except UnicodeDecodeError:
        text = ""
    if text[:1] == "<":
        begins = " ".join(text.split())[:40]
        return f"a web page or XML ({begins!r}), as a failed download leaves: fetch it again"
    if text[:1] == "{":
        return (
            "a JSON file; one of kerchunk's is opened by an address: reference://?fo=FILE does it in fsspec"
        )
    if text.isprintable() or (text and "\x00" not in text):
        return f"a text file, which begins with {' '.join(text.split())[:40]!r}"
    return "a file of no form known here"
