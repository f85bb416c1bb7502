"""The incremental minimisation of the variational cost: inner loops on a linearisation, outer loops renew it.

About the control vector w_j of an outer loop the normalised departures are taken as linear,

    r(w_j + δ) ≈ r(w_j) − A δ,   A = ∂(H(x_b + D(w))/σ_o)/∂w,

and conjugate gradients solve (λ I + Aᵀ A) δ = Aᵀ r − λ w_j (Courtier et al., 1994: a Gauss–Newton method).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vaevar.assim.cost import Cost, Increment
from vaevar.assim.minimiser import Evaluation, Minimum, gradient_of, require_finite
from vaevar.errors import ForecasterFault


def minimise_incrementally(
    cost: Cost[Increment],
    start: Tensor,
    outer_loops: int,
    iterations: int,
    tolerance: float,
    on_iteration: Callable[[int, float, float], None] | None = None,
) -> Minimum:
    """Gauss–Newton with conjugate gradients (scipy's).

    Args:
        cost: J.
        start: the first w.
        outer_loops: how many linearisations.
        iterations: the most inner iterations of all of them together.
        tolerance: an inner loop stops when its residual has fallen to this fraction of the first gradient;
            the outer loops stop when the gradient has.
        on_iteration: called with the inner iterations done, J and its gradient's norm after each outer loop.

    Returns:
        the minimum; ``evaluations`` counts the products with A and Aᵀ as an evaluation of J and its gradient.

    Raises:
        FloatingPointError: when J or its gradient is not finite at ``start``.
        ForecasterFault: when that is a forecaster's doing.
    """
    current, linear = _linearised(cost, start)
    initial, done, evaluations, at_the_limit = current, 0, 1, False
    require_finite(initial)
    for loop in range(outer_loops):
        share = math.ceil((iterations - done) / (outer_loops - loop))
        if share < 1 or current.grad_norm <= tolerance * initial.grad_norm:
            break
        least = tolerance * initial.grad_norm
        change, inner = solve(cost.lambda_, linear, -current.gradient, share, least)
        done, evaluations = done + inner, evaluations + inner + 1
        try:
            following, linear = _linearised(cost, current.w + change)
        except ForecasterFault:
            at_the_limit = True
            break
        if not following.value < current.value:
            at_the_limit = True  # the linearisation promises more than there is
            break
        current = following
        if on_iteration is not None:
            on_iteration(done, current.value, current.grad_norm)
    converged = at_the_limit or current.grad_norm <= tolerance * initial.grad_norm
    return Minimum(current, initial, done, evaluations, converged)


def twice_differentiable() -> AbstractContextManager[None]:
    """Attention that has a second derivative, which the fast kernels have not."""
    return sdpa_kernel(SDPBackend.MATH)


class Linearised:
    """A at a point: its products with a direction, and those of its adjoint.

    Aδ is the derivative of Aᵀu by u, which is linear in u: two gradients backwards, which every forecaster
    with a gradient has, in place of one forwards.

    Args:
        cost: whose departures they are.
        w: where; it requires a gradient.

    Attributes:
        departure: r(w).
    """

    def __init__(self, cost: Cost[Increment], w: Tensor) -> None:
        self._w = w
        with twice_differentiable():
            self.departure = cost.departure(w)
        self._weights = torch.zeros_like(self.departure, requires_grad=True)
        self._adjoint = gradient_of(self.departure, w, self._weights, create_graph=True)

    def along(self, direction: Tensor) -> Tensor:
        """The change of the departures along a direction, −A δ, [P]."""
        return gradient_of(self._adjoint, self._weights, direction, retain_graph=True)

    def normal(self, direction: Tensor) -> Tensor:
        """Aᵀ A δ."""
        return gradient_of(self.departure, self._w, self.along(direction), retain_graph=True)


def _linearised(cost: Cost[Increment], w: Tensor) -> tuple[Evaluation, Linearised]:
    """J and its gradient at w, and A there."""
    w = w.detach().clone().requires_grad_(True)
    linear = Linearised(cost, w)
    departure = linear.departure
    j_o = 0.5 * departure.detach().square().sum()
    gradient = gradient_of(departure, w, departure.detach(), retain_graph=True)
    point = w.detach()
    gradient = gradient + cost.lambda_ * point
    j_b = 0.5 * cost.lambda_ * point.square().sum()
    return Evaluation(point, j_b.item(), j_o.item(), gradient), linear


def solve(
    lambda_: float, linear: Linearised, right: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, int]:
    """(λ I + Aᵀ A) δ = b by conjugate gradients.

    Args:
        lambda_: λ.
        linear: A.
        right: b, of the shape of the control vector.
        iterations: the most of them.
        tolerance: it stops when the norm of the residual has fallen to this.

    Returns:
        δ, and how many iterations it took.
    """
    done = 0

    def product(direction: np.ndarray) -> np.ndarray:
        nonlocal done
        done += 1
        vector = torch.from_numpy(direction.reshape(-1)).to(right)
        return (
            (lambda_ * vector + linear.normal(vector.reshape(right.shape)).reshape(-1)).double().cpu().numpy()
        )

    size = right.numel()
    system = LinearOperator((size, size), matvec=product, dtype=np.float64)
    found, _ = cg(
        system, right.double().cpu().numpy().reshape(-1), rtol=0.0, atol=tolerance, maxiter=iterations
    )
    return torch.from_numpy(found).to(right).reshape(right.shape), done
