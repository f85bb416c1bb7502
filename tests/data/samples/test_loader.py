"""Threads give the same batches as none; an epoch resumes where a checkpoint was written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import Dataset, DistributedSampler, Subset

from tests.device import DEVICE
from vaevar.data.samples.loader import SampleLoader
from vaevar.errors import UserError


class Numbers(Dataset[Tensor]):
    """Its samples are their numbers."""

    def __init__(self, count: int, broken: int | None = None) -> None:
        self.count, self.broken, self.readers = count, broken, set[int]()

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, indexes: list[int]) -> Tensor:
        self.readers.add(threading.get_ident())
        if self.broken in indexes:
            raise UserError("sample is damaged")
        return torch.tensor(indexes, dtype=torch.float32)


def loader(
    data: Dataset, threads: int = 0, batch_size: int = 3, rank: int = 0, ranks: int = 1
) -> SampleLoader:
    sampler: DistributedSampler = DistributedSampler(data, ranks, rank, seed=1, drop_last=True)
    return SampleLoader(data, batch_size, sampler=sampler, drop_last=True, threads=threads)


def epochs(batches: SampleLoader, numbers: range) -> list[list[float]]:
    orders = []
    for epoch in numbers:
        batches.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        orders.append(torch.cat(list(batches)).tolist())
    return orders


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing_but_who_reads(threads: int) -> None:
    plain, parallel = Numbers(20), Numbers(20)
    expected = epochs(loader(plain), range(3))
    assert expected[0] != expected[1]
    assert epochs(loader(Subset(parallel, range(20)), threads), range(3)) == expected
    assert plain.readers == {threading.get_ident()}
    assert threading.get_ident() not in parallel.readers


def test_a_mistake_in_a_thread_is_raised_where_batches_are_asked_for() -> None:
    with pytest.raises(UserError, match="sample is damaged"):
        list(loader(Numbers(20, broken=7), threads=2))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("samples")]


def test_an_epoch_left_early_leaves_no_threads() -> None:
    batches = iter(loader(Numbers(100), threads=2))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("samples")]


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("given", [0, 1, 4, 6])
def test_an_interrupted_epoch_resumes(threads: int, given: int) -> None:
    for rank in range(2):
        whole = loader(Numbers(40), threads, rank=rank, ranks=2)
        whole.sampler.set_epoch(3)  # type: ignore[attr-defined]
        batches: Iterator[Any] = iter(whole)
        before = [next(batches).tolist() for _ in range(given)]
        state = whole.state_dict()
        after = [batch.tolist() for batch in batches]
        assert len(before + after) == len(whole) == 6

        resumed = loader(Numbers(40), threads, rank=rank, ranks=2)
        resumed.load_state_dict(state)
        lazy = iter(resumed)  # as Lightning does, before it tells the epoch
        resumed.sampler.set_epoch(3)  # type: ignore[attr-defined]
        assert [batch.tolist() for batch in lazy] == after
        assert epochs(resumed, range(4, 5)) == epochs(whole, range(4, 5))


def test_a_state_of_another_epoch_skips_nothing() -> None:
    whole, resumed = loader(Numbers(20)), loader(Numbers(20))
    next(iter(whole))
    resumed.load_state_dict(whole.state_dict())
    assert epochs(resumed, range(1, 2)) == epochs(whole, range(1, 2))


def test_another_batch_size_is_refused_in_the_middle_of_an_epoch() -> None:
    whole, resumed = loader(Numbers(20)), loader(Numbers(20), batch_size=2)
    next(iter(whole))
    resumed.load_state_dict(whole.state_dict())
    with pytest.raises(UserError, match="after 1 of 6 batches of an epoch, which now has 10"):
        list(resumed)


class Fit(L.LightningModule):
    """Weights that depend on every sample and on the order."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: list[list[float]] = []

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        self.seen.append(batch.tolist())
        return (self.layer(batch[:, None] / 20) - batch[:, None]).square().mean()

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.Adam(self.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.95)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Killed(Exception):
    """Stands for a kill."""


class KillAfter(L.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise Killed


def fit(path: Path, threads: int, limit: dict, kill: int | None = None, resume: bool = False) -> Fit:
    torch.manual_seed(0)
    model = Fit()
    checkpoint = ModelCheckpoint(path, filename="step", every_n_train_steps=4, save_top_k=1, save_last=True)
    callbacks = [checkpoint] if kill is None else [checkpoint, KillAfter(kill)]
    trainer = L.Trainer(
        accelerator=DEVICE, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=callbacks, default_root_dir=path, **limit,
    )  # fmt: skip
    trainer.fit(model, loader(Numbers(20), threads), ckpt_path=str(path / "last.ckpt") if resume else None)
    return model


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("limit", [{"max_epochs": 4}, {"max_epochs": -1, "max_steps": 24}])
@pytest.mark.parametrize("kill", [5, 9, 12, 15, 22])  # epochs have 6 steps: within, and at their ends
def test_a_fit_that_was_killed_ends_as_one_that_was_not(
    tmp_path: Path, threads: int, limit: dict, kill: int
) -> None:
    whole = fit(tmp_path / "whole", threads, limit)
    with pytest.raises(Killed):
        fit(tmp_path / "killed", threads, limit, kill)
    resumed = fit(tmp_path / "killed", threads, limit, resume=True)
    assert resumed.seen == whole.seen[kill // 4 * 4 :]
    for a, b in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)
