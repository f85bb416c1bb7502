"""An analysis that fails: its arm keeps the background, says so, and goes on."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaevar.assim.assimilator import Analysis, Assimilator
from vaevar.assim.context import AnalysisContext
from vaevar.assim.cycle.stopped import runaway
from vaevar.assim.untouched import untouched
from vaevar.data.observations.points import Observations
from vaevar.errors import ForecasterFault, UserError, one_line
from vaevar.forecast import Forecaster, named, rollout
from vaevar.mistakes.words import words
from vaevar.plausible.belonging import tell_faults
from vaevar.state import State

# In the diagnostics of every analysis: 1 where it failed and kept its background, else 0.
FAILED = "failed"
# 1 where the background cannot be of an atmosphere; there from the first of these on.
IMPLAUSIBLE = "implausible_background"
# Arithmetic that fails. State raises ValueError for an analysis that cannot be weather.
_FAILURES = (ArithmeticError, ValueError, torch.linalg.LinAlgError, np.linalg.LinAlgError)
_VALUES_AT_ONCE = 2**20


@dataclass(frozen=True)
class IncrementLimit:
    """The largest credible increment.

    Attributes:
        stds: in climatological standard deviations.
        std: [C], climatological.
    """

    stds: float
    std: np.ndarray

    def excess(self, analysis: State, background: State) -> str:
        """Which channel goes beyond the limit, and by how much; empty if none does."""
        after, before = analysis.values, background.values
        if after is before:
            return ""
        together = max(1, _VALUES_AT_ONCE // after[0].numel())  # a temporary array of 0.25° takes long
        parts = zip(after.split(together), before.split(together), strict=True)
        largest = torch.cat([(a - b).abs().amax((-2, -1)) for a, b in parts]).double().cpu().numpy()
        scaled = largest / self.std
        worst = int(scaled.argmax())
        if scaled[worst] <= self.stds:
            return ""
        return (
            f"its increment of {analysis.spec.names[worst]} reaches {largest[worst]:.4g}, "
            f"{scaled[worst]:.3g} climatological stds; at most {self.stds:g} are credible"
        )


@dataclass(frozen=True)
class ArmResult:
    """One arm at one time: its background, its analysis, how that was reached; why it failed, if it did.

    Attributes:
        background: x_b. In a window of several times, the forecast from the background at its beginning.
        analysis: x_a.
        failure: why the analysis is the background; empty if it is not.
        position: number of the time in its window, from 0.
        window: K, the number of times that were analysed at once; of a window that overlaps with others,
            those that it hands out, and the position is among them.
        before: [history - 1, C, H, W], the states of this window before x_a; None: the analyses before it in
            the cycle.
        ends: the arm cannot go on from here; only the first time of its window has a result.
    """

    background: State
    analysis: Analysis
    failure: str = ""
    position: int = 0
    window: int = 1
    before: Tensor | None = None
    ends: bool = False


def analyse(
    where: str,
    assimilator: Assimilator,
    start: Tensor,
    observations: Sequence[Observations],
    forecaster: Forecaster,
    context: AnalysisContext,
    limit: IncrementLimit | None,
    block: Tensor | None = None,
) -> tuple[ArmResult, ...]:
    """The analyses of one arm over its window; where they fail, the backgrounds, and a line that says so.

    Args:
        where: arm and time, for messages.
        assimilator: of the arm.
        start: [history, C, H, W], the last states; the last of them is x_b.
        observations: y of each time of the window.
        forecaster: of the cycle.
        context: for the assimilator.
        limit: on the increments.
        block: [history, C, H, W], the last states before the analyses that the window hands out, where it
            overlaps with others. None: it hands out all of them.

    Returns:
        a result for each time that is handed out, with ``failed`` among its diagnostics, and
        ``implausible_background`` where that is so; one that ends the arm if its forecaster fails within the
        window, or has a gradient that is not finite.

    Raises:
        UserError: when the assimilator breaks its contract or fails otherwise than in its arithmetic. The
            message names arm and time.
    """
    ahead = start if block is None else block
    handed = len(observations) if block is None else assimilator.stride
    first = State(ahead[-1], forecaster.spec, forecaster.grid)
    told_of = tell_faults("the background", first.values, first.spec, first.grid, where)
    marks = {IMPLAUSIBLE: 1.0} if told_of else {}

    def ended(cause: str) -> tuple[ArmResult, ...]:
        analysis = Analysis(first, {FAILED: 1.0, **marks}, first)
        return (ArmResult(first, analysis, cause, window=handed, ends=True),)

    def forecast() -> list[State] | str:
        """The backgrounds of the times that are handed out; or why the arm ends."""
        states = [first]
        try:
            for made in rollout(forecaster, ahead[None], handed - 1):
                if away := runaway(made[0], forecaster.spec, forecaster.grid):
                    return f"its forecast through the window, of {named(forecaster)}: {away}"
                states.append(State(made[0], forecaster.spec, forecaster.grid))
        except (UserError, ArithmeticError) as error:
            return one_line(error)
        except Exception as error:
            raise told(error, where, named(forecaster)) from error
        return states

    def kept(cause: str) -> tuple[ArmResult, ...]:
        states = forecast()
        if isinstance(states, str):
            return ended(states)
        print(f"{where}: the analysis failed, the background is kept: {cause}", flush=True)
        return _results([Analysis(state, {FAILED: 1.0, **marks}, state) for state in states], cause)

    try:
        with untouched(type(assimilator).__name__, start, forecaster.grid):
            analyses = assimilator.analyse_window(start, observations, forecaster, context)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except ForecasterFault as error:
        return ended(one_line(error))
    except _FAILURES as error:
        return kept(one_line(error))
    except Exception as error:  # of somebody's own method: any kind
        raise told(error, where, type(assimilator).__name__) from error
    name = type(assimilator).__name__
    count = len(analyses) if isinstance(analyses, Sequence) else type(analyses).__name__
    if count != len(observations):
        raise UserError(
            f"{where}: {name} returned {count} analyses, expected one for each of {len(observations)} times"
        )
    found: list[Analysis] = []
    for analysis in analyses:
        diagnostics = _checked(where, name, analysis, first)
        if analysis.background is None and len(observations) > 1:
            raise UserError(f"{where}: {name} returned an analysis of a window without its background")
        background = first if analysis.background is None else analysis.background
        excess = limit.excess(analysis.state, background) if limit else ""
        if excess:
            return kept(excess)
        diagnostics = {**diagnostics, FAILED: 0.0, **marks}
        found.append(replace(analysis, diagnostics=diagnostics, background=background))
    if block is None:
        return _results(found, "")
    backgrounds = forecast()
    if isinstance(backgrounds, str):
        return ended(backgrounds)
    trajectory = torch.cat([start[:-1], *(analysis.state.values[None] for analysis in found)])
    before = trajectory[-forecaster.history : -1]
    last = [
        replace(analysis, background=background)
        for analysis, background in zip(found[-handed:], backgrounds, strict=True)
    ]
    return _results(last, "", before)


def _results(
    analyses: Sequence[Analysis], failure: str, before: Tensor | None = None
) -> tuple[ArmResult, ...]:
    last = len(analyses) - 1
    return tuple(
        ArmResult(
            analysis.background or analysis.state, analysis, failure, position, len(analyses),
            before if position == last else None,
        )
        for position, analysis in enumerate(analyses)
    )  # fmt: skip


def told(error: Exception, where: str, failing: str) -> UserError:
    """An error of somebody's own method or forecaster in one line.

    Args:
        error: of any kind.
        where: arm and time.
        failing: the name of what raised it.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return UserError(
        f"{where}: {failing} failed with {type(error).__name__}: {one_line(error)} "
        f"({Path(frame.filename).name}, line {frame.lineno}); {words().mended}"
    )


def _checked(where: str, kind: str, analysis: object, background: State) -> dict[str, float]:
    """The diagnostics of an analysis.

    Raises:
        UserError: when it is no analysis, or on another grid or of other channels than the background.
    """
    if not isinstance(analysis, Analysis) or not isinstance(analysis.state, State):
        found = type(analysis.state if isinstance(analysis, Analysis) else analysis).__name__
        raise UserError(f"{where}: {kind} returned {found}, expected an Analysis of a State")
    state = analysis.state
    for what in ("spec", "grid"):
        if getattr(state, what) != getattr(background, what):
            raise UserError(
                f"{where}: {kind} returned an analysis on {getattr(state, what)}, expected the background's "
                f"{getattr(background, what)}"
            )
    if state.values.shape != background.values.shape:
        raise UserError(
            f"{where}: {kind} returned {tuple(state.values.shape)}, expected {tuple(background.values.shape)}"
        )
    diagnostics = analysis.diagnostics
    numbers = isinstance(diagnostics, Mapping) and all(
        isinstance(value, int | float | np.number) for value in diagnostics.values()
    )
    if not numbers:
        raise UserError(f"{where}: {kind} returned diagnostics {diagnostics!r}, expected numbers by name")
    return dict(diagnostics)
