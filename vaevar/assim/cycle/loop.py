"""A cycle as a plain loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from torch import Tensor

from vaevar.assim.assimilator import Analysis, Assimilator, check_method
from vaevar.assim.cycle.faults import IncrementLimit
from vaevar.assim.cycle.standing import Standing
from vaevar.data.observations.coverage import no_coverage
from vaevar.data.observations.points import Observations
from vaevar.data.times import whole_hour
from vaevar.errors import UserError
from vaevar.forecast import Forecaster, Trajectory, check_forecaster
from vaevar.mistakes.notices import Call
from vaevar.mistakes.words import words_of_loops
from vaevar.state import Fields, State


@dataclass(frozen=True)
class CycleStep:
    """One analysis of a cycle. Its states are the caller's own: the cycle goes on with others.

    Attributes:
        index: 0 for the first analysis.
        time: of the analysis.
        background: x_b.
        observations: y.
        result: what the method returned; ``result.converged`` tells whether a minimisation came to its end.
        failure: why the analysis failed, and is the background; empty if it did not.

    Example:
        >>> step = next(vaevar.cycle(forecaster, method, first, times, observe))
        >>> step.index, step.increment["z500"].shape
        (0, (16, 32))
    """

    index: int
    time: np.datetime64
    background: State
    observations: Observations
    result: Analysis
    failure: str = ""

    @property
    def analysis(self) -> State:
        """x_a."""
        return self.result.state

    @property
    def increment(self) -> Fields:
        """x_a − x_b."""
        return self.result.increment

    @property
    def diagnostics(self) -> dict[str, float]:
        """Numbers about the analysis by name."""
        return self.result.diagnostics


def cycle(
    forecaster: Forecaster,
    method: Assimilator,
    start_states: State | Sequence[State] | Trajectory,
    times: Iterable[np.datetime64 | str],
    observe: Callable[[np.datetime64], Observations],
    increment_limit: IncrementLimit | None = None,
) -> Iterator[CycleStep]:
    """Assimilate at one time after the other, as :class:`vaevar.assim.cycle.cycle.Cycle` does, to the bit.

    Nothing is written, and the caller decides how long it goes on. Nothing of a cycle stays in the method,
    so one method may serve several.

    Args:
        forecaster: makes the backgrounds.
        method: makes the analyses.
        start_states: as many as the forecaster's ``history``, oldest first; the last of them is the
            background of the first time. A :class:`Trajectory`, such as ``forecaster.forecast(...)``
            returns, may be longer, and its times are compared. States carry no time: those of a list are
            taken as ``step_hours`` apart, up to the first time.
        times: of the analyses, in steps of ``forecaster.step_hours``, ascending.
        observe: what is observed at a time.
        increment_limit: beyond it an analysis counts as failed.

    Yields:
        each analysis, before the forecast to the next.

    Raises:
        UserError: when the states do not fit the forecaster, a time is not a step from the one before, a
            method or a forecaster breaks its contract, or a forecast is not weather.

    Example:
        >>> steps = vaevar.cycle(forecaster, method, first, times, observe)
        >>> errors = [(step.analysis - truth(step.time)).rmse() for step in steps]
    """
    steps = _cycle(forecaster, method, start_states, times, observe, increment_limit)
    told = Call()  # not what the caller does between two steps
    while True:
        with told, words_of_loops():
            step = next(steps, None)
        if step is None:
            return
        yield step


def _cycle(
    forecaster: Forecaster,
    method: Assimilator,
    start_states: State | Sequence[State] | Trajectory,
    times: Iterable[np.datetime64 | str],
    observe: Callable[[np.datetime64], Observations],
    increment_limit: IncrementLimit | None,
) -> Iterator[CycleStep]:
    """As :func:`cycle`."""
    check_method(method, "method")
    check_forecaster(forecaster)
    moments = [whole_hour(time, "times") if isinstance(time, str) else np.datetime64(time) for time in times]
    first = _first(forecaster, start_states, moments)
    standing = Standing(0, first, no_coverage(forecaster.grid).to(first.device))
    steps = _steps(moments, forecaster.step_hours)
    _check_windows(method, forecaster, len(moments), steps)
    seen: dict[int, Observations] = {}
    for index, time in enumerate(moments):
        where = f"analysis {index} at {time}"
        if not standing.results:
            begin = standing.begin.next_index
            window = range(begin, index + method.stride)
            seen = {number: seen[number] if number in seen else observe(moments[number]) for number in window}
            standing = standing.analysed(
                where, method, list(seen.values()), forecaster, moments[begin], increment_limit
            )
        done = standing.results[0]
        if done.ends:
            raise UserError(f"{where}: {done.failure}")
        observations, result = seen[index], done.analysis
        background = _own(done.background)
        handed = replace(result, state=_own(result.state), background=background)
        yield CycleStep(index, time, background, observations, handed, done.failure)
        if index + 1 < len(moments):
            cause, following = standing.after(forecaster, result.state, observations, where, steps[index])
            if following is None:
                raise UserError(f"{where}: {cause}")
            standing = following


def _own(state: State) -> State:
    """A copy for the caller, who may change it: the cycle goes on with its own."""
    return replace(state, values=state.values.clone())


def _check_windows(method: Assimilator, forecaster: Forecaster, count: int, steps: Sequence[int]) -> None:
    """Check that a method can work with the forecaster, and that the times are whole windows.

    Args:
        method: of the cycle.
        forecaster: of the cycle.
        count: number of times.
        steps: of the forecaster between them.

    Raises:
        UserError: when it cannot, or they are not.
    """
    method.require_forecaster(forecaster)
    name, stride = type(method).__name__, method.stride
    if count % stride:
        raise UserError(f"{count} times, and {name} has a new window every {stride} times: give whole ones")
    # Of windows that overlap, every time lies within one.
    between = method.window if stride == method.window else count
    if any(step > 1 for number, step in enumerate(steps, 1) if number % between):
        raise UserError(
            f"times lie more than {forecaster.step_hours} h apart within a window of {name}: give all of them"
        )


def _first(
    forecaster: Forecaster, start: State | Sequence[State] | Trajectory, times: Sequence[np.datetime64]
) -> Tensor:
    """The first trajectory, [history, C, H, W].

    Raises:
        UserError: when it is not one of the forecaster's, or ends at another time than the first.
    """
    known = start.times if isinstance(start, Trajectory) else None
    if known is not None and times and known[-1] != times[0]:
        raise UserError(f"the start states end at {known[-1]}, and the first analysis is at {times[0]}")
    return forecaster.stacked(start)


def _steps(times: Sequence[np.datetime64], hours: int) -> list[int]:
    """How many steps of the forecaster lie between the times.

    Raises:
        UserError: when they do not ascend in whole steps.
    """
    step, found = np.timedelta64(hours, "h"), []
    for before, after in pairwise(times):
        if after <= before or (after - before) % step:
            raise UserError(f"times must ascend in steps of {hours} h, not from {before} to {after}")
        found.append(int((after - before) // step))
    return found
