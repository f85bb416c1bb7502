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
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from vaevar.assim.adaptive_lambda import innovation_lambda
from vaevar.assim.assimilator import Analysis, Assimilator
from vaevar.assim.control.base import ControlTransform
from vaevar.assim.cost import Cost
from vaevar.assim.minimiser import Minimum, minimise
from vaevar.data.observations.operator import ObservationOperator
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.state import State, regrid


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
