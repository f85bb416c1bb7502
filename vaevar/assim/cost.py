"""The variational cost function J(w)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Cost:
    """J(w) in incremental form.

    Args:
        control: D.
        operator: H_D, on D's channels and grid.
        innovation: [P], d = y − H(x_b).
        error_std: [P], the square root of R's diagonal.
        lambda_: λ.
    """

    def __init__(
        self,
        control: Callable[[Tensor], Tensor],
        operator: Callable[[Tensor], Tensor],
        innovation: Tensor,
        error_std: Tensor,
        lambda_: float,
    ) -> None:
        self.control, self.operator = control, operator
        self.innovation, self.error_std, self.lambda_ = innovation, error_std, lambda_

    def terms(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """J_b and J_o, scalars; under autocast only D is computed in reduced precision."""
        increment = self.control(w)
        with torch.autocast(w.device.type, enabled=False):
            departure = (self.innovation - self.operator(increment)) / self.error_std
            return 0.5 * self.lambda_ * w.square().sum(), 0.5 * departure.square().sum()
