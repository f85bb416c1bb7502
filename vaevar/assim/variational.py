"""The variational analysis: one cost function and one minimiser for every control transform.

VAE-Var (Xiao et al., ICLR 2025) and 3DVar both seek

    x_a = x_b + D(w*),   w* = argmin J(w),

with the cost J of :mod:`vaevar.assim.cost`. The control transform D is the decoder of a VAE trained on
background errors, or a linear square root U of B = U Uᵀ (then, with λ = 1, x_a is the best linear unbiased
estimate). λ is a tuned scalar; it stands in for the log-determinant of the decoder's Jacobian (arXiv
2405.13711).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from vaevar.assim.adaptive_lambda import lambda_from_innovations
from vaevar.assim.assimilator import Analysis, Assimilator
from vaevar.assim.context import STANDALONE, AnalysisContext
from vaevar.assim.control.base import ControlTransform
from vaevar.assim.cost import Cost
from vaevar.assim.innovation import innovation, tell_of_none
from vaevar.assim.minimiser import Minimum, minimise
from vaevar.assim.problem import Problem
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec, difference, regrid


class VariationalAssimilator(Assimilator):
    """The variational analysis; the control transform makes it 3DVar, VAE-Var or another method.

    Args:
        control: D.
        lambda_: λ, the weight of the background term. None: estimate λ from the innovations of each analysis.
        iterations: the most L-BFGS iterations (the paper takes 20 to 40).
        history: L-BFGS history.
        tolerance: stop when the gradient's norm has fallen to this fraction of its first value.
        dtype: precision of the minimisation; D may work in its own.

    Attributes:
        on_iteration: called after each iteration with the iterations done, J and its gradient's norm.

    Raises:
        UserError: for a λ, a count or a tolerance out of range.

    Example:
        >>> statistics = vaevar.estimate_covariance(errors, lmax=7, band_centres=(1, 4))
        >>> vaevar.VariationalAssimilator(vaevar.CovarianceControl(statistics), iterations=40).iterations
        40
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
        name = type(self).__name__
        if lambda_ is not None and not (lambda_ > 0 and math.isfinite(lambda_)):
            raise UserError(f"{name}: lambda_ is {lambda_}, must be positive")
        if iterations < 1 or history < 1:
            raise UserError(f"{name}: iterations {iterations} and history {history} must be at least 1")
        if not 0 <= tolerance < 1:
            raise UserError(f"{name}: tolerance is {tolerance}, must lie in [0, 1)")
        self.control, self.lambda_ = control, lambda_
        self.iterations, self.history, self.tolerance = iterations, history, tolerance
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.on_iteration: Callable[[int, float, float], None] | None = None

    def forward(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> Analysis:
        """Minimise J from w = 0 and add the increment to the background.

        Works under ``no_grad`` and inference mode, as in Lightning's predict.

        Raises:
            UserError: when the control transform has other channels than the background, or an
                observation cannot be compared with the state.
            FloatingPointError: when the cost of the background is not finite.
        """
        require_channels(self.control, background.spec, background.grid)
        began = time.perf_counter()
        with torch.inference_mode(False), torch.no_grad():
            if len(observations) == 0:
                tell_of_none()
                return Analysis(background, self.diagnostics_of_none())
            control = self.control.for_analysis(background, context)
            cost, first = self._cost(control, background, observations)
            minimum = self.minimum(cost, first)
            increment = control(minimum.final.w)
            increment = regrid(increment, background.spec, control.grid, background.grid)
            values = (background.values + increment).to(background.values.dtype)
        diagnostics = self.diagnostics_of(minimum, len(observations), cost.lambda_)
        diagnostics["seconds"] = time.perf_counter() - began
        return Analysis(
            State(values, background.spec, background.grid), diagnostics, converged=minimum.converged
        )

    @staticmethod
    def diagnostics_of_none() -> dict[str, float]:
        """The numbers where nothing is observed."""
        zeros = ("j_b", "j_o", "j_o_initial", "grad_norm", "initial_grad_norm", "iterations", "evaluations")
        return dict.fromkeys(zeros, 0.0) | {"chi2": math.nan, "lambda": math.nan, "seconds": 0.0}

    @staticmethod
    def diagnostics_of(minimum: Minimum, observations: int, lambda_: float) -> dict[str, float]:
        """The numbers of a minimisation (:class:`~vaevar.assim.assimilator.Analysis`).

        Args:
            minimum: where it ended.
            observations: P.
            lambda_: λ.
        """
        final, initial = minimum.final, minimum.initial
        return {
            "j_b": final.j_b,
            "j_o": final.j_o,
            "j_o_initial": initial.j_o,
            "grad_norm": final.grad_norm,
            "initial_grad_norm": initial.grad_norm,
            "iterations": float(minimum.iterations),
            "evaluations": float(minimum.evaluations),
            "chi2": 2 * final.value / observations,
            "lambda": lambda_,
        }

    def minimum(self, cost: Cost[Any], first: Tensor) -> Minimum:
        """Minimise J.

        Args:
            cost: J.
            first: the control vector to begin at.
        """
        with torch.enable_grad():
            return minimise(cost, first, self.iterations, self.history, self.tolerance, self.on_iteration)

    def problem(
        self,
        start: Tensor,
        observations: Sequence[Observations],
        forecaster: Forecaster,
        context: AnalysisContext = STANDALONE,
    ) -> Problem:
        """What :meth:`analyse_window` minimises, with the same arguments; at least one observation.

        Raises:
            UserError: as :meth:`forward`.
        """
        (observed,) = observations
        background = State(start[-1], forecaster.spec, forecaster.grid)
        require_channels(self.control, background.spec, background.grid)
        with torch.inference_mode(False), torch.no_grad():
            control = self.control.for_analysis(background, context)
            cost, first = self._cost(control, background, observed)
        return Problem(
            cost,
            first,
            lambda w: [regrid(control(w), background.spec, control.grid, background.grid)],
            [background],
            observed,
        )

    def _cost(
        self, control: ControlTransform, background: State, observations: Observations
    ) -> tuple[Cost[Tensor], Tensor]:
        """J, and the control vector to begin at."""
        device = background.values.device
        # H(x_b) in double precision: the innovation is a small difference of large numbers.
        operator = observations.operator(background.spec, background.grid).to(device)
        departure = innovation(operator(background.values), background, observations).to(self.dtype)
        error_std = torch.tensor(observations.error_std, device=device, dtype=self.dtype)
        observed_increment = operator.observed_increment(background, control.grid, self.dtype)
        lambda_ = self.lambda_ or lambda_from_innovations(
            control, observed_increment, departure, error_std, control.shape
        )
        cost = Cost(control, observed_increment, departure, error_std, lambda_)
        return cost, torch.zeros(control.shape, device=device, dtype=self.dtype)


def require_channels(control: ControlTransform, spec: StateSpec, grid: Grid) -> None:
    """Check that a control transform has the channels of the states that it is for.

    Args:
        control: D.
        spec, grid: of the states.

    Raises:
        UserError: when they differ.
    """
    if spec != control.spec:
        raise UserError(
            "the control transform was made for other channels than the background's, "
            f"{difference(control.spec, grid, spec, grid)}: use weights of the same channels, in the same "
            "order"
        )
