"""The adjoint of a variational analysis: what each observation did to a forecast's error.

The analysis of a window is x_a = x_b + L(w), with w at the minimum of J. About it, as in the incremental
form (:mod:`vaevar.assim.gauss_newton`),

    ∂x_a/∂y = L' (λ I + Aᵀ A)⁻¹ Aᵀ R^{−1/2},   A = R^{−1/2} ∂H(x_b + L(w))/∂w,

so that an observation with innovation d = y − H(x_b) changes a forecast's error J_e by

    δJ_e = d R^{−1/2} A s,   (λ I + Aᵀ A) s = L'ᵀ g

(Langland and Baker, 2004, Tellus A 56; Trémolet, 2008, for 4DVar). g is the mean of the gradients of J_e at
x_a and at x_b, the trapezoidal rule: J_e(x_a) − J_e(x_b) is then exact where J_e is quadratic, and wrong by a
third order of x_a − x_b elsewhere (Errico, 2007, Tellus A 59).

(λ I + Aᵀ A)⁻¹ is also the covariance of the analysis error in control space, as J implies it. So
L' s/√(sᵀ L'ᵀ g) is an error of one standard deviation, and of all these the one that adds most to J_e.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaevar.assim.gauss_newton import Linearised, solve, twice_differentiable
from vaevar.assim.problem import Problem


@dataclass(frozen=True)
class Impacts:
    """What the observations of a window did.

    Attributes:
        values: [P], δJ_e of each; negative: it made the forecast better.
        perturbation: [K', C, H, W], the correction of x_a by one standard deviation of its error that lowers
            J_e most; zero where no error of the analysis matters.
        iterations: of the conjugate gradients.
        residual: what is left of their right-hand side's norm, as a fraction.
    """

    values: np.ndarray
    perturbation: Tensor
    iterations: int
    residual: float


def impacts(
    problem: Problem, w: Tensor, gradient: Tensor, iterations: int = 50, tolerance: float = 1e-2
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
        with twice_differentiable():
            last = torch.stack(problem.increments(w)[-len(gradient) :])
        probe = torch.zeros_like(last, requires_grad=True)
        (adjoint,) = torch.autograd.grad(last, w, probe, create_graph=True)
        (right,) = torch.autograd.grad(last, w, gradient.to(last), retain_graph=True)
        size = float(right.norm())
        linear = Linearised(cost, w)
        sensitivity, done = solve(cost.lambda_, linear, right, iterations, tolerance * size)
        (along,) = torch.autograd.grad(adjoint, probe, sensitivity)
        observed = -linear.along(sensitivity)
        left = right - cost.lambda_ * sensitivity - linear.normal(sensitivity)
    values = (cost.innovation / cost.error_std).double() * observed.double()
    variance = float((right.double() * sensitivity.double()).sum())
    return Impacts(
        values.cpu().numpy(),
        -along / variance**0.5 if variance > 0 else torch.zeros_like(along),
        done,
        float(left.norm()) / size if size else 0.0,
    )
