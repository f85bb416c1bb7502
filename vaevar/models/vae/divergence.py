"""The Kullback-Leibler divergence of the encoder's distribution from the prior."""

from __future__ import annotations

from torch import Tensor


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, e^log_variance) ‖ N(0, 1)), summed over all but the batch: [B, ...] -> [B], float32."""
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).flatten(1).sum(1)
