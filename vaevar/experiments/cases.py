"""The cases of an experiment as a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

from torch.utils.data import DataLoader, IterableDataset

Case_co = TypeVar("Case_co", covariant=True)


class HasCases(Protocol[Case_co]):
    """A data module that knows how many cases it has, and makes each in turn."""

    def __len__(self) -> int: ...
    def cases(self) -> Iterator[Case_co]: ...


class _Cases(IterableDataset[Case_co]):
    def __init__(self, data: HasCases[Case_co]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Case_co]:
        return self.data.cases()


def loader_of_cases(data: HasCases[Case_co]) -> DataLoader[Case_co]:
    """Every case in order, one by one."""
    # An iterable dataset is left alone by Lightning's samplers.
    return DataLoader(_Cases(data), batch_size=None)
