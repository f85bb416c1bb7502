"""Random numbers for a whole batch, from which each process takes its share.

They depend only on the seed and the step. Every process draws for all samples of a step. So two processes
train with the same noise as one process with twice the batch, and a resumed fit with the same noise as an
uninterrupted one.
"""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor


def processes() -> tuple[int, int]:
    """The rank of this process, and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def step_generator(step: int, stream: int, device: torch.device) -> torch.Generator:
    """The random generator of a step.

    Args:
        step: its number.
        stream: from 0 to 15; different streams of a step are independent.
        device: of the generator.
    """
    seed = (torch.initial_seed() % 2**32) * 2**31 + step * 16 + stream
    return torch.Generator(device).manual_seed(seed)


def shared_randn(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers with shape, dtype and device of ``like``, [B, ...]."""
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
    """Stratified numbers in [0, 1), [B]: for N samples in all processes, one in each interval of 1/N."""
    rank, count = processes()
    total = len(like) * count
    within = torch.rand(total, device=like.device, generator=generator)
    return ((torch.arange(total, device=like.device) + within) / total)[rank::count]
