"""The variational analysis: one cost function and one minimiser for every control transform.

VAE-Var (Xiao et al., ICLR 2025) and 3DVar both seek

    x_a = x_b + D(w*),   w* = argmin J(w),

    J(w) = λ/2 ‖w‖² + ½ (y − H(x_b + D(w)))ᵀ R⁻¹ (y − H(x_b + D(w))),

with background x_b, observations y, observation operator H, observation-error covariance R and
control transform D: the decoder of a VAE trained on background errors, or a linear square root of
B (then, with λ = 1, x_a is the best linear unbiased estimate). λ is a tuned scalar; it stands in
for the log-determinant of the decoder's Jacobian (arXiv 2405.13711). H is linear, so the cost is
computed in incremental form (Courtier et al., 1994),

    J(w) = λ/2 ‖w‖² + ½ (d − H_D D(w))ᵀ R⁻¹ (d − H_D D(w)),   d = y − H(x_b),

where d is computed once from the background's full grid and H_D interpolates from D's own grid.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vaevar.assim.control import ControlTransform, regrid
from vaevar.assim.innovation_lambda import innovation_lambda
from vaevar.assim.observation_operator import ObservationOperator
from vaevar.data.observations import Observations
from vaevar.errors import UserError
from vaevar.state import State


@dataclass(frozen=True)
class Analysis:
    """An analysed state and how it was reached.

    Attributes:
        state: x_a, on the background's grid.
        diagnostics: of a variational analysis: ``j_b`` and ``j_o`` at the minimum,
            ``j_o_initial`` at the background, ``grad_norm`` and ``initial_grad_norm`` (Euclidean),
            ``iterations``, ``evaluations`` of J and its gradient, ``chi2`` = 2 J/P (near 1 where
            B and R are right), ``lambda`` and ``seconds``. Empty for a free run.
    """

    state: State
    diagnostics: dict[str, float]


class Assimilator(nn.Module, ABC):
    """The base of every method: a background and observations in, an analysis out."""

    def at(self, index: int) -> None:
        """Told before each analysis of a cycle: its number, 0 for the first, also after a restart."""

    def observed_before(self, coverage: Tensor) -> None:
        """Told before each analysis of a cycle where earlier ones had observations.

        Args:
            coverage: [K, H, W], as :mod:`vaevar.data.coverage` has it; all zero at the first analysis.
        """

    @abstractmethod
    def forward(self, background: State, observations: Observations) -> Analysis:
        """``background.values`` is [C, H, W]; it is not changed."""


class FreeRun(Assimilator):
    """No assimilation: the forecast goes on from its own state."""

    def forward(self, background: State, observations: Observations) -> Analysis:
        return Analysis(background, {})


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


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended, where it began, and what it took."""

    final: Evaluation
    initial: Evaluation
    iterations: int
    evaluations: int


def minimise(
    cost: Cost,
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
        iterations: at most so many.
        history: pairs of updates that approximate the inverse Hessian.
        tolerance: stop when the gradient's norm has fallen to this fraction of its first value.
        on_iteration: called with the iterations done, J and its gradient's norm after each.

    Raises:
        FloatingPointError: when J or its gradient is not finite at ``start``.
    """
    w = start.detach().clone().requires_grad_(True)
    evaluated: list[Evaluation] = []
    evaluations = 0

    def evaluate() -> Evaluation:
        # The optimiser asks again, at the start of a step, for the point its line search accepted.
        nonlocal evaluations
        for known in reversed(evaluated):
            if torch.equal(known.w, w):
                return known
        evaluations += 1
        j_b, j_o = cost.terms(w)
        (gradient,) = torch.autograd.grad(j_b + j_o, w)
        evaluated.append(Evaluation(w.detach().clone(), j_b.item(), j_o.item(), gradient))
        return evaluated[-1]

    def closure() -> float:
        here = evaluate()
        if math.isfinite(here.value) and bool(here.gradient.isfinite().all()):
            w.grad = here.gradient.clone()
            return here.value
        # A trial step too far: with no slope to go by, the line search bisects its bracket.
        w.grad = torch.full_like(w, math.nan)
        return math.inf

    initial = here = evaluate()
    if not (math.isfinite(initial.value) and bool(initial.gradient.isfinite().all())):
        raise FloatingPointError(
            f"the cost of the background is not finite (J_b {initial.j_b:g}, J_o {initial.j_o:g}, gradient "
            f"norm {initial.grad_norm:g}): look for NaN in the background and in the control transform"
        )
    # A first step along the gradient that moves no control by more than its prior standard
    # deviation and is not beyond 1/λ, where the background term alone would stop it. The
    # optimiser scales its first step by 1/‖g‖₁, so that is taken out again.
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
    done = 0
    while done < iterations and here.grad_norm > tolerance * initial.grad_norm:
        optimiser.step(closure)
        previous, here = here, evaluate()
        if not here.value < previous.value:
            # The limit of the arithmetic: what is left of the descent is below its rounding.
            here = previous
            break
        done += 1
        evaluated[:] = [here]
        optimiser.param_groups[0]["lr"] = 1.0
        if on_iteration is not None:
            on_iteration(done, here.value, here.grad_norm)
    return Minimum(here, initial, done, evaluations)


class VariationalAssimilator(Assimilator):
    """VAE-Var, 3DVar: whichever the control transform makes it.

    Args:
        control: D.
        lambda_: λ, the weight of the background term; none to take it from the innovations of each analysis.
        iterations: at most so many L-BFGS iterations (the paper takes 20 to 40).
        history: L-BFGS history.
        tolerance: stop when the gradient's norm has fallen to this fraction of its first value.
        dtype: precision of the minimisation; D may work in its own.

    Attributes:
        on_iteration: called with the iterations done, J and its gradient's norm after each.

    Raises:
        UserError: for a λ, a count or a tolerance out of range.
    """

    def __init__(
        self,
        control: ControlTransform,
        lambda_: float | None = 1.0,
        iterations: int = 30,
        history: int = 10,
        tolerance: float = 1e-3,
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        super().__init__()
        if lambda_ is not None and not (lambda_ > 0 and math.isfinite(lambda_)):
            raise UserError(f"VariationalAssimilator: lambda_ is {lambda_}, must be positive")
        if iterations < 1 or history < 1:
            raise UserError(
                f"VariationalAssimilator: iterations {iterations} and history {history} must be at least 1"
            )
        if not 0 <= tolerance < 1:
            raise UserError(f"VariationalAssimilator: tolerance is {tolerance}, must lie in [0, 1)")
        self.control, self.lambda_ = control, lambda_
        self.iterations, self.history, self.tolerance = iterations, history, tolerance
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.on_iteration: Callable[[int, float, float], None] | None = None
        self._coverage: Tensor | None = None

    def observed_before(self, coverage: Tensor) -> None:
        self._coverage = coverage

    def forward(self, background: State, observations: Observations) -> Analysis:
        """Minimise J from w = 0 and add the increment to the background.

        Works under ``no_grad`` and inference mode, as in Lightning's predict.

        Raises:
            UserError: when the control transform has other channels than the background, or an
                observation cannot be compared with the state.
            FloatingPointError: when the cost of the background is not finite.
        """
        if background.spec != self.control.spec:
            raise UserError(
                f"the control transform was made for {self.control.spec}, the background is "
                f"{background.spec}: use weights of the same channels, in the same order"
            )
        began = time.perf_counter()
        with torch.inference_mode(False), torch.no_grad():
            if len(observations) == 0:
                zeros = ("j_b", "j_o", "j_o_initial", "grad_norm", "initial_grad_norm")
                counts = dict.fromkeys((*zeros, "iterations", "evaluations"), 0.0)
                return Analysis(background, counts | {"chi2": math.nan, "lambda": math.nan, "seconds": 0.0})
            self.control.given(background, self._coverage)
            lambda_, minimum = self._minimise(background, observations)
            increment = self.control(minimum.final.w)
            increment = regrid(increment, background.spec, self.control.grid, background.grid)
            values = (background.values + increment).to(background.values.dtype)
        final, initial = minimum.final, minimum.initial
        diagnostics = {
            "j_b": final.j_b,
            "j_o": final.j_o,
            "j_o_initial": initial.j_o,
            "grad_norm": final.grad_norm,
            "initial_grad_norm": initial.grad_norm,
            "iterations": float(minimum.iterations),
            "evaluations": float(minimum.evaluations),
            "chi2": 2 * final.value / len(observations),
            "lambda": lambda_,
            "seconds": time.perf_counter() - began,
        }
        return Analysis(State(values, background.spec, background.grid), diagnostics)

    def _minimise(self, background: State, observations: Observations) -> tuple[float, Minimum]:
        spec, device = background.spec, background.values.device
        # H(x_b) in double precision: the innovation is a small difference of large numbers.
        full = ObservationOperator(spec, background.grid, observations).to(device)
        observed = torch.tensor(observations.value, device=device)
        innovation = (observed - full(background.values)).to(self.dtype)
        error_std = torch.tensor(observations.error_std, device=device, dtype=self.dtype)
        incremental = (
            full
            if self.control.grid == background.grid
            else ObservationOperator(spec, self.control.grid, observations)
        ).to(device, self.dtype)
        lambda_ = self.lambda_ or innovation_lambda(
            self.control, incremental, innovation, error_std, self.control.shape
        )
        cost = Cost(self.control, incremental, innovation, error_std, lambda_)
        start = torch.zeros(self.control.shape, device=device, dtype=self.dtype)
        with torch.enable_grad():
            return lambda_, minimise(
                cost, start, self.iterations, self.history, self.tolerance, self.on_iteration
            )
