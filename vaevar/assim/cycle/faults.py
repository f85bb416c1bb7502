"""An analysis that fails: its arm keeps the background, says so, and goes on."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vaevar.assim.assimilator import Analysis, Assimilator
from vaevar.assim.context import AnalysisContext
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError, one_line
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


def analyse(
    where: str,
    assimilator: Assimilator,
    background: State,
    observations: Observations,
    context: AnalysisContext,
    limit: IncrementLimit | None,
) -> tuple[Analysis, str]:
    """The analysis of one arm at one time; where it fails, the background, and a line that says so.

    Args:
        where: arm and time, for messages.
        assimilator: of the arm.
        background: x_b.
        observations: y.
        context: for the assimilator.
        limit: on the increment.

    Returns:
        the analysis, with ``failed`` among its diagnostics, and ``implausible_background`` where that is
        so; and why it failed, or nothing.

    Raises:
        UserError: when the assimilator breaks its contract or fails otherwise than in its arithmetic. The
            message names arm and time.
    """
    x = background
    marks = {IMPLAUSIBLE: 1.0} if tell_faults("the background", x.values, x.spec, x.grid, where) else {}
    try:
        analysis = assimilator(background, observations, context)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except _FAILURES as error:
        return _kept(where, background, one_line(error), marks)
    except Exception as error:  # of somebody's own method: any kind
        raise told(error, where, type(assimilator).__name__) from error
    diagnostics = _checked(where, type(assimilator).__name__, analysis, background)
    excess = limit.excess(analysis.state, background) if limit else ""
    if excess:
        return _kept(where, background, excess, marks)
    return replace(analysis, diagnostics={**diagnostics, FAILED: 0.0, **marks}), ""


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
        f"({Path(frame.filename).name}, line {frame.lineno}); once that is mended, {words().again} goes "
        "on from here"
    )


def _kept(where: str, background: State, cause: str, marks: dict[str, float]) -> tuple[Analysis, str]:
    print(f"{where}: the analysis failed, the background is kept: {cause}", flush=True)
    return Analysis(background, {FAILED: 1.0, **marks}, background), cause


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
