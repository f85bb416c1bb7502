"""What a run of the command line says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vaevar.mistakes.words import words_of_commands


@pytest.fixture(autouse=True)
def as_a_command() -> Iterator[None]:
    with words_of_commands():
        yield
