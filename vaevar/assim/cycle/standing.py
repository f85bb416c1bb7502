"""Where an arm of a cycle stands, and how it comes to its next analysis: one step for every cycle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vaevar.assim.context import AnalysisContext
from vaevar.assim.cycle.faults import ArmResult, told
from vaevar.assim.cycle.stopped import runaway
from vaevar.data.observations.coverage import update_coverage
from vaevar.data.observations.points import Points
from vaevar.errors import UserError
from vaevar.forecast import Forecaster, named, rollout
from vaevar.state import State


@dataclass(frozen=True)
class Standing:
    """Where an arm stands.

    Attributes:
        next_index: number of the next analysis.
        trajectory: [history, C, H, W], the last states; the last of them is the background of that analysis.
        coverage: [K, H, W] (:mod:`vaevar.data.observations.coverage`).
        results: of the times of the window that begins with that analysis, or that it lies in; none before
            the window is analysed.
    """

    next_index: int
    trajectory: Tensor
    coverage: Tensor
    results: tuple[ArmResult, ...] = ()

    def to(self, device: torch.device) -> Standing:
        """The same on a device, at the beginning of a window."""
        return Standing(self.next_index, self.trajectory.to(device), self.coverage.to(device))

    def analysed(self, results: tuple[ArmResult, ...]) -> Standing:
        """The same when its window has been analysed."""
        return replace(self, results=results)

    def background(self, forecaster: Forecaster) -> State:
        """x_b of the next analysis."""
        return State(self.trajectory[-1], forecaster.spec, forecaster.grid)

    def context(self, time: np.datetime64) -> AnalysisContext:
        """What a method may know of the next analysis."""
        return AnalysisContext(self.next_index, time, self.coverage)

    def after(
        self, forecaster: Forecaster, analysis: State, observed: Points, where: str, steps: int = 1
    ) -> tuple[str, Standing | None]:
        """Where the arm stands after a forecast from its last analyses; or why it has to stop, and None.

        Args:
            forecaster: makes the next background.
            analysis: x_a.
            observed: what has been observed at its time.
            where: arm and time, for messages.
            steps: of the forecaster to the next analysis.

        Raises:
            UserError: when the forecaster fails otherwise than in its arithmetic.
        """
        states = torch.cat([self.trajectory[:-1], analysis.values[None]])
        coverage = update_coverage(self.coverage, observed, forecaster.grid)
        if len(self.results) > 1:  # the window goes on
            states = torch.cat([states, self.results[1].background.values[None]])[-forecaster.history :]
            return "", Standing(self.next_index + 1, states, coverage, self.results[1:])
        try:
            for forecast in rollout(forecaster, states[None], steps):
                states = torch.cat([states, forecast])[-forecaster.history :]
        except (UserError, ArithmeticError) as error:
            return str(error), None
        except Exception as error:
            raise told(error, where, named(forecaster)) from error
        cause = runaway(states[-1], forecaster.spec, forecaster.grid)
        if cause:
            return f"its next forecast, of {named(forecaster)}: {cause}", None
        return "", Standing(self.next_index + 1, states, coverage)
