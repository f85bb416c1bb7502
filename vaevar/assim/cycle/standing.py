"""Where an arm of a cycle stands, and how it comes to its next analysis: one step for every cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vaevar.assim.assimilator import Assimilator
from vaevar.assim.context import AnalysisContext
from vaevar.assim.cycle.faults import ArmResult, IncrementLimit, analyse, told
from vaevar.assim.cycle.stopped import runaway
from vaevar.data.observations.coverage import update_coverage
from vaevar.data.observations.points import Observations, Points
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
        pasts: where it stood at the beginnings of the windows that the next one overlaps with, oldest first.
    """

    next_index: int
    trajectory: Tensor
    coverage: Tensor
    results: tuple[ArmResult, ...] = ()
    pasts: tuple[Standing, ...] = ()

    @property
    def begin(self) -> Standing:
        """Where the arm stood at the beginning of the next window. It has seen no observation since."""
        return self.pasts[0] if self.pasts else self

    def to(self, device: torch.device) -> Standing:
        """The same on a device, at the beginning of a window."""
        pasts = tuple(past.to(device) for past in self.pasts)
        return Standing(self.next_index, self.trajectory.to(device), self.coverage.to(device), pasts=pasts)

    def analysed(
        self,
        where: str,
        method: Assimilator,
        observations: Sequence[Observations],
        forecaster: Forecaster,
        time: np.datetime64,
        limit: IncrementLimit | None = None,
    ) -> Standing:
        """The same when its window has been analysed.

        Args:
            where: arm and time, for messages.
            method: of the arm.
            observations: of each time from that of ``begin`` to the last that is handed out, ``stride`` times
                from ``next_index`` on.
            forecaster: of the cycle.
            time: of ``begin``.
            limit: on the increments.

        Raises:
            UserError: as for :func:`vaevar.assim.cycle.faults.analyse`.
        """
        begin = self.begin
        results = analyse(
            where, method, begin.trajectory, observations, forecaster, begin.context(time), limit,
            None if begin is self else self.trajectory,
        )  # fmt: skip
        overlapping = method.window // method.stride - 1
        pasts = (*self.pasts, replace(self, pasts=()))[-overlapping:] if overlapping else ()
        return replace(self, results=results, pasts=pasts)

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
        own = self.results[0].before if self.results else None
        before = self.trajectory[:-1] if own is None else own
        states = torch.cat([before, analysis.values[None]])
        coverage = update_coverage(self.coverage, observed, forecaster.grid)
        if len(self.results) > 1:  # the window goes on
            states = torch.cat([states, self.results[1].background.values[None]])[-forecaster.history :]
            return "", Standing(self.next_index + 1, states, coverage, self.results[1:], self.pasts)
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
        return "", Standing(self.next_index + 1, states, coverage, pasts=self.pasts)
