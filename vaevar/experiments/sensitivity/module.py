"""The LightningModule of the sensitivity experiment: each arm's analysis and forecast, and their adjoints."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from vaevar.assim.assimilator import Assimilator, evaluating
from vaevar.assim.context import AnalysisContext
from vaevar.assim.cycle.cycle import require_same_states
from vaevar.assim.cycle.module import check_arms, require_gradients
from vaevar.assim.cycle.standing import Standing
from vaevar.assim.problem import Problem
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.observations.coverage import no_coverage
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.experiments.sensitivity.adjoint import Impacts, impacts
from vaevar.experiments.sensitivity.data import SensitivityCase, SensitivityData
from vaevar.experiments.sensitivity.initial import Tried, perturbed, scaled
from vaevar.forecast import Forecaster, check_forecaster, rollout
from vaevar.runs.threads import limit_threads


@dataclass(frozen=True)
class Explained:
    """One arm's forecast, and where its error comes from.

    Attributes:
        background_error, analysis_error: J_e of the forecasts from x_b and from x_a.
        trapezoid: g · (x_a − x_b), with g the mean of the two gradients.
        sensitivity: [history, C, H, W], at x_a (:func:`vaevar.experiments.sensitivity.initial.scaled`).
        analysis: [C, H, W], x_a at the start of the forecast.
        tried: perturbations of x_a.
        impacts: of the observations of the last window.
        observed: these observations.
        departure: [P], y − H(x_b).
        hours: [P], from the first time of the window to each of them.
        window_hours: from there to the start of the forecast.
    """

    background_error: float
    analysis_error: float
    trapezoid: float
    sensitivity: Tensor
    analysis: Tensor
    tried: list[Tried]
    impacts: Impacts
    observed: Observations
    departure: np.ndarray
    hours: np.ndarray
    window_hours: float


class SensitivityModule(L.LightningModule):
    """Variational arms side by side, each with its own analyses, forecast and adjoint.

    Args:
        forecaster: makes the backgrounds and the forecasts; it has a gradient.
        arms: assimilators by name, as in ``configs/cycle_4d.yaml``.
        iterations: the most conjugate gradients of the adjoint of an analysis.
        tolerance: they stop when the residual has fallen to this fraction.

    Raises:
        UserError: for a forecaster without a gradient, no arms or one without an adjoint, or a count or a
            tolerance out of range.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        arms: dict[str, Assimilator],
        iterations: int = 50,
        tolerance: float = 1e-2,
    ) -> None:
        super().__init__()
        check_arms(arms)
        check_forecaster(forecaster)
        if not forecaster.differentiable:
            raise UserError(
                f"model.forecaster: {type(forecaster).__name__} has no gradient, which a sensitivity is: "
                "give a LearnedForecaster (a checkpoint of this package), a ConvertedForecaster (an ONNX "
                "file), or one of your own that sets differentiable = True"
            )
        for name, arm in arms.items():
            if not isinstance(arm, VariationalAssimilator):
                raise UserError(
                    f"model.arms: {name} is {type(arm).__name__}, whose adjoint is not known: give "
                    "variational arms, such as ThreeDVar, VAEVar or FourDVar"
                )
        if iterations < 1 or not 0 <= tolerance < 1:
            raise UserError(
                f"SensitivityModule: iterations {iterations} must be at least 1, and tolerance {tolerance} "
                "lie in [0, 1)"
            )
        self.forecaster, self.iterations, self.tolerance = forecaster, iterations, tolerance
        self.arms: dict[str, Assimilator] = arms
        self._modules_of_arms = nn.ModuleList(arms.values())

    def setup(self, stage: str) -> None:
        """Check that data, forecaster and arms belong together.

        Raises:
            UserError: when they do not.
        """
        require_gradients(self.trainer)
        limit_threads(prod(self.forecaster.grid.shape))
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, SensitivityData):
            raise UserError(f"SensitivityModule needs SensitivityData, not {type(data).__name__}")
        require_same_states(self.forecaster, data.windows[0])
        analyses = data.windows[0].analyses
        for name, arm in self.arms.items():
            arm.require_forecaster(self.forecaster)
            if arm.stride != arm.window:
                raise UserError(
                    f"arm {name} has windows that overlap, and the impact of one is not that of the others: "
                    "leave out its `every`"
                )
            if analyses % arm.window:
                whole = analyses - analyses % arm.window + arm.window
                raise UserError(
                    f"data.analyses is {analyses}, and arm {name} analyses windows of {arm.window}: give "
                    f"whole windows, such as {whole}"
                )

    def predict_step(self, batch: SensitivityCase, batch_idx: int) -> dict[str, Explained]:
        """What every arm makes of a case.

        Raises:
            UserError: when a forecast or its gradient is not finite.
        """
        first = batch.start
        for forecast in rollout(
            self.forecaster, first[None], batch.background_hours // self.forecaster.step_hours
        ):
            first = torch.cat([first, forecast])[-self.forecaster.history :]
        explained = {}
        for name, arm in self.arms.items():
            try:
                explained[name] = self._explain(name, arm, batch, first)
            except ArithmeticError as error:
                raise UserError(f"arm {name} at {batch.time}: {error}") from None
        return explained

    def _explain(self, name: str, arm: Assimilator, case: SensitivityCase, first: Tensor) -> Explained:
        assert isinstance(arm, VariationalAssimilator)
        forecaster, score, grid = self.forecaster, case.score, self.forecaster.grid
        standing = self._cycled(name, arm, case, first)
        window = case.analyses[-arm.window :]
        start, context = standing.trajectory, standing.context(window[0].time)
        with evaluating(arm):
            problem, w, before, after = _analysed(arm, start, window_of(window), forecaster, context)
            background_error, at_background = score.gradient(forecaster, before)
            analysis_error, at_analysis = score.gradient(forecaster, after)
            mean = 0.5 * (at_background + at_analysis)
            # Of the states that a window of less than `history` times leaves alone, nothing came from it.
            corrected = mean[-min(arm.window, forecaster.history) :]
            found = impacts(problem, w, corrected, self.iterations, self.tolerance)
        hours = [
            number * forecaster.step_hours + time.observations.time_offset
            for number, time in enumerate(window)
        ]
        return Explained(
            background_error,
            analysis_error,
            float((mean.double() * (after.double() - before.double())).sum()),
            scaled(at_analysis, score.std, grid),
            after[-1],
            perturbed(score, forecaster, after, at_analysis, found.perturbation),
            found,
            problem.observed,
            problem.cost.innovation.double().cpu().numpy(),
            np.concatenate(hours),
            (arm.window - 1) * forecaster.step_hours,
        )

    def _cycled(self, name: str, arm: Assimilator, case: SensitivityCase, first: Tensor) -> Standing:
        """Where an arm stands before its last window.

        Raises:
            UserError: when it does not come so far.
        """
        standing = Standing(0, first, no_coverage(self.forecaster.grid).to(first.device))
        for index, time in enumerate(case.analyses[: -arm.window]):
            where = f"arm {name} at {time.time}"
            if not standing.results:
                observed = window_of(case.analyses[index : index + arm.window])
                standing = standing.analysed(where, arm, observed, self.forecaster, time.time)
            done = standing.results[0]
            cause, following = done.failure if done.ends else "", None
            if not cause:
                cause, following = standing.after(
                    self.forecaster, done.analysis.state, time.observations, where
                )
            if following is None:
                raise UserError(f"{where}: {cause}")
            standing = following
        return standing


def window_of(times: list) -> list[Observations]:
    """What is observed at some analysis times."""
    return [time.observations for time in times]


def _analysed(
    arm: VariationalAssimilator,
    start: Tensor,
    observations: list[Observations],
    forecaster: Forecaster,
    context: AnalysisContext,
) -> tuple[Problem, Tensor, Tensor, Tensor]:
    """The analysis of a window.

    Returns:
        what was minimised, the control vector where it is least, and the last states [history, C, H, W] of
        the background and of the analysis, from which a forecast starts.

    Raises:
        UserError: when nothing is observed.
    """
    if not any(map(len, observations)):
        raise UserError("nothing is observed in the last window of the analyses: look at data.network")
    problem = arm.problem(start, observations, forecaster, context)
    minimum = arm.minimum(problem.cost, problem.first)
    with torch.no_grad():
        increments = torch.stack(problem.increments(minimum.final.w))
        backgrounds = torch.stack([state.values for state in problem.backgrounds])
        analyses = (backgrounds + increments).to(backgrounds.dtype)
    before, after = (
        torch.cat([start[:-1], states])[-forecaster.history :] for states in (backgrounds, analyses)
    )
    return problem, minimum.final.w, before, after
