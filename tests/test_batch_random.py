"""Random numbers depend on seed and step only, and the shares of all processes make up the batch."""

from __future__ import annotations

import torch

from vaevar import batch_random as shared_draws
from vaevar.batch_random import shared_integers, shared_randn, shared_signs, shared_spread, step_generator

CPU = torch.device("cpu")


def test_shares_interleave_to_the_whole_batch(monkeypatch):
    torch.manual_seed(5)
    whole = shared_randn(torch.zeros(6, 2, 3), step_generator(7, 0, CPU))
    signs = shared_signs(torch.zeros(6, 2, 3), step_generator(7, 1, CPU))
    spread = shared_spread(torch.zeros(6, 2), step_generator(7, 2, CPU))
    assert (spread * 6).long().tolist() == list(range(6))
    torch.randn(100)  # what else is drawn does not matter
    for rank in range(3):
        monkeypatch.setattr(shared_draws, "processes", lambda rank=rank: (rank, 3))
        share = shared_randn(torch.zeros(2, 2, 3), step_generator(7, 0, CPU))
        torch.testing.assert_close(share, whole[rank::3], rtol=0, atol=0)
        assert torch.equal(shared_signs(torch.zeros(2, 2, 3), step_generator(7, 1, CPU)), signs[rank::3])
        assert torch.equal(shared_spread(torch.zeros(2, 2), step_generator(7, 2, CPU)), spread[rank::3])


def test_steps_streams_and_seeds_differ():
    def first(step: int, stream: int) -> float:
        return float(shared_randn(torch.zeros(1, 1), step_generator(step, stream, CPU)))

    torch.manual_seed(1)
    drawn = [first(0, 0), first(1, 0), first(0, 1)]
    torch.manual_seed(2)
    drawn.append(first(0, 0))
    assert len(set(drawn)) == 4


def test_signs_are_signs():
    torch.manual_seed(0)
    assert set(shared_integers(torch.zeros(100), 3, step_generator(0, 0, CPU)).tolist()) == {0, 1, 2}
    signs = shared_signs(torch.zeros(1000, 1), step_generator(0, 0, CPU))
    assert set(signs.flatten().tolist()) == {-1, 1}
    assert abs(signs.double().mean()) < 0.1
