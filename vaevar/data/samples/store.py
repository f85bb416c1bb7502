"""Samples to learn from, opened for reading: the one reader of every store, however it was made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
import zarr
from torch import Tensor
from torch.utils.data import Dataset

from vaevar.content.seal import SEAL
from vaevar.data.checksums import seal_is_broken
from vaevar.data.observations.coverage import MAPS
from vaevar.data.samples.layout import RECORD_A_CYCLE, SCALED, SEALED, STATISTICS, check_format
from vaevar.data.samples.reader import ItemReader
from vaevar.data.weather.bounds import require_bounded_zarr
from vaevar.errors import UserError
from vaevar.moments import std_by_latitude
from vaevar.plausible.statistics import judge_error_means, judge_error_stds, judge_means, judge_stds
from vaevar.sphere.grid import Grid
from vaevar.state import SURFACE_VARIABLES, StateSpec

# Between the sizes of one sample and of all of them there is less.
_UNLIKE = 64.0
_LONGEST_LEAD = 24 * 30  # hours; beyond it, no forecast knows the weather
_COORDINATES = ("time", "lead", "channel", "latitude", "longitude")


class SampleStore(Dataset[tuple[Tensor, ...]]):
    """A store of :mod:`vaevar.data.samples.layout` at one lead time: a dataset in the order of time.

    Args:
        path: the zarr store.
        fields: what a sample has, in this order: ``error``, ``background``, ``coverage``.
        lead_hours: age of the backgrounds. None: the store's only one.
        in_memory: read everything now. False: read each sample when it is asked for.

    Attributes:
        attributes: how the samples were made.
        spec, grid: the C channels and the H × W points.
        times: [N] datetime64[ns], valid times.
        lead_hours: age of the backgrounds.
        statistics: float32 tensors, physical units: ``error_mean``, ``error_std``, ``error_rms`` [C] and
            ``zonal_error_std`` [C, H]; with backgrounds also ``background_mean``, ``background_std`` [C].

    Raises:
        UserError: when the store is missing, unreadable, damaged, incomplete or in another format, lacks a
            field or the lead, or has statistics that no errors or backgrounds have.
    """

    def __init__(
        self,
        path: str | Path,
        fields: Sequence[str] = ("error",),
        lead_hours: int | None = None,
        in_memory: bool = False,
    ) -> None:
        self.path, self.fields = Path(path), tuple(fields)
        if not self.path.is_dir():
            raise UserError(
                f"{path}: no such store of samples; make one with `making` in the config, or record a cycle: "
                f"{RECORD_A_CYCLE}"
            )
        self.attributes = check_format(self.path)
        require_bounded_zarr(self.path)
        try:
            dataset = xr.open_zarr(path, chunks=None)
        except Exception as error:  # zarr raises many kinds; each means "not readable"
            raise UserError(f"{path}: cannot be opened as a zarr store ({error})") from None
        absent = [name for name in fields if name not in dataset]
        if absent:
            scheme = self.attributes.get("scheme")
            raise UserError(f"{path}: lacks {' and '.join(absent)} ({scheme}); use other samples")
        needed = [n for n in STATISTICS if "background" in dataset or not n.startswith("background")]
        missing = [name for name in (*_COORDINATES, *needed) if name not in dataset.variables]
        if missing:
            raise UserError(f"{path}: lacks {', '.join(missing)}; delete it and make it again")
        try:
            loaded = dataset[[*_COORDINATES, *needed, *(("units",) if "units" in dataset else ())]].load()
        except Exception as error:  # codecs raise many kinds; each means "damaged"
            raise UserError(f"{path}: damaged ({error}); delete it and make it again") from None
        self.spec = _spec(path, loaded)
        try:
            self.grid = Grid(loaded["latitude"].values, loaded["longitude"].values)
        except ValueError as error:
            raise UserError(f"{path}: {error}; delete it and make it again") from None
        leads = loaded["lead"].values.tolist()
        if lead_hours is None and len(leads) > 1:
            raise UserError(f"{path}: holds leads of {leads} h; choose one with lead_hours")
        self.lead_hours = leads[0] if lead_hours is None else lead_hours
        if self.lead_hours not in leads:
            raise UserError(f"{path}: holds leads of {leads} h, not {lead_hours} h")
        if not 0 < self.lead_hours <= _LONGEST_LEAD:
            raise UserError(
                f"{path}: a lead of {self.lead_hours} h, expected 1 to {_LONGEST_LEAD}; make it again"
            )
        lead = leads.index(self.lead_hours)
        initial = loaded["time"].values.astype("datetime64[ns]")
        self.times = initial + np.timedelta64(self.lead_hours, "h")
        if not len(initial) or (np.diff(initial) <= np.timedelta64(0, "ns")).any():
            raise UserError(f"{path}: its times do not ascend; delete it and make it again")
        values = self._checked({name: loaded[name].values for name in needed}, lead)
        self._require_unchanged()
        self._scales = {
            name: (
                values[f"{name}_scale"],
                values.get(f"{name}_offset", torch.zeros((), dtype=torch.float64)),
            )
            for name in SCALED
            if name in dataset
        }
        self.statistics = {
            name: value.float() for name, value in values.items() if name.endswith(("mean", "std", "rms"))
        }
        self._readers = [self._open(name, lead, in_memory) for name in fields]

    def _checked(self, arrays: dict[str, np.ndarray], lead: int) -> dict[str, Tensor]:
        """Scales and statistics of one lead, float64."""
        values = {}
        for name, array in arrays.items():
            values[name] = torch.from_numpy(array[lead] if STATISTICS[name][0] == "lead" else array)
            if not bool(values[name].isfinite().all()):
                raise UserError(f"{self.path}: {name} is not finite: the store is incomplete; make it again")
        values["error_rms"] = (values["error_mean"].square() + values["error_std"].square()).sqrt()
        for name in ("error_scale", "error_rms", "background_scale", "background_std"):
            if name in values:
                self._require_positive(name, values[name])
        for scale, size in (("error_scale", "error_rms"), ("background_scale", "background_std")):
            if scale in values:
                self._require_alike(scale, values[scale], size, values[size])
        self._judge(values)
        return values

    def _judge(self, values: dict[str, Tensor]) -> None:
        """Refuse errors that are none, and backgrounds that are no weather."""
        judges = {
            "error_mean": judge_error_means,
            "error_rms": judge_error_stds,
            "background_mean": judge_means,
            "background_std": judge_stds,
        }
        for name, judge in judges.items():
            if name in values:
                judge(f"{self.path}: {name}", values[name].numpy(), self.spec)

    def _require_unchanged(self) -> None:
        try:
            changed = seal_is_broken(self.path, SEALED)
        except Exception as error:  # codecs raise many kinds; each means "damaged"
            raise UserError(f"{self.path}: damaged ({error}); delete it and make it again") from None
        if changed:
            raise UserError(
                f"{self.path}: its statistics, coordinates or checksums are not what it was made with: "
                f"something was changed since; make it again, or remove its attribute {SEAL} and its arrays "
                "..._checksum if the change is meant"
            )

    def _require_positive(self, name: str, values: Tensor) -> None:
        wrong = [label for label, value in zip(self.spec.names, values, strict=True) if not value > 0]
        if wrong:
            raise UserError(
                f"{self.path}: {name} is not positive for {', '.join(wrong)}; delete it and make it again"
            )

    def _require_alike(self, scale: str, scales: Tensor, size: str, sizes: Tensor) -> None:
        """Scales were taken from the first sample; one of 1 stands for a field without a size there."""
        ratio = sizes / scales
        wrong = (scales != 1) & ((ratio > _UNLIKE) | (ratio < 1 / _UNLIKE))
        if bool(wrong.any()):
            number = int(wrong.int().argmax())
            raise UserError(
                f"{self.path}: {scale} of {self.spec.names[number]} is {scales[number]:.3g}, far from its "
                f"{size} of {sizes[number]:.3g}: one of them is of another channel or damaged; make the "
                "store again"
            )

    def _open(self, name: str, lead: int, in_memory: bool) -> ItemReader:
        try:
            within, sums = ((lead,) if name in SCALED else ()), self.path / f"{name}_checksum"
            checksums = np.asarray(zarr.open_array(sums, mode="r")[...]) if sums.is_dir() else None
            if checksums is not None and name in SCALED:
                checksums = checksums[:, lead]
            reader = ItemReader(self.path / name, within, checksums)
        except Exception as error:  # zarr raises many kinds; each means "not readable"
            raise UserError(f"{self.path}: {name} cannot be opened ({error})") from None
        maps = len(self.spec) if name in SCALED else MAPS
        shape = (len(reader), *reader.shape)
        if shape != (len(self.times), maps, *self.grid.shape):
            raise UserError(
                f"{self.path}: {name} is {shape}, expected {(len(self.times), maps, *self.grid.shape)}; "
                "delete it and make it again"
            )
        if in_memory:
            reader.hold()
        return reader

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """One sample: each field as stored, float16."""
        return tuple(field[0] for field in self.__getitems__([index]))

    def __getitems__(self, indexes: list[int]) -> tuple[Tensor, ...]:
        """Samples at once: each field as stored, [B, ...] float16. Threads may call this."""
        return tuple(reader.read(indexes) for reader in self._readers)

    def decode(
        self,
        name: str,
        stored: Tensor,
        mean: Tensor | float = 0.0,
        std: Tensor | float = 1.0,
    ) -> Tensor:
        """Stored values to (physical value − mean) / std, on their device.

        Args:
            name: the field, ``error`` or ``background``.
            stored: [..., C, H, W] float16.
            mean, std: physical units; broadcast against [C, H, W]. By default the result is physical.

        Returns:
            [..., C, H, W] float32.
        """
        scale, offset = (value.reshape(-1, 1, 1) for value in self._scales[name])  # float64
        factor, shift = (value.float().to(stored.device) for value in (scale / std, (offset - mean) / std))
        return stored.float() * factor + shift

    def error_std_by_latitude(self, floor: float) -> Tensor:
        """The errors' standard deviation at each latitude.

        Args:
            floor: the least value, as a fraction of the standard deviation over the sphere; from 1 on, the
                latter at all latitudes.

        Returns:
            [C, H, 1], physical units.

        Raises:
            UserError: when a channel's standard deviation is zero.
        """
        overall, zonal = self.statistics["error_std"], self.statistics["zonal_error_std"]
        self._require_positive("error_std", overall)
        return std_by_latitude(overall, zonal, floor)

    def split_in_time(self, validation_fraction: float, gap_hours: int) -> tuple[range, range]:
        """Numbers of the training and of the validation samples, a gap apart.

        Args:
            validation_fraction: of the samples, at the end.
            gap_hours: between the last training and the first validation sample.

        Raises:
            UserError: when a part would be empty.
        """
        count = len(self)
        first = count - round(validation_fraction * count)
        before_gap = self.times[min(first, count - 1)] - np.timedelta64(gap_hours, "h")
        last = min(int(np.searchsorted(self.times, before_gap, "right")), first)
        if last < 1 or first >= count:
            raise UserError(
                f"{self.path}: {count} samples leave {max(last, 0)} for training and {count - first} for "
                "validation; lengthen the period or change validation_fraction"
            )
        return range(last), range(first, count)


def _spec(path: str | Path, dataset: xr.Dataset) -> StateSpec:
    """The channels, from their names."""
    names = tuple(str(name) for name in dataset["channel"].values)
    surface = [name for name in names if name in SURFACE_VARIABLES]
    upper = [match for name in names[len(surface) :] if (match := re.fullmatch(r"([a-z]+)(\d+)", name))]
    try:
        variables, levels = (dict.fromkeys(match[group] for match in upper) for group in (1, 2))
        spec = StateSpec(surface, tuple(variables), [int(level) for level in levels])
    except ValueError as error:
        raise UserError(f"{path}: its channels are {', '.join(names)} ({error})") from None
    if spec.names != names:
        raise UserError(f"{path}: its channels are {', '.join(names)}, an order that no state has")
    units = [channel.units for channel in spec.channels]
    found = [str(unit) for unit in dataset["units"].values] if "units" in dataset.variables else units
    if found != units:
        raise UserError(f"{path}: its units are {', '.join(found)}, expected {', '.join(units)}")
    return spec
