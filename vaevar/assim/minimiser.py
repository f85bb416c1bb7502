"""The minimiser of the variational cost: L-BFGS with a strong-Wolfe line search."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from vaevar.assim.cost import Cost, Increment
from vaevar.errors import ForecasterFault


@dataclass(frozen=True)
class Evaluation:
    """J = j_b + j_o and its gradient at w."""

    w: Tensor
    j_b: float
    j_o: float
    gradient: Tensor

    @property
    def value(self) -> float:
        return self.j_b + self.j_o

    @property
    def grad_norm(self) -> float:
        return float(self.gradient.norm())

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.value) and bool(self.gradient.isfinite().all())


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended, where it began, and what it took.

    Attributes:
        converged: it ended at the tolerance, or at the limit of the arithmetic, not at the most iterations.
    """

    final: Evaluation
    initial: Evaluation
    iterations: int
    evaluations: int
    converged: bool


def minimise(
    cost: Cost[Increment],
    start: Tensor,
    iterations: int,
    history: int,
    tolerance: float,
    on_iteration: Callable[[int, float, float], None] | None = None,
) -> Minimum:
    """L-BFGS with a strong-Wolfe line search (torch.optim.LBFGS), one iteration at a time.

    Args:
        cost: J.
        start: the first w.
        iterations: the most iterations.
        history: pairs of updates that approximate the inverse Hessian.
        tolerance: stop when the gradient's norm has fallen to this fraction of its first value.
        on_iteration: called with the iterations done, J and its gradient's norm after each.

    Raises:
        FloatingPointError: when J or its gradient is not finite at ``start``.
        ForecasterFault: when that is a forecaster's doing.
    """
    w = start.detach().clone().requires_grad_(True)
    evaluated: list[Evaluation] = []
    evaluations = 0

    def evaluate() -> Evaluation:
        # The optimiser asks again, at the start of a step, for the point its line search accepted.
        nonlocal evaluations
        for earlier in reversed(evaluated):
            if torch.equal(earlier.w, w):
                return earlier
        evaluations += 1
        j_b, j_o = cost.terms(w)
        gradient = gradient_of(j_b + j_o, w)
        evaluated.append(Evaluation(w.detach().clone(), j_b.item(), j_o.item(), gradient))
        return evaluated[-1]

    def closure() -> float:
        with suppress(ForecasterFault):
            trial = evaluate()
            if trial.is_finite:
                w.grad = trial.gradient.clone()
                return trial.value
        # The trial step was too long. Without a slope the line search bisects its bracket.
        w.grad = torch.full_like(w, math.nan)
        return math.inf

    initial = current = evaluate()
    require_finite(initial)
    # The first step, along the gradient, moves no control variable by more than its prior standard
    # deviation, and goes no further than 1/λ, where the background term alone would stop it. The
    # optimiser scales its first step by 1/‖g‖₁; the factor takes that out again.
    slope = float(initial.gradient.abs().max())
    scale = max(1.0, float(initial.gradient.abs().sum()))
    first_step = min(1 / cost.lambda_, 1 / slope) if slope > 0 else 1.0
    optimiser = torch.optim.LBFGS(
        [w],
        lr=first_step * scale,
        max_iter=1,
        max_eval=12,
        history_size=history,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    done, at_the_limit = 0, False
    while done < iterations and current.grad_norm > tolerance * initial.grad_norm:
        optimiser.step(closure)
        previous, current = current, evaluate()
        if not current.value < previous.value:
            # The limit of the arithmetic: the descent that is left is below its rounding.
            current, at_the_limit = previous, True
            break
        done += 1
        evaluated[:] = [current]
        optimiser.param_groups[0]["lr"] = 1.0
        if on_iteration is not None:
            on_iteration(done, current.value, current.grad_norm)
    converged = at_the_limit or current.grad_norm <= tolerance * initial.grad_norm
    return Minimum(current, initial, done, evaluations, converged)


def gradient_of(value: Tensor, w: Tensor, weights: Tensor | None = None, **kept: bool) -> Tensor:
    """The gradient by w of a value, or of the sum of values with weights.

    The way back takes the precision of each step of the way there; within autocast it would lower all of it.

    Args:
        value: what depends on w.
        w: that requires a gradient.
        weights: of the shape of ``value``; None: of a single number.
        kept: ``retain_graph`` and ``create_graph`` of ``torch.autograd.grad``.
    """
    with torch.autocast(w.device.type, enabled=False):
        return torch.autograd.grad(value, w, weights, **kept)[0]


def require_finite(initial: Evaluation) -> None:
    """Check where a minimisation begins.

    Raises:
        FloatingPointError: when J or its gradient is not finite there.
    """
    if not initial.is_finite:
        raise FloatingPointError(
            f"the cost of the background is not finite (J_b {initial.j_b:g}, J_o {initial.j_o:g}, gradient "
            f"norm {initial.grad_norm:g}): look for NaN in the background and in the control transform"
        )
