"""A method works on states that others go on with: it may not change them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from vaevar.errors import UserError
from vaevar.plausible.patterns import every
from vaevar.sphere.grid import Grid


@contextmanager
def untouched(name: str, states: Tensor, grid: Grid) -> Iterator[None]:
    """Check that states are afterwards what they were.

    torch counts what it changes in place; for what numpy changes, a coarse piece is compared.

    Args:
        name: of the method, for the message.
        states: [..., H, W], what it is given.
        grid: of the states.

    Raises:
        UserError: when they have been changed.
    """
    stride = every(grid)
    piece = states.detach()[..., ::stride, ::stride]
    counted, before = _changes(states), piece.clone()
    yield
    if _changes(states) != counted or not torch.equal(piece, before):
        raise UserError(
            f"{name} changes the background that it is given; let it work on background.values.clone()"
        )


def _changes(states: Tensor) -> int:
    """How often torch has changed a tensor in place; in inference mode it does not count."""
    return 0 if states.is_inference() else states._version
