"""What one process makes of a store: the roll-outs it takes, and samples on their way to the disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

if TYPE_CHECKING:
    from vaevar.data.samples.making import ResumableStore


class Rollouts(NamedTuple):
    """Initial times that are rolled out together.

    Attributes:
        first: number of the first of them.
        states: [B, history, C, H, W], physical units.
        hours: ages at which their forecasts are wanted.
    """

    first: int
    states: Tensor
    hours: list[int]


class Share:
    """Some blocks of a store in the making.

    Roll-outs come in ascending order, in batches that begin at multiples of the batch size, whatever the
    share: a network's last bits may depend on what else is in its batch. Where shares meet, a batch may be
    rolled out for both.

    Args:
        store: in the making.
        blocks: the samples of each block.
    """

    def __init__(self, store: ResumableStore, blocks: Mapping[int, range]) -> None:
        self.store, self.blocks = store, dict(blocks)
        self._block_of = {sample: block for block, samples in blocks.items() for sample in samples}
        self._sample_of = {part: sample for sample in self._block_of for part in store.parts(sample)}
        hours: defaultdict[int, set[int]] = defaultdict(set)
        for number, age in self._sample_of:
            hours[number // store.batch_size].add(age)
        self._hours = {batch: sorted(ages) for batch, ages in sorted(hours.items())}
        self._parts: defaultdict[int, dict[tuple[int, int], Tensor]] = defaultdict(dict)
        self._fields: defaultdict[int, dict[str, np.ndarray]] = defaultdict(dict)
        self._left = {block: len(samples) for block, samples in blocks.items()}

    def __len__(self) -> int:
        """The number of batches."""
        return len(self._hours)

    @property
    def written(self) -> bool:
        """Whether all of it is on the disk."""
        return not self._left

    def rollouts(self) -> Iterator[Rollouts]:
        """What is to be rolled out, in batches."""
        store = self.store
        source = store.open_source()
        history, step, size = store.forecaster.history, store.forecaster.step_hours, store.batch_size
        before = np.arange(history - 1, -1, -1) * np.timedelta64(step, "h")
        for batch, hours in self._hours.items():
            initial = store.initial[batch * size : (batch + 1) * size]
            states = torch.from_numpy(source.read((initial[:, None] - before).reshape(-1)))
            yield Rollouts(batch * size, states.reshape(initial.size, history, *states.shape[1:]), hours)

    def samples(
        self, batch: Rollouts, forecasts: Mapping[int, Tensor]
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """The samples that a batch completes: number, and fields in physical units by array.

        Args:
            batch: of :meth:`rollouts`.
            forecasts: [B, C, H', W'] of each age.
        """
        for age, fields in forecasts.items():
            for number, field in enumerate(fields.cpu(), batch.first):
                sample = self._sample_of.get((number, age))
                if sample is None:
                    continue
                parts, wanted = self._parts[sample], self.store.parts(sample)
                parts[number, age] = field
                if len(parts) == len(wanted):
                    del self._parts[sample]
                    yield sample, self.store.combine(sample, [parts[part] for part in wanted])

    def take(self, batch: Rollouts, forecasts: Mapping[int, Tensor]) -> None:
        """Make samples of a batch's forecasts, and write the blocks that are complete with them."""
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


class RolloutStream(IterableDataset[Rollouts]):
    """The roll-outs of a share, for a loader. As an iterable, it is left alone by a trainer's samplers."""

    def __init__(self, share: Share) -> None:
        self.share = share

    def __len__(self) -> int:
        return len(self.share)

    def __iter__(self) -> Iterator[Rollouts]:
        return self.share.rollouts()
