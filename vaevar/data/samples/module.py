"""The data module of samples to learn from; :mod:`vaevar.data.samples.background_errors` has its views."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.utils.data import DataLoader, DistributedSampler, Sampler, Subset

from vaevar.batch_random import processes
from vaevar.data.samples.loader import ResumableData, SampleLoader
from vaevar.data.samples.making import StoreBuilder
from vaevar.data.samples.rollout_errors import RolloutErrors
from vaevar.data.samples.rollouts import Rollouts, RolloutShare
from vaevar.data.samples.store import SampleStore
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


class Samples(ResumableData):
    """Samples of a store in shuffled batches, the last stretch of them for validation.

    With ``making``, the store is made on first need: by ``fit`` in one process, by ``predict`` with
    :class:`vaevar.data.samples.predict_loop.StoreMaking` in many. Views say which fields a batch has and in
    which scales.

    Args:
        path: where the store is or will be.
        making: how the store is made if it is missing. None: it is there, such as one recorded from a cycle.
        lead_hours: age of the backgrounds. None: the store's only one.
        validation_fraction: of the samples, kept for validation: one block at the end, never a random choice,
            since neighbours in time are alike.
        gap_hours: between the last training and the first validation sample.
        batch_size: samples per batch (and per device).
        workers: threads that read ahead; 0 reads when a batch is asked for.
        in_memory: hold all samples in memory (float16: 636 kB for each field of 69 channels on 48 × 96).
        seed: of the shuffling.

    Attributes:
        spec, grid: the C channels and the H × W points (after ``setup``).
        lead_hours: age of the backgrounds (after ``setup``).
        training, validation: the two parts of the store (after ``setup``).

    Raises:
        UserError: for a setting out of range.
    """

    fields: ClassVar[tuple[str, ...]]
    spec: StateSpec
    grid: Grid
    training: Subset
    validation: Subset
    share: RolloutShare

    without_effect: ClassVar = ("workers", "in_memory")

    def __init__(
        self,
        path: str,
        making: RolloutErrors | None = None,
        lead_hours: int | None = None,
        validation_fraction: float = 0.1,
        gap_hours: int = 48,
        batch_size: int = 8,
        workers: int = 0,
        in_memory: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < validation_fraction < 1:
            raise UserError(f"validation_fraction must lie between 0 and 1, got {validation_fraction}")
        if not Path(path).name:
            raise UserError(f"path is {path!r}, give that of a store of samples, such as data/errors.zarr")
        if batch_size < 1 or workers < 0 or gap_hours < 0:
            raise UserError(
                "batch_size must be positive, and workers and gap_hours not negative; got "
                f"{batch_size}, {workers} and {gap_hours}"
            )
        if making is not None and lead_hours not in (*making.leads, None):
            raise UserError(f"lead_hours {lead_hours} is not among leads {list(making.leads)}")
        self.path, self.making, self.lead_hours = path, making, lead_hours
        self.validation_fraction, self.gap_hours = validation_fraction, gap_hours
        self.batch_size, self.workers, self.in_memory, self.seed = batch_size, workers, in_memory, seed
        self._store: SampleStore | None = None

    @property
    def store(self) -> SampleStore:
        """The opened store.

        Raises:
            RuntimeError: before ``setup``.
        """
        if self._store is None:
            raise RuntimeError("call setup() first")
        return self._store

    @cached_property
    def builder(self) -> StoreBuilder:
        """Makes the store.

        Raises:
            UserError: without ``making``.
        """
        if self.making is None:
            raise UserError(f"{self.path}: the config does not say how to make it; set data.init_args.making")
        return StoreBuilder(Path(self.path), self.making)

    def prepare_data(self) -> None:
        """Make the store if it is missing (once per machine); to predict, begin it."""
        if self.trainer is not None and self.trainer.predicting:
            if self.trainer.is_global_zero and not self.builder.begin():
                print(f"{self.path} is there already")
        elif self.making is not None:
            self.builder.make()

    def setup(self, stage: str | None = None) -> None:
        """Open the store and split it; to predict, find out what this process has to make.

        Between barriers of the trainer: nothing is made while processes share out what is missing.

        Raises:
            UserError: when the store does not fit this module or ``making``, or a part would be empty.
        """
        if stage == "predict" and self.trainer is not None:
            self.share = self.builder.share(self.trainer.global_rank, self.trainer.world_size)
            return
        if self._store is not None:
            return
        store = SampleStore(self.path, self.fields, self.lead_hours, self.in_memory)
        if self.making is not None and store.spec != self.making.spec:
            names = ", ".join(store.spec.names)
            raise UserError(f"{self.path}: holds the channels {names}; expected {self.making.spec}")
        if self.making is not None and store.grid != self.making.grid:
            raise UserError(f"{self.path}: is on {store.grid}; expected {self.making.grid}")
        if self.making is not None and store.lead_hours not in self.making.leads:
            raise UserError(
                f"{self.path}: its lead is {store.lead_hours} h; expected one of {list(self.making.leads)}"
            )
        training, validation = store.split_in_time(self.validation_fraction, self.gap_hours)
        self.training, self.validation = Subset(store, training), Subset(store, validation)
        self.spec, self.grid, self.lead_hours = store.spec, store.grid, store.lead_hours
        self._store = store

    @property
    def record(self) -> dict[str, Any]:
        """What the samples are, for what is fitted to them: the store's attributes, the lead, how many."""
        counts = {"lead_hours": self.lead_hours, "samples": len(self.training)}
        return {"path": self.path, **self.store.attributes, **counts}

    def training_in_order(self) -> Iterator[Any]:
        """The training samples once, as batches on the host, ready for use and not augmented."""
        return map(self.normalise, self.loader(self.training))

    @abstractmethod
    def normalise(self, batch: Any) -> Any:
        """A batch of stored values, [B, ...] float16 for each of ``fields``, in the scales of this view."""

    @property
    def _step(self) -> int:
        """Of the training; random numbers of a batch follow from it."""
        return 0 if self.trainer is None else self.trainer.global_step

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise on the device; states to be rolled out stay physical."""
        return batch if isinstance(batch, Rollouts) else self.normalise(batch)

    def train_dataloader(self) -> SampleLoader:
        # Step by step the same samples for any number of processes, if the batch over all is as large.
        rank, count = processes()
        shuffled: DistributedSampler = DistributedSampler(
            self.training, count, rank, seed=self.seed, drop_last=len(self.training) >= count
        )
        return self.resumable(self.loader(self.training, shuffled))

    def val_dataloader(self) -> SampleLoader:
        return self.loader(self.validation)

    def predict_dataloader(self) -> DataLoader:
        """Initial states, read one batch ahead if there are workers."""
        ahead = min(self.workers, 1)
        return DataLoader(
            self.share,
            batch_size=None,
            num_workers=ahead,
            prefetch_factor=1 if ahead else None,
            pin_memory=torch.cuda.is_available(),
        )

    def loader(self, samples: Subset, shuffled: Sampler | None = None) -> SampleLoader:
        """Batches of stored values in the order of a sampler; without one, all of them in order."""
        return SampleLoader(
            samples,
            self.batch_size,
            sampler=shuffled,
            threads=self.workers,
            pin_memory=torch.cuda.is_available(),
            # A last batch of one or two would weigh as much as a full one in Adam's averages.
            drop_last=shuffled is not None and len(shuffled) >= self.batch_size,  # type: ignore[arg-type]
        )
