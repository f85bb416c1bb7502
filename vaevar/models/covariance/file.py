"""The netCDF file of statistics of a covariance: written whole, and checked when it is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import xarray as xr

from vaevar.content.kinds import what_is
from vaevar.errors import UserError, first_line
from vaevar.files import replacing
from vaevar.runs.expansion import expand_path
from vaevar.shipped import missing_weights
from vaevar.state import StateSpec

Statistics = TypeVar("Statistics")


@dataclass(frozen=True)
class FileKind:
    """A kind of file of statistics.

    Attributes:
        format: what its attribute of that name says.
        what: the statistics, for messages.
        command: what makes them, for messages.
    """

    format: str
    what: str
    command: str

    def write(self, dataset: xr.Dataset, path: str | Path) -> None:
        """Write a dataset with its format and checksum; the file appears whole or not at all."""
        dataset.attrs["format"] = self.format
        dataset.attrs["sha256"] = _digest(dataset)
        with replacing(Path(path)) as partial:
            dataset.to_netcdf(partial, engine="scipy", format="NETCDF3_64BIT")

    def read(self, path: str | Path, build: Callable[[xr.Dataset], Statistics]) -> Statistics:
        """Open and check a file, and make statistics of it.

        Args:
            path: of the file.
            build: raises ``ValueError`` or ``KeyError`` for a dataset that holds no such statistics.

        Raises:
            UserError: when the file is missing, damaged, or holds something else.
        """
        path = expand_path(str(path))
        if Path(path).is_dir():
            raise UserError(
                f"{path}: is a directory, where a file of {self.what} is expected; calibrate them with "
                f"{self.command}"
            )
        if not Path(path).is_file():
            raise UserError(
                f"{path}: no such {self.what}; calibrate them with {self.command}{missing_weights(path)}"
            )
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
        try:
            # From memory: the reader maps a file, and warns when it cannot close that of a damaged one.
            with xr.open_dataset(BytesIO(content), engine="scipy") as opened:
                dataset = opened.load()
        except Exception as error:  # the reader raises exceptions of many kinds; each means "no such file"
            if content.startswith((b"CDF\x01", b"CDF\x02")):
                raise UserError(
                    f"{path}: cut short, or damaged in another way ({first_line(error)}); calibrate again "
                    f"with {self.command}"
                ) from None
            raise UserError(
                f"{path}: cannot be read as {self.what}, a file of netCDF 3: it is {what_is(path)}; "
                f"calibrate them with {self.command}"
            ) from None
        found = dataset.attrs.get("format")
        if found != self.format:
            raise UserError(
                f"{path}: holds the format {found!r}, expected {self.format!r}; calibrate with {self.command}"
            )
        try:
            statistics = build(dataset)
        except (ValueError, KeyError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{path}: damaged ({reason}); calibrate again with {self.command}") from None
        if dataset.attrs.get("sha256", digest := _digest(dataset)) != digest:
            raise UserError(
                f"{path}: damaged, its checksum does not match; calibrate again with {self.command}"
            )
        return statistics


def spec_attributes(spec: StateSpec) -> dict[str, str]:
    """The attributes of a file that say of which channels it is."""
    return {
        "surface": " ".join(spec.surface),
        "upper": " ".join(spec.upper),
        "levels_hPa": " ".join(str(level) for level in spec.levels),
    }


def spec_of(dataset: xr.Dataset) -> StateSpec:
    """The channels that :func:`spec_attributes` wrote."""
    return StateSpec(
        dataset.attrs["surface"].split(),
        dataset.attrs["upper"].split(),
        [int(level) for level in dataset.attrs["levels_hPa"].split()],
    )


def require_variables(dataset: xr.Dataset, names: Iterable[str]) -> None:
    """Check that a file has all that it needs.

    Raises:
        ValueError: when it lacks some.
    """
    if missing := [name for name in names if name not in dataset.variables]:
        raise ValueError(f"lacks {', '.join(missing)}")


def require_labels(dataset: xr.Dataset, expected: dict[str, tuple[str, ...]]) -> None:
    """Check the labels of a file against those that its channels have; units may be absent.

    Raises:
        ValueError: when a label is another.
    """
    for name, labels in expected.items():
        if name.endswith("_units") and name not in dataset.variables:
            continue
        found = tuple(str(label) for label in dataset[name].values)
        if found != labels:
            raise ValueError(f"{name} is {', '.join(found)}, expected {', '.join(labels)}")


def _digest(dataset: xr.Dataset) -> str:
    """SHA-256 of all numbers of a file, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(map(str, dataset.variables)):
        if (values := dataset[name].values).dtype.kind in "fiu":
            total.update(name.encode() + np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data)
    return total.hexdigest()
