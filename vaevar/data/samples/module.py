"""The base of data modules whose samples lie in a store that is built on first need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import zarr
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler, Subset

from vaevar.batch_random import processes
from vaevar.data.samples.loader import ResumableData, SampleLoader
from vaevar.data.samples.making import ResumableStore
from vaevar.data.samples.rollouts import Rollouts, RolloutStream, Share
from vaevar.data.weather.store import Source
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

Sample_co = TypeVar("Sample_co", covariant=True)


class SampleStore(Dataset[Sample_co], ABC):
    """An opened store: a dataset in the order of time.

    Attributes:
        names: channel names, in order.
        grid: the H × W points.
        times: [N] datetime64[ns].
    """

    names: tuple[str, ...]
    grid: Grid
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.times)

    def __getitem__(self, index: int) -> Sample_co:
        """One sample, float16 in the store's scales."""
        batch: Any = self.__getitems__([index])
        return batch[0] if isinstance(batch, Tensor) else tuple(part[0] for part in batch)  # type: ignore[return-value]

    @abstractmethod
    def __getitems__(self, indexes: list[int]) -> Sample_co:
        """Samples at once, with an axis more in front than one has. Threads may ask."""


Store = TypeVar("Store", bound=SampleStore)


class StoredSamples(ResumableData, Generic[Store]):
    """Samples of a store, the last stretch of them for validation, in shuffled batches.

    Args:
        path: where the store is.
        validation_fraction: of the samples, kept for validation: one block at the end, never a
            random choice, since neighbours in time are alike.
        gap_hours: between the last training and the first validation sample.
        batch_size: samples per batch (and per device).
        workers: threads that read ahead; 0 reads when a batch is asked for.
        seed: of the shuffling.

    Attributes:
        spec, grid: the channels and points that the samples must have.
        training, validation: the two parts of the store (after ``setup``).

    Raises:
        UserError: for a setting out of range.
    """

    spec: StateSpec
    grid: Grid
    training: Subset
    validation: Subset

    def __init__(
        self, path: str, validation_fraction: float, gap_hours: int, batch_size: int, workers: int, seed: int
    ) -> None:
        super().__init__()
        if not 0 < validation_fraction < 1:
            raise UserError(f"validation_fraction must lie between 0 and 1, got {validation_fraction}")
        if batch_size < 1 or workers < 0 or gap_hours < 0:
            raise UserError(
                "batch_size must be positive, and workers and gap_hours not negative; got "
                f"{batch_size}, {workers} and {gap_hours}"
            )
        self.path = path
        self.validation_fraction, self.gap_hours = validation_fraction, gap_hours
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The opened store.

        Raises:
            RuntimeError: before ``setup``.
        """
        if self._store is None:
            raise RuntimeError("call setup() first")
        return self._store

    @abstractmethod
    def open_store(self) -> Store:
        """Open what ``prepare_data`` has built."""

    def setup(self, stage: str | None = None) -> None:
        """Open and check the store, and part it.

        Raises:
            UserError: when channels or grid are others than expected, or a part would be empty.
        """
        if self._store is not None:
            return
        store = self.open_store()
        if store.names != self.spec.names:
            raise UserError(f"{self.path}: holds the channels {', '.join(store.names)}; expected {self.spec}")
        if store.grid != self.grid:
            raise UserError(f"{self.path}: is on {store.grid}; expected {self.grid}")
        try:
            training, validation = split_in_time(store.times, self.validation_fraction, self.gap_hours)
        except ValueError as error:
            raise UserError(f"{self.path}: {error}") from None
        self.training, self.validation = Subset(store, training), Subset(store, validation)
        self._store = store

    @property
    def record(self) -> dict[str, Any]:
        """What the samples are, for what is fitted to them: the store's own attributes, and how many."""
        attributes = dict(zarr.open_group(self.path, mode="r").attrs)
        return {"path": self.path, **attributes, "samples": len(self.training)}

    def training_in_order(self) -> Iterator[Any]:
        """The training samples once, as batches on the host, ready for use and not augmented."""
        return map(self.normalise, self.loader(self.training))

    @abstractmethod
    def normalise(self, batch: Any) -> Any:
        """A batch of stored values, where it is, in the scales that the model expects."""

    @property
    def _step(self) -> int:
        """Of the training; what is drawn for a batch follows from it."""
        return 0 if self.trainer is None else self.trainer.global_step

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise on the device."""
        return self.normalise(batch)

    def train_dataloader(self) -> SampleLoader:
        # Step by step the same samples whatever the number of processes, if the batch over all is as large.
        rank, count = processes()
        shuffled: DistributedSampler = DistributedSampler(
            self.training, count, rank, seed=self.seed, drop_last=len(self.training) >= count
        )
        return self.resumable(self.loader(self.training, shuffled))

    def val_dataloader(self) -> SampleLoader:
        return self.loader(self.validation)

    def loader(self, samples: Subset, shuffled: Sampler | None = None) -> SampleLoader:
        """Batches of stored values, in the order of a sampler, else in their own and all of them."""
        return SampleLoader(
            samples,
            self.batch_size,
            sampler=shuffled,
            threads=self.workers,
            pin_memory=torch.cuda.is_available(),
            # A last batch of one or two would weigh as much as a full one in Adam's averages.
            drop_last=shuffled is not None and len(shuffled) >= self.batch_size,  # type: ignore[arg-type]
        )


class ForecastSamples(StoredSamples[Store]):
    """Samples made of a forecaster's roll-outs, whose store is built on first need.

    When a trainer predicts, it is built by :mod:`vaevar.data.samples.predict_loop`, and this yields what to
    roll out.

    Args:
        source: states that forecasts start from.
        forecaster: makes the forecasts; its channels and grid are those of the samples.
        path: where the store is, or will be built.
        start, end: first and last state used, such as ``2019-12-01T00``.
        validation_fraction, gap_hours, batch_size, workers, seed: as in :class:`StoredSamples`.

    Raises:
        UserError: for a setting out of range.
    """

    def __init__(
        self,
        source: Source,
        forecaster: Forecaster,
        path: str,
        start: str,
        end: str,
        validation_fraction: float,
        gap_hours: int,
        batch_size: int,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__(path, validation_fraction, gap_hours, batch_size, workers, seed)
        try:
            self.start, self.end = np.datetime64(start, "h"), np.datetime64(end, "h")
        except ValueError:
            raise UserError(
                f"start and end must be times such as 2019-12-01T00, got {start!r}, {end!r}"
            ) from None
        self.source, self.forecaster = source, forecaster
        self.spec, self.grid = forecaster.spec, forecaster.grid
        self.share: Share

    @property
    @abstractmethod
    def making(self) -> ResumableStore:
        """How the store is made."""

    def prepare_data(self) -> None:
        """Build the store if it is not there (once per machine); to predict, begin it."""
        if self.trainer is None or not self.trainer.predicting:
            self.making.make()
        elif self.trainer.is_global_zero and not self.making.begin():
            print(f"{self.path} is there already")

    def setup(self, stage: str | None = None) -> None:
        """As in :class:`StoredSamples`; to predict, see what this process has to make.

        Between barriers of the trainer: nothing is made while processes share out what is missing.
        """
        if stage == "predict" and self.trainer is not None:
            self.share = self.making.share(self.trainer.global_rank, self.trainer.world_size)
        else:
            super().setup(stage)

    def predict_dataloader(self) -> DataLoader:
        """Initial states, read one batch ahead if there are workers."""
        ahead = min(self.workers, 1)
        return DataLoader(
            RolloutStream(self.share),
            batch_size=None,
            num_workers=ahead,
            prefetch_factor=1 if ahead else None,
            pin_memory=torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise on the device; states to be rolled out stay physical."""
        if isinstance(batch, Rollouts):
            return batch
        return super().on_after_batch_transfer(batch, dataloader_idx)


def std_by_latitude(zonal: Tensor, overall: Tensor, floor: float) -> Tensor:
    """What samples are divided by: their std at each latitude, or the same everywhere.

    Args:
        zonal: [C, H], at each latitude.
        overall: [C], of the whole sphere.
        floor: no less than this fraction of ``overall``; from 1 on, ``overall`` at all latitudes.

    Returns:
        [C, H, 1].
    """
    everywhere = overall[:, None].expand_as(zonal)
    return (everywhere if floor >= 1 else torch.maximum(zonal, floor * everywhere))[..., None]


def split_in_time(times: np.ndarray, validation_fraction: float, gap_hours: int) -> tuple[range, range]:
    """Numbers of the training and of the validation samples, a gap apart.

    Args:
        times: [N] datetime64, ascending.
        validation_fraction: of the samples, at the end.
        gap_hours: between the last training and the first validation sample.

    Raises:
        ValueError: when a part would be empty.
    """
    count = len(times)
    first = count - round(validation_fraction * count)
    before_gap = times[min(first, count - 1)] - np.timedelta64(gap_hours, "h")
    last = min(int(np.searchsorted(times, before_gap, "right")), first)
    if last < 1 or first >= count:
        raise ValueError(
            f"{count} samples leave {max(last, 0)} for training and {count - first} for validation; "
            "lengthen the period or change validation_fraction"
        )
    return range(last), range(first, count)
