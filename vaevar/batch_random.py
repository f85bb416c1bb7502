"""Random numbers of a whole batch, of which every process takes its own share.

They follow from the seed and the number of the step alone. All processes draw for all samples of a step; so
two processes train with the noise that one process would give the doubled batch, and a fit that was resumed
with the noise that it would have had.
"""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor


def processes() -> tuple[int, int]:
    """This process's number, and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def generator_of(step: int, stream: int, device: torch.device) -> torch.Generator:
    """The generator of a step.

    Args:
        step: its number.
        stream: tells apart what is drawn in one step.
        device: where.
    """
    seed = (torch.initial_seed() % 2**32) * 2**31 + step * 16 + stream
    return torch.Generator(device).manual_seed(seed)


def shared_randn(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape of ``like``, [B, ...]."""
    rank, count = processes()
    shape = (len(like) * count, *like.shape[1:])
    return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)[rank::count]


def shared_integers(like: Tensor, end: int, generator: torch.Generator) -> Tensor:
    """An integer from 0 to below ``end`` for each sample of ``like``, [B]."""
    rank, count = processes()
    return torch.randint(0, end, (len(like) * count,), device=like.device, generator=generator)[rank::count]


def shared_signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """−1 or 1 for each sample of ``like``, [B, 1, ...]."""
    return (shared_integers(like, 2, generator) * 2 - 1).reshape(-1, *[1] * (like.ndim - 1))


def shared_spread(like: Tensor, generator: torch.Generator) -> Tensor:
    """[B]: of the whole batch, one number from each of as many equal parts of 0 to 1 as it has samples."""
    rank, count = processes()
    total = len(like) * count
    within = torch.rand(total, device=like.device, generator=generator)
    return ((torch.arange(total, device=like.device) + within) / total)[rank::count]
