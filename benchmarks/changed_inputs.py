"""Small changes of meaning in every kind of input: each is refused by name, told, or does no harm."""

from __future__ import annotations

from collections.abc import Iterator

from changes import (
    chunks,
    covariances,
    forecasters,
    numbers,
    observed,
    runs,
    samples,
    settings,
    stores,
    weights,
)
from changes.kinds import Case


def all_cases() -> Iterator[Case]:
    for module in (
        stores,
        chunks,
        forecasters,
        numbers,
        weights,
        covariances,
        samples,
        runs,
        observed,
        settings,
    ):
        yield from module.cases()
