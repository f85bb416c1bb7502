"""LightningDataModule of consecutive states, for training a forecaster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, Subset

from vaevar.batch_random import processes
from vaevar.data.samples.loader import ResumableData, SampleLoader
from vaevar.data.times import six_hourly, steps_in
from vaevar.data.weather.store import Source, WeatherStore
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec
from vaevar.state.normalizer import Normalizer

STATISTICS_STATES = 400


class SequenceDataset(Dataset[Tensor]):
    """Windows of ``length`` consecutive states, [length, C, H, W] physical float32.

    Args:
        store: of the states.
        times: evenly spaced times, all in the store.
        length: states in a window.
        in_memory: read everything once (1.3 MB a state on 48 × 96 points); otherwise window by window.

    Raises:
        UserError: when the period is shorter than one window.
    """

    def __init__(self, store: WeatherStore, times: np.ndarray, length: int, in_memory: bool) -> None:
        if times.size < length:
            raise UserError(
                f"the period from {times[0]} to {times[-1]} holds {times.size} states, too few for a window "
                f"of {length}; make it longer, or the roll-out shorter"
            )
        self.store, self.times, self.length = store, times, length
        self.states = torch.from_numpy(store.read(times)) if in_memory else None

    def __len__(self) -> int:
        return self.times.size - self.length + 1

    def __getitem__(self, index: int) -> Tensor:
        window = slice(index, index + self.length)
        if self.states is not None:
            return self.states[window]
        return torch.from_numpy(self.store.read(self.times[window]))

    def __getitems__(self, indexes: list[int]) -> Tensor:
        """Windows, [B, length, C, H, W]."""
        return torch.stack([self[index] for index in indexes])


class LaneSampler(DistributedSampler):
    """Samples windows in lanes: one window of each lane, then the next window of each lane, and so on.

    An epoch has every window once, except a remainder of less than one window per lane. Lanes start at other
    windows in each epoch, and wrap around at the end of the period.

    Args:
        windows: number of windows in the period.
        lanes: number of consecutive stretches that the period is divided into, a multiple of ``count``.
        rank, count: rank of this process, and number of processes, which share the lanes.
        seed: for the starts of the lanes.

    Raises:
        UserError: for more lanes than windows.
    """

    def __init__(self, windows: int, lanes: int, rank: int = 0, count: int = 1, seed: int = 0) -> None:
        if not 1 <= lanes <= windows:
            raise UserError(f"lanes is {lanes}; expected 1 to the period's {windows} windows")
        super().__init__(range(windows), count, rank, seed=seed)  # type: ignore[arg-type]
        self.windows, self.lanes = windows, lanes

    def __len__(self) -> int:
        return self.windows // self.lanes * self.lanes // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        length = self.windows // self.lanes
        first = int(torch.randint(self.windows, (), generator=generator))
        starts = (first + torch.randperm(self.lanes, generator=generator) * length).tolist()
        for step in range(length):
            yield from ((start + step) % self.windows for start in starts[self.rank :: self.num_replicas])


class StateSequences(ResumableData):
    """Windows of the training period and of the validation period.

    Batches arrive normalised, [B, 2 + steps, C, H, W]: two past states, then the states to predict.

    Args:
        train: source of the training period.
        validation: source of the validation period.
        train_start, train_end, validation_start, validation_end: first and last state of each period.
        rollout_steps: number of states to predict in training.
        validation_steps: number of states to predict in validation (8 reach 48 h).
        validation_every: hours between validation windows, a multiple of 6.
        batch_size: windows in a batch.
        workers: threads that read ahead; 0: read when a batch is needed.
        in_memory: keep both periods in memory.
        lanes: divide the training period into this number of stretches, whose windows come in order (a
            multiple of the batch size over all processes). None: windows come in random order.
        spec: channels; default FengWu's 69.

    Raises:
        UserError: for a period, a count or an interval that is impossible, or ``lanes`` that are not a
            multiple of the batch size.
    """

    without_effect: ClassVar = ("workers", "in_memory")

    def __init__(
        self,
        train: Source,
        validation: Source,
        train_start: str,
        train_end: str,
        validation_start: str,
        validation_end: str,
        rollout_steps: int = 1,
        validation_steps: int = 8,
        validation_every: int = 24,
        batch_size: int = 8,
        workers: int = 0,
        in_memory: bool = True,
        lanes: int | None = None,
        spec: StateSpec | None = None,
    ) -> None:
        super().__init__()
        self.sources = {"train": train, "validation": validation}
        self.periods = {
            "train": six_hourly(train_start, train_end, ("train_start", "train_end")),
            "validation": six_hourly(
                validation_start, validation_end, ("validation_start", "validation_end")
            ),
        }
        self.rollout_steps, self.validation_steps = rollout_steps, validation_steps
        counts = {"rollout_steps": rollout_steps, "validation_steps": validation_steps}
        for name, count in (counts | {"batch_size": batch_size}).items():
            if count < 1:
                raise UserError(f"data.{name} is {count}, must be positive")
        if workers < 0:
            raise UserError(
                f"data.workers is {workers}, must not be negative; 0 reads when a batch is needed"
            )
        self.validation_every = steps_in(validation_every, "data.validation_every")
        self.batch_size = batch_size
        if lanes is not None and lanes % batch_size:
            raise UserError(f"lanes ({lanes}) must be a multiple of batch_size ({batch_size})")
        self.workers, self.in_memory, self.lanes = workers, in_memory, lanes
        self.spec = spec or StateSpec()
        self.grid: Grid
        self.normalizer: Normalizer
        self.change_std: Tensor
        self.mean_state: Tensor  # [C, H, W], normalised

    def prepare_data(self) -> None:
        for name, times in self.periods.items():
            self.sources[name].prepare(times[0], times[-1])

    def setup(self, stage: str) -> None:
        stores = {name: source.open(self.spec) for name, source in self.sources.items()}
        self.grid = stores["train"].grid
        self.train_set = SequenceDataset(
            stores["train"], self.periods["train"], 2 + self.rollout_steps, self.in_memory
        )
        self.validation_set = SequenceDataset(
            stores["validation"], self.periods["validation"], 2 + self.validation_steps, self.in_memory
        )
        mean, std, self.change_std = statistics(stores["train"], self.periods["train"])
        self.normalizer = Normalizer(mean, std)
        self.mean_state = self.normalizer.normalize(mean_state(stores["train"], self.periods["train"]))

    def train_dataloader(self) -> SampleLoader:
        rank, count = processes()
        # The order depends only on the seed and the epoch, so that an epoch can be resumed.
        seed = torch.initial_seed() % 2**32
        sampler: DistributedSampler
        if self.lanes is None:
            sampler = DistributedSampler(self.train_set, count, rank, seed=seed)
        elif self.lanes % (self.batch_size * count):
            raise UserError(
                f"lanes ({self.lanes}) must be a multiple of the batch over all processes "
                f"({count} × {self.batch_size})"
            )
        else:
            sampler = LaneSampler(len(self.train_set), self.lanes, rank, count, seed)
        return self.resumable(
            SampleLoader(
                self.train_set, self.batch_size, sampler=sampler, threads=self.workers, drop_last=True
            )
        )

    def val_dataloader(self) -> SampleLoader:
        every = range(0, len(self.validation_set), self.validation_every)
        return SampleLoader(Subset(self.validation_set, every), self.batch_size, threads=self.workers)

    def normalise(self, batch: Tensor) -> Tensor:
        """States of the data, on the device of the batch, in the units of the network."""
        return self.normalizer.to(batch.device).normalize(batch)

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
        return self.normalise(batch)


def mean_state(store: WeatherStore, times: np.ndarray) -> Tensor:
    """Mean of at least 400 states spread over the period (or of all), [C, H, W] float32, physical units."""
    chosen = times[:: max(1, times.size // STATISTICS_STATES)]
    total = np.zeros((len(store.spec), *store.grid.shape))
    for time in chosen:
        total += store.read([time])[0]
    return torch.from_numpy(total / len(chosen)).float()


def statistics(store: WeatherStore, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Area-weighted mean and std by channel, and std of the 6 h change relative to that std.

    From at least 400 pairs of states spread over the period (or from all), in bounded memory.

    Returns:
        mean [C], std [C] in physical units (float64), change_std [C] in units of std (float32).
    """
    starts = times[:-1][:: max(1, (times.size - 1) // STATISTICS_STATES)]
    sums = np.zeros((3, len(store.spec)))
    shift: np.ndarray | None = None
    for time in starts:
        pair = torch.from_numpy(store.read([time, time + np.timedelta64(6, "h")]).astype(np.float64))
        if shift is None:
            # Sums of squares about a first guess of the mean, to avoid cancellation in geopotential.
            shift = store.grid.area_mean(pair[0]).numpy()
        departure = pair[0] - torch.from_numpy(shift)[:, None, None]
        sums[0] += store.grid.area_mean(departure).numpy()
        sums[1] += store.grid.area_mean(departure.square()).numpy()
        sums[2] += store.grid.area_mean((pair[1] - pair[0]).square()).numpy()
    assert shift is not None
    first, second, change = sums / len(starts)
    std = np.sqrt(np.maximum(second - first**2, 0.0))
    return shift + first, std, torch.from_numpy(np.sqrt(change) / std).float()
