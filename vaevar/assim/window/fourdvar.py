"""4DVar: the analysis of a window of time, through a forecaster that has a gradient.

    J(w, η) = λ/2 (‖w‖² + Σ_k ‖η_k‖²) + ½ Σ_k (y_k − H_k(x_k))ᵀ R_k⁻¹ (y_k − H_k(x_k)),
    x_0 = x_b + D(w),   x_k = M(x_{k−1}) + Q D_q(η_k)

with the forecaster M, and K times in the window (weak constraint; Trémolet, 2006). Without η the forecaster
is taken as perfect (strong constraint). D is any control transform: U makes 4DVar of it, the decoder of a VAE
VAE-4DVar. It is the cost of :mod:`vaevar.assim.cost` with the window's increments in place of the one of
3DVar. A weight μ of the η's of its own would do the same as a factor √(λ/μ) of Q.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from vaevar.assim.assimilator import Analysis, evaluating, tell_convergence
from vaevar.assim.context import STANDALONE, AnalysisContext
from vaevar.assim.control.base import ControlTransform
from vaevar.assim.cost import Cost
from vaevar.assim.gauss_newton import minimise_incrementally
from vaevar.assim.innovation import innovation, tell_of_none
from vaevar.assim.minimiser import Minimum
from vaevar.assim.problem import Problem
from vaevar.assim.variational import VariationalAssimilator, require_channels
from vaevar.assim.window.lead_errors import at_observations, load_lead_errors
from vaevar.assim.window.trajectory import ModelError, WindowModel, forecasting
from vaevar.data.observations.points import Observations
from vaevar.data.observations.window import WindowOperator, joined
from vaevar.errors import UserError
from vaevar.forecast import Forecaster, rollout
from vaevar.state import State, difference


class FourDVar(VariationalAssimilator):
    """4DVar and VAE-4DVar: the analysis of ``window`` times at once.

    All of its states but the last have seen observations that were made later. The last one has not, and the
    next background is the forecast from there.

    Args:
        control: D.
        window: K, the number of analysis times in a window; 4 are 24 h in steps of 6 h.
        every: a new window after so many times, of which K is a multiple; None: after K. Windows that overlap
            hand out the analyses of their last ``every`` times, and take K / ``every`` times as long.
        lambda_: λ, the weight of the background term.
        model_error_scale: Q, by which D_q is multiplied; 0: the forecaster is perfect.
        model_error: D_q. None: D itself.
        lead_errors: path of a file of :mod:`vaevar.assim.window.lead_errors`, by which R of later
            observations is enlarged: the other way to allow for model error. None: R as it is.
        iterations: the most iterations.
        history: L-BFGS history.
        tolerance: stop when the gradient's norm has fallen to this fraction of its first value.
        outer_loops: linearisations of the incremental form (:mod:`vaevar.assim.gauss_newton`), among which
            the iterations are divided. 0: L-BFGS on the full cost.
        dtype: precision of the minimisation; D and M may work in their own.
        forecaster: M, with a gradient. None: the cycle's own.

    Raises:
        UserError: for a setting out of range, or a forecaster without a gradient.

    Example:
        >>> control = vaevar.CovarianceControl(vaevar.pretrained("cycle_covariance"))
        >>> vaevar.FourDVar(control, window=8, model_error_scale=0.3).window
        8
    """

    def __init__(
        self,
        control: ControlTransform,
        window: int = 4,
        lambda_: float = 8.0,
        model_error_scale: float = 0.0,
        model_error: ControlTransform | None = None,
        lead_errors: str | None = None,
        iterations: int = 40,
        history: int = 10,
        tolerance: float = 1e-3,
        outer_loops: int = 0,
        dtype: Literal["float32", "float64"] = "float32",
        forecaster: Forecaster | None = None,
        every: int | None = None,
    ) -> None:
        super().__init__(control, lambda_, iterations, history, tolerance, dtype)
        name = type(self).__name__
        if lambda_ is None:
            raise UserError(f"{name}: lambda_ is null, must be a number")
        if window < 1:
            raise UserError(f"{name}: window is {window}, must be at least 1")
        if not (model_error_scale >= 0 and math.isfinite(model_error_scale)):
            raise UserError(f"{name}: model_error_scale is {model_error_scale}, must not be negative")
        if outer_loops < 0:
            raise UserError(f"{name}: outer_loops is {outer_loops}, must not be negative")
        if every is not None and not (1 <= every <= window and window % every == 0):
            raise UserError(f"{name}: every is {every}, must be null or divide the window of {window}")
        self.window, self.every, self.outer_loops = window, every, outer_loops
        if model_error_scale and lead_errors is not None:
            raise UserError(f"{name}: model_error_scale and lead_errors both allow for model error: give one")
        self.model_error_scale, self.model_error = model_error_scale, model_error
        self.lead_errors = lead_errors
        # Read here, so that a file that will not do is refused before the first window.
        self._lead_stds = (
            None if lead_errors is None else load_lead_errors(lead_errors, control.spec, window - 1)
        )
        self.own_forecaster = forecaster
        if forecaster is not None:
            _require_gradient(name, forecaster)

    @property
    def stride(self) -> int:
        """The number of times from the beginning of a window to that of the next."""
        return self.every or self.window

    def require_forecaster(self, forecaster: Forecaster) -> None:
        """Check that the method can work with the forecaster of a cycle.

        Raises:
            UserError: for one without a gradient; for one of its own that steps from other states than the
                cycle's; and for a D or D_q of other channels.
        """
        own, name = self.own_forecaster, type(self).__name__
        _require_gradient(name, own or forecaster)
        if own is not None:
            found = difference(own.spec, own.grid, forecaster.spec, forecaster.grid)
            for what in ("history", "step_hours"):
                if not found and getattr(own, what) != getattr(forecaster, what):
                    found = f"{what} {getattr(own, what)} instead of {getattr(forecaster, what)}"
            if found:
                raise UserError(
                    f"{name}: its own forecaster steps from other states than the cycle's, {found}: give the "
                    "two of one kind"
                )
        for control in (self.control, self.model_error):
            if control is not None:
                require_channels(control, forecaster.spec, forecaster.grid)

    def forward(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> Analysis:
        """Refused: a window has several times.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"{type(self).__name__} analyses windows of {self.window} times: call its analyse_window, or run "
            "it in a cycle"
        )

    def analyse_window(
        self,
        start: Tensor,
        observations: Sequence[Observations],
        forecaster: Forecaster,
        context: AnalysisContext = STANDALONE,
    ) -> list[Analysis]:
        """Minimise J from v = 0.

        Raises:
            UserError: as :meth:`require_forecaster`, or when an observation cannot be compared with a state.
            FloatingPointError: when the cost is not finite at the background.
            ForecasterFault: when the background's forecast fails, or its gradient is not finite.
        """
        self.require_forecaster(forecaster)
        model = self.own_forecaster or forecaster
        began = time.perf_counter()
        with evaluating(self), torch.inference_mode(False), torch.no_grad():
            if not any(map(len, observations)):
                tell_of_none()
                values = _forecast(model, start, len(observations))
                return [
                    Analysis(state, self.diagnostics_of_none(), state) for state in _states(values, model)
                ]
            problem = self.problem(start, observations, forecaster, context)
            minimum = self.minimum(problem.cost, problem.first)
            increments = problem.increments(minimum.final.w)
        diagnostics = self.diagnostics_of(minimum, len(problem.observed), problem.cost.lambda_)
        if context is STANDALONE:
            tell_convergence(type(self).__name__, minimum.converged, diagnostics)
        diagnostics["seconds"] = (time.perf_counter() - began) / self.stride
        return [
            Analysis(
                replace(state, values=(state.values + increment).to(state.values.dtype)),
                dict(diagnostics),
                state,
                minimum.converged,
            )
            for state, increment in zip(problem.backgrounds, increments, strict=True)
        ]

    def problem(
        self,
        start: Tensor,
        observations: Sequence[Observations],
        forecaster: Forecaster,
        context: AnalysisContext = STANDALONE,
    ) -> Problem:
        model = self.own_forecaster or forecaster
        with torch.inference_mode(False), torch.no_grad():
            backgrounds = _forecast(model, start, len(observations))
            observed, hours = joined(observations, model.step_hours)
            states = _states(backgrounds, model)
            control = self.control.for_analysis(states[0], context)
            error = ModelError(self.model_error or control, self.model_error_scale)
            window = WindowModel(
                control, model, start[:-1], backgrounds, error if self.model_error_scale else None
            )
            operator = WindowOperator(
                observed, hours, model.step_hours, len(states), model.spec, model.grid, start.device
            )
            departure = innovation(operator(backgrounds), states[0], observed).to(self.dtype)
            error_std = torch.tensor(observed.error_std, device=start.device)
            if self._lead_stds is not None:
                stds = self._lead_stds[: len(states) - 1]
                added = at_observations(operator, stds, model.grid, start.device)
                error_std = error_std.hypot(added)
            error_std = error_std.to(self.dtype)
            observer = operator.observed_increment(states, model.grid, self.dtype)
            cost = Cost(window, observer, departure, error_std, self.lambda_ or 1.0)
            first = torch.zeros(sum(window.sizes), device=start.device, dtype=self.dtype)
        return Problem(cost, first, window, states, observed)

    def minimum(self, cost: Cost[Any], first: Tensor) -> Minimum:
        if not self.outer_loops:
            return super().minimum(cost, first)
        with torch.enable_grad():
            return minimise_incrementally(
                cost, first, self.outer_loops, self.iterations, self.tolerance, self.on_iteration
            )


def _states(values: Tensor, forecaster: Forecaster) -> list[State]:
    return [State(state, forecaster.spec, forecaster.grid) for state in values]


def _forecast(forecaster: Forecaster, start: Tensor, length: int) -> Tensor:
    """x_b of each step of a window: [history, C, H, W] -> [length, C, H, W].

    Raises:
        ForecasterFault: when the forecaster fails in a way that it says of itself.
    """
    with forecasting():
        return torch.stack([start[-1], *(made[0] for made in rollout(forecaster, start[None], length - 1))])


def _require_gradient(name: str, forecaster: Forecaster) -> None:
    if not forecaster.differentiable:
        raise UserError(
            f"{name}: {type(forecaster).__name__} has no gradient, which 4DVar needs: give the cycle, or "
            "this arm as its `forecaster`, a LearnedForecaster (a checkpoint of this package), a "
            "ConvertedForecaster (an ONNX file), or one of your own that sets differentiable = True"
        )
