"""The adjoint of a variational analysis: what each observation did to a forecast's error.

The analysis of a window is x_a = x_b + L(w), with w at the minimum of J. About it, as in the incremental
form (:mod:`vaevar.assim.gauss_newton`),

    ∂x_a/∂y = L' (λ I + Aᵀ A)⁻¹ Aᵀ R^{−1/2},   A = R^{−1/2} ∂H(x_b + L(w))/∂w,

so that an observation with innovation d = y − H(x_b) changes a forecast's error J_e by

    δJ_e = d R^{−1/2} A s,   (λ I + Aᵀ A) s = L'ᵀ g

(Langland and Baker, 2004, Tellus A 56; Trémolet, 2008, for 4DVar). g is the mean of the gradients of J_e at x_a
and at x_b, the trapezoidal rule: J_e(x_a) − J_e(x_b) is then exact where J_e is quadratic, and wrong by a third
order of x_a − x_b elsewhere (Errico, 2007, Tellus A 59).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaevar.assim.gauss_newton import Linearised, solve
from vaevar.assim.problem import Problem


@dataclass(frozen=True)
class Impacts:
    """What the observations of a window did.

    Attributes:
        values: [P], δJ_e of each; negative: it made the forecast better.
        iterations: of the conjugate gradients.
        residual: what is left of their right-hand side's norm, as a fraction.
    """

    values: np.ndarray
    iterations: int
    residual: float


def impacts(
    problem: Problem, w: Tensor, gradient: Tensor, iterations: int = 100, tolerance: float = 1e-3
) -> Impacts:
    """The impact of every observation.

    Args:
        problem: of the analysis.
        w: where its cost is least.
        gradient: [K', C, H, W], g for the last K' states of the window.
        iterations: the most of the conjugate gradients.
        tolerance: stop when the norm of the residual has fallen to this fraction of the first.
    """
    cost = problem.cost
    with torch.inference_mode(False), torch.enable_grad():
        w = w.detach().clone().requires_grad_(True)
        last = torch.stack(problem.increments(w)[-len(gradient) :])
        (right,) = torch.autograd.grad(last, w, gradient.to(last))
        del last
        linear = Linearised(w, cost.departure(w))
        size = float(right.norm())
        sensitivity, done = solve(cost.lambda_, linear, right, iterations, tolerance * size)
        observed = -linear.along(sensitivity)
        left = right - cost.lambda_ * sensitivity - linear.normal(sensitivity)
    normalised = cost.innovation / cost.error_std
    values = (normalised.double() * observed.double()).cpu().numpy()
    return Impacts(values, done, float(left.norm()) / size if size else 0.0)
