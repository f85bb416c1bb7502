"""The first guess at the appropriate time (FGAT), for any method that analyses a single time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from vaevar.assim.assimilator import Analysis, Assimilator
from vaevar.assim.context import STANDALONE, AnalysisContext
from vaevar.data.observations.points import Observations
from vaevar.data.observations.window import WindowOperator
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.state import State


class FGAT(Assimilator):
    """A method whose innovations are taken at the observations' own times (Fisher and Andersson, 2001).

    An observation before or after the analysis time is compared with the background there, interpolated
    linearly between the states of two steps, and its innovation counts as one of the analysis time:

        d = y − H(x_b at the time of y),   y ← d + H(x_b).

    The state before is the arm's last analysis, where the forecaster needs one; otherwise observations before
    the analysis time are taken as made then. The state after is one more step of the forecaster.

    Args:
        method: analyses a single time, such as 3DVar.

    Raises:
        UserError: for a method that analyses windows, and has the times of observations in its cost.

    Example:
        >>> vaevar.FGAT(method)(state, observations).increment["z500"].shape
        (16, 32)
    """

    def __init__(self, method: Assimilator) -> None:
        super().__init__()
        if method.window != 1:
            raise UserError(f"FGAT: {type(method).__name__} analyses windows, expected a method of one time")
        self.method = method

    def forward(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> Analysis:
        """The method's own analysis: outside a cycle nothing is known of other times."""
        return self.method(background, observations, context)

    def analyse_window(
        self,
        start: Tensor,
        observations: Sequence[Observations],
        forecaster: Forecaster,
        context: AnalysisContext = STANDALONE,
    ) -> list[Analysis]:
        (observed,) = observations
        if observed.time_offset.any():
            observed = _moved(observed, start, forecaster)
        return [self(State(start[-1], forecaster.spec, forecaster.grid), observed, context)]


@torch.no_grad()
def _moved(observed: Observations, start: Tensor, forecaster: Forecaster) -> Observations:
    """Observations as they would be at the analysis time, if the background's error did not change."""
    spec, grid, hours = forecaster.spec, forecaster.grid, forecaster.step_hours
    states = torch.cat([start[-2:], forecaster.step(start[None])])
    first = hours * (len(states) - 2)  # from the first of the states to the analysis time
    at_their_time = WindowOperator(
        observed, observed.time_offset + first, hours, len(states), spec, grid, start.device
    )
    change = at_their_time(states) - observed.operator(spec, grid).to(start.device)(start[-1])
    values = observed.value - change.double().cpu().numpy()
    return replace(observed, value=values, time_offset=np.zeros(()))
