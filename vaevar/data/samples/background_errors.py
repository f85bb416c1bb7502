"""Background errors for training: a LightningDataModule that streams them, built on first need.

float16 fields go from the store (or memory) to the device as they are, and become float32 in units
of each channel's error standard deviation there.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from vaevar.batch_random import generator_of, shared_integers, shared_signs
from vaevar.data.samples.module import ForecastSamples, SampleStore, std_by_latitude
from vaevar.data.samples.nmc import BackgroundErrorMaking
from vaevar.data.samples.reader import HeldItems, ItemReader
from vaevar.data.weather.store import Source
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.sphere.grid import Grid


class BackgroundErrorStore(SampleStore[Tensor]):
    """The samples of a store made by :func:`vaevar.data.samples.nmc.BackgroundErrorMaking`.

    Args:
        path: the zarr store.
        in_memory: read everything now; otherwise each sample when it is asked for.

    Attributes:
        names: channel names, in order.
        grid: the H × W points.
        times: [N] datetime64[ns], valid times.
        scale: [C] float32: a sample times ``scale`` is physical.
        error_std: [C] float32, physical units.
        zonal_error_std: [C, H] float32, physical units.

    Raises:
        UserError: when it is missing, unreadable, incomplete, or no such store.
    """

    def __init__(self, path: str | Path, in_memory: bool = False) -> None:
        if not Path(path).is_dir():
            raise UserError(f"{path}: no such store of background errors")
        try:
            dataset = xr.open_zarr(path, chunks=None)
        except Exception as error:  # zarr raises many kinds; each means "not readable"
            raise UserError(f"{path}: cannot be opened as a zarr store ({error})") from None
        needed = (
            "background_error", "scale", "error_std", "zonal_error_std", "channel", "time", "latitude",
            "longitude",
        )  # fmt: skip
        missing = [name for name in needed if name not in dataset.variables]
        if missing:
            raise UserError(f"{path}: lacks {', '.join(missing)}; it is no store of background errors")
        self.names = tuple(str(name) for name in dataset["channel"].values)
        self.grid = Grid(dataset["latitude"].values, dataset["longitude"].values)
        self.times = dataset["time"].values.astype("datetime64[ns]")
        self.scale = torch.from_numpy(dataset["scale"].values.astype(np.float32))
        self.error_std = torch.from_numpy(dataset["error_std"].values.astype(np.float32))
        self.zonal_error_std = torch.from_numpy(dataset["zonal_error_std"].values.astype(np.float32))
        for name, values in (("scale", self.scale), ("error_std", self.error_std)):
            wrong = [n for n, value in zip(self.names, values, strict=True) if not 0 < value < np.inf]
            if wrong:
                raise UserError(
                    f"{path}: {name} is not positive for {', '.join(wrong)}; delete the store to make it anew"
                )
        reader = ItemReader(f"{path}/background_error")
        self._errors = HeldItems(reader) if in_memory else reader

    def __getitems__(self, indexes: list[int]) -> Tensor:
        """[B, C, H, W] float16, in units of ``scale``."""
        return self._errors.read(indexes)


class BackgroundErrors(ForecastSamples[BackgroundErrorStore]):
    """Background errors by the NMC method, normalised, in shuffled batches [B, C, H, W].

    Args:
        source: states that the forecasts start from.
        forecaster: makes the forecasts; its channels and grid are those of the errors.
        path: where the store of errors is, or will be built on first need.
        start, end: first and last state used, such as ``2019-12-01T00``.
        every_hours: between initial times; a divisor of 24.
        rollout_batch_size: initial times rolled out together while building.
        validation_fraction: of the samples, kept for validation: one block at the end, never a
            random choice, since neighbours in time are alike.
        gap_hours: between the last training and the first validation sample.
        batch_size: samples per batch (and per device).
        workers: threads that read ahead; 0 reads when a batch is asked for.
        in_memory: hold all samples in memory (float16: 636 kB each on 48 × 96 with 69 channels).
        flip_sign: augmentation: x -> −x for half of the samples. Plausible: a difference of two
            forecasts is about as likely as its opposite.
        roll_longitude: augmentation: roll each sample by a random number of columns, a multiple of
            this; 0 for none. Crude: errors over orography, and land and sea, differ.
        zonal_floor: samples are divided by their standard deviation at each latitude, but by no less
            than this fraction of that of the whole sphere, since what is far smaller there is of no
            interest; from 1 on, the same for all latitudes (as published).
        coarsen_to: keep the errors on a Gaussian grid of so many rows and columns, as means over its cells;
            [128, 256] is 1.40625° and carries T127. By default they stay on the forecaster's grid.
        samples_per_file: from 2 on the store is of zarr v3, and so many samples share a file: 20 000 files
            are slow to list and to copy. They are held in memory until all of them are there, and a
            kill loses no more.
        seed: of the shuffling and the augmentation.

    Attributes:
        spec, grid: the channels and points.
        error_std: [C, H, 1] float32, physical units per unit of a batch (after ``setup``).
    """

    def __init__(
        self,
        source: Source,
        forecaster: Forecaster,
        path: str,
        start: str,
        end: str,
        every_hours: int = 12,
        rollout_batch_size: int = 4,
        validation_fraction: float = 0.1,
        gap_hours: int = 48,
        batch_size: int = 8,
        workers: int = 0,
        in_memory: bool = True,
        flip_sign: bool = True,
        roll_longitude: int = 0,
        zonal_floor: float = 0.3,
        coarsen_to: tuple[int, int] | None = None,
        samples_per_file: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(
            source, forecaster, path, start, end, validation_fraction, gap_hours, batch_size, workers, seed
        )
        if roll_longitude < 0:
            raise UserError(f"roll_longitude must not be negative, got {roll_longitude}")
        if not zonal_floor > 0:
            raise UserError(f"zonal_floor must be positive, got {zonal_floor}")
        self.every_hours, self.rollout_batch_size = every_hours, rollout_batch_size
        self.samples_per_file = samples_per_file
        self.in_memory, self.zonal_floor = in_memory, zonal_floor
        self.flip_sign, self.roll_longitude = flip_sign, roll_longitude
        if coarsen_to is not None:
            self.grid = Grid.gaussian(*coarsen_to)

    @property
    def error_std(self) -> Tensor:
        return std_by_latitude(self.store.zonal_error_std, self.store.error_std, self.zonal_floor)

    @cached_property
    def making(self) -> BackgroundErrorMaking:
        return BackgroundErrorMaking(
            Path(self.path), self.source, self.forecaster, self.start, self.end, self.every_hours,
            self.rollout_batch_size, self.grid, self.samples_per_file,
        )  # fmt: skip

    def open_store(self) -> BackgroundErrorStore:
        return BackgroundErrorStore(self.path, self.in_memory)

    def normalise(self, batch: Tensor) -> Tensor:
        """Stored values [B, C, H, W] float16 -> float32 in units of the error's standard deviation."""
        factor = self.store.scale[:, None, None] / self.error_std
        return batch.float() * factor.to(batch.device)

    def augment(self, batch: Tensor) -> Tensor:
        """Sign flips and rolls, as configured, sample by sample."""
        if self.flip_sign:
            batch = batch * shared_signs(batch, generator_of(self._step, 1, batch.device))
        if self.roll_longitude:
            generator, count = (
                generator_of(self._step, 2, batch.device),
                batch.shape[-1] // self.roll_longitude,
            )
            places = shared_integers(batch, count, generator).tolist()
            rolled = [x.roll(place * self.roll_longitude, -1) for x, place in zip(batch, places, strict=True)]
            batch = torch.stack(rolled)
        return batch

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
        """Normalise on the device; augment while training."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return self.augment(batch) if self.trainer is not None and self.trainer.training else batch
