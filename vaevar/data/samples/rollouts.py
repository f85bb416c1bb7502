"""A process's share of a store's roll-outs, and the samples that come of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from vaevar.data.samples.rollout_errors import HOUR, RolloutErrors


class Rollouts(NamedTuple):
    """Initial times that are rolled out together.

    Attributes:
        first: number of the first of them.
        states: [B, history, C, H, W], physical units.
        hours: ages at which their forecasts are kept.
    """

    first: int
    states: Tensor
    hours: list[int]


class BlockStore(Protocol):
    """What a share needs of the store that it fills."""

    @property
    def errors(self) -> RolloutErrors:
        """What samples are made of."""

    def encode(self, sample: int, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A sample in physical units -> as it is stored."""

    def write_block(self, number: int, samples: range, stored: dict[str, np.ndarray]) -> None:
        """Write all samples of a block, [N, ...] of each field."""


class RolloutShare(IterableDataset[Rollouts]):
    """Some blocks of a store, and the roll-outs that they need, in batches.

    A trainer's samplers leave an iterable dataset alone. Roll-outs come in ascending order, in batches that
    begin at multiples of the batch size, whatever the share: a network's last bits may depend on what else is
    in its batch. Where shares meet, a batch may be rolled out for both.

    Args:
        store: takes the samples.
        blocks: the samples of each block.
    """

    def __init__(self, store: BlockStore, blocks: Mapping[int, range]) -> None:
        self.store, self.errors, self.blocks = store, store.errors, dict(blocks)
        self._block_of = {sample: block for block, samples in blocks.items() for sample in samples}
        self._sample_of = {part: sample for sample in self._block_of for part in self.errors.parts(sample)}
        hours: defaultdict[int, set[int]] = defaultdict(set)
        for number, age in self._sample_of:
            hours[number // self.errors.rollout_batch_size].add(age)
        self._hours = {batch: sorted(ages) for batch, ages in sorted(hours.items())}
        self._parts: defaultdict[int, dict[tuple[int, int], Tensor]] = defaultdict(dict)
        self._fields: defaultdict[int, dict[str, np.ndarray]] = defaultdict(dict)
        self._left = {block: len(samples) for block, samples in blocks.items()}

    def __len__(self) -> int:
        """The number of batches."""
        return len(self._hours)

    @property
    def written(self) -> bool:
        """Whether all blocks are on the disk."""
        return not self._left

    def __iter__(self) -> Iterator[Rollouts]:
        errors, source = self.errors, self.errors.open_source()
        history, size = errors.forecaster.history, errors.rollout_batch_size
        before = np.arange(history - 1, -1, -1) * errors.forecaster.step_hours * HOUR
        for batch, hours in self._hours.items():
            initial = errors.initial[batch * size : (batch + 1) * size]
            states = torch.from_numpy(source.read((initial[:, None] - before).reshape(-1)))
            yield Rollouts(batch * size, states.reshape(initial.size, history, *states.shape[1:]), hours)

    def samples(
        self, batch: Rollouts, forecasts: Mapping[int, Tensor]
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """The samples that a batch completes: number, and fields in physical units.

        Args:
            batch: of this share.
            forecasts: [B, C, H', W'] for each age.
        """
        for age, fields in forecasts.items():
            for number, field in enumerate(fields.cpu(), batch.first):
                sample = self._sample_of.get((number, age))
                if sample is None:
                    continue
                collected, needed = self._parts[sample], self.errors.parts(sample)
                collected[number, age] = field
                if len(collected) == len(needed):
                    del self._parts[sample]
                    yield sample, self.errors.combine(sample, [collected[part] for part in needed])

    def take(self, batch: Rollouts, forecasts: Mapping[int, Tensor]) -> None:
        """Make samples from a batch's forecasts, and write the blocks that they complete."""
        for sample, physical in self.samples(batch, forecasts):
            block = self._block_of[sample]
            samples, fields = self.blocks[block], self._fields[block]
            for name, values in self.store.encode(sample, physical).items():
                if name not in fields:
                    fields[name] = np.empty((len(samples), *values.shape), values.dtype)
                fields[name][sample - samples.start] = values
            self._left[block] -= 1
            if not self._left[block]:
                self.store.write_block(block, samples, self._fields.pop(block))
                del self._left[block]
