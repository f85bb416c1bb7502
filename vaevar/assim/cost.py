"""The cost function of every variational method here.

    J(w) = λ/2 ‖w‖² + ½ (y − H(x_b + D(w)))ᵀ R⁻¹ (y − H(x_b + D(w)))

with background x_b, observations y, observation operator H, observation-error covariance R and control
transform D (Xiao et al., VAE-Var, ICLR 2025). It is computed from the innovation d = y − H(x_b) and the
observed increment G(δ) = H(x_b + δ) − H(x_b), which is the same:

    J(w) = λ/2 ‖w‖² + ½ (d − G(D(w)))ᵀ R⁻¹ (d − G(D(w))).

Where H is linear, G(δ) = H δ is read straight from D's own grid: the incremental form (Courtier et al.,
1994). See :meth:`vaevar.data.observations.operator.ObservationOperator.observed_increment`.

In a window of time D makes the increments of all its states (:mod:`vaevar.assim.window.trajectory`), and H
observes them together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

Increment = TypeVar("Increment")  # a tensor, or those of a window's states


@dataclass(frozen=True)
class Cost(Generic[Increment]):
    """J(w).

    Attributes:
        control: D, from w to an increment δ.
        observed_increment: G, from an increment to [P].
        innovation: [P], d.
        error_std: [P], the square root of R's diagonal.
        lambda_: λ.
    """

    control: Callable[[Tensor], Increment]
    observed_increment: Callable[[Increment], Tensor]
    innovation: Tensor
    error_std: Tensor
    lambda_: float

    def departure(self, w: Tensor) -> Tensor:
        """(d − G(D(w)))/σ_o, [P]; under autocast only D is computed in reduced precision."""
        increment = self.control(w)
        with torch.autocast(w.device.type, enabled=False):
            return (self.innovation - self.observed_increment(increment)) / self.error_std

    def terms(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """J_b and J_o, scalars."""
        departure = self.departure(w)
        with torch.autocast(w.device.type, enabled=False):
            return 0.5 * self.lambda_ * w.square().sum(), 0.5 * departure.square().sum()
