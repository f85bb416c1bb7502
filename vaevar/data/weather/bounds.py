"""How large the axes of a file or store claim to be, looked at before they are read.

Coordinates are read whole when a store is opened. A chunk that was never written takes no room on the disk,
so a file of a few kB may claim an axis of terabytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import zarr

from vaevar.errors import UserError

# Hours of a thousand years are fewer.
_LONGEST_AXIS = 10_000_000


def require_bounded_zarr(
    path: str | Path, store: zarr.storage.ZipStore | None = None, group: str | None = None
) -> None:
    """Refuse a zarr store with an axis that nobody has; what cannot be opened is left to who opens it.

    Args:
        path: of the store, for messages, and to open it.
        store, group: what to open instead.

    Raises:
        UserError: for an axis that is too long.
    """
    try:
        arrays = zarr.open_group(path if store is None else store, mode="r", path=group).arrays()
        sizes = {name: array.shape[0] for name, array in arrays if array.ndim == 1}
    except Exception:  # of many kinds
        return
    _require_bounded(path, sizes)


def require_bounded_netcdf(path: Path) -> None:
    """Refuse a netCDF file with an axis that nobody has; as :func:`require_bounded_zarr`.

    Raises:
        UserError: for an axis that is too long.
    """
    try:
        sizes = _dimensions(path)
    except Exception:  # of many kinds
        return
    _require_bounded(path, sizes)


def _dimensions(path: Path) -> dict[str, int]:
    try:
        import netCDF4
    except ImportError:
        import h5netcdf

        with h5netcdf.File(path) as file:
            return {name: dimension.size for name, dimension in file.dimensions.items()}
    with netCDF4.Dataset(path) as dataset:
        return {name: len(dimension) for name, dimension in dataset.dimensions.items()}


def _require_bounded(path: str | Path, sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        if size > _LONGEST_AXIS:
            raise UserError(
                f"{path}: its axis {name} claims {size} values, expected {_LONGEST_AXIS} at most: it is "
                "damaged, or no store of weather; fetch or make it again"
            )
