"""A DataLoader whose workers are threads, and whose epoch resumes from a checkpoint.

Reading and decompressing release Python's lock, so threads do as much as processes do, without sending every
batch through shared memory, which takes longer than the disk at 0.25°.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import lightning as L
from torch import Tensor
from torch.utils.data import DataLoader

from vaevar.errors import UserError

_AHEAD = 2  # batches that each thread is ahead


class SampleLoader(DataLoader):
    """Batches of a dataset whose ``__getitems__`` reads a whole batch.

    Samples and their order are the same for any number of threads. Its state is the number of batches it has
    yielded in this epoch.

    Args:
        dataset: the samples; ``__getitems__`` is called from several threads.
        args: as for a ``DataLoader``.
        threads: threads that read ahead; 0 reads when a batch is asked for.
        kwargs: as for a ``DataLoader``, except for its workers.
    """

    def __init__(self, dataset: Any, *args: Any, threads: int = 0, **kwargs: Any) -> None:
        super().__init__(dataset, *args, **kwargs)
        self.threads = threads
        self._given = 0
        self._interrupted: dict[str, int] | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # Lightning tells the sampler the epoch after it asks for the iterator, but before the first batch.
        self._given = self._given_before()
        for batch in self._read(islice(iter(self.batch_sampler), self._given, None)):  # type: ignore[arg-type]
            self._given += 1
            yield batch

    def _given_before(self) -> int:
        """Batches of this epoch that an interrupted run has had."""
        state, self._interrupted = self._interrupted, None
        if state is None or state["epoch"] != self._epoch:
            return 0
        if state["batches"] != len(self):
            raise UserError(
                f"the checkpoint was written after {state['given']} of {state['batches']} batches of an "
                f"epoch, which now has {len(self)}; resume with the same samples, batch size and number of "
                "processes, or from a checkpoint of an epoch's end"
            )
        return state["given"]

    @property
    def _epoch(self) -> int:
        return int(getattr(self.sampler, "epoch", 0))

    def _read(self, batches: Iterable[list[int]]) -> Iterator[Any]:
        if not self.threads:
            yield from map(self._batch, batches)
            return
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="samples")
        try:
            waiting: deque[Future] = deque()
            for indexes in batches:
                waiting.append(pool.submit(self._batch, indexes))
                if len(waiting) > _AHEAD * self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _batch(self, indexes: list[int]) -> Any:
        batch = self.dataset.__getitems__(indexes)  # type: ignore[attr-defined]
        if not self.pin_memory:
            return batch
        return batch.pin_memory() if isinstance(batch, Tensor) else tuple(x.pin_memory() for x in batch)

    def state_dict(self) -> dict[str, int]:
        """The number of the epoch, of the batches it has yielded, and of all its batches."""
        return {"epoch": self._epoch, "given": self._given, "batches": len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip the batches that were yielded already, if that epoch comes next."""
        self._interrupted = state


class ResumableData(L.LightningDataModule):
    """A data module whose training epoch resumes where a checkpoint was written.

    Lightning restores a loader's state too late if a model has asked for the number of steps before, for its
    learning rate. It restores a data module's state before the loaders are made.
    """

    _loader: SampleLoader | None = None
    _interrupted: dict[str, int] | None = None

    def resumable(self, loader: SampleLoader) -> SampleLoader:
        """The loader that training uses, set to resume where a checkpoint says."""
        self._loader = loader
        if self._interrupted is not None:
            loader.load_state_dict(self._interrupted)
        return loader

    def state_dict(self) -> dict[str, int]:
        return {} if self._loader is None else self._loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._interrupted = state_dict
