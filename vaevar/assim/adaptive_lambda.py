"""λ from the innovations of an analysis: the value for which they are as large as D and R say.

With D(w), w ~ N(0, I/λ), as the background's error, innovations d = y − H(x_b) have

    E[dᵀ R⁻¹ d] = p + tr(R⁻¹ H B_λ Hᵀ),      tr(R⁻¹ H B_λ Hᵀ) = E ‖R^−½ H D(w)‖²,

the trace of the first of Desroziers' relations (Desroziers et al., 2005, Q. J. R. Meteorol. Soc. 131, eq. 1),
from which adaptive filters find their inflation (Dee, 1995, Mon. Wea. Rev. 123). The expectation is a mean
over a few draws, for a matrix and for a decoder alike; B_λ = B/λ where D is linear. It takes observations
and backgrounds only, never the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

LIMITS = (0.05, 500.0)
_DRAWS, _ROUNDS = 4, 3


def lambda_from_innovations(
    control: Callable[[Tensor], Tensor],
    observed_increment: Callable[[Tensor], Tensor],
    innovation: Tensor,
    error_std: Tensor,
    shape: Sequence[int],
) -> float:
    """λ, within :data:`LIMITS`; the same for the same arguments.

    Args:
        control: D.
        observed_increment: G, from an increment of D to [P].
        innovation: [P], d.
        error_std: [P], the square root of R's diagonal.
        shape: of w.
    """
    random = torch.Generator().manual_seed(0)
    draws = torch.randn(_DRAWS, *shape, generator=random).to(innovation)
    excess = float((innovation / error_std).square().sum()) - len(innovation)
    if excess <= 0:
        return LIMITS[1]
    lambda_ = 1.0
    # A linear D needs one round; the output of a decoder is not proportional to w.
    for _ in range(_ROUNDS):
        increments = (control(w / lambda_**0.5) for w in draws)
        squares = (float((observed_increment(x) / error_std).square().sum()) for x in increments)
        trace = sum(squares) / _DRAWS
        previous, lambda_ = lambda_, min(max(lambda_ * trace / excess, LIMITS[0]), LIMITS[1])
        if abs(lambda_ / previous - 1) < 0.01:
            break
    return lambda_
