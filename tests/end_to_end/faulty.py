"""A forecaster and methods that fail when they are told to."""

from __future__ import annotations

import torch
from torch import Tensor

from vaevar.assim.assimilator import Analysis, Assimilator
from vaevar.assim.context import STANDALONE, AnalysisContext
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec


class Persistence(Forecaster):
    """The forecast is the last state, as long as its t2m is not warmer than ``limit`` on average.

    Args:
        spec: with t2m as the first channel.
        limit: K.
        beyond: what a forecast from a warmer state is: ``nan``, ``far`` or ``error``.
    """

    history, step_hours = 2, 6

    def __init__(self, spec: StateSpec, limit: float = 1e9, beyond: str = "nan") -> None:
        self.spec, self.grid, self.limit, self.beyond = spec, Grid.gaussian(16), limit, beyond

    def step(self, states: Tensor) -> Tensor:
        last = states[:, -1].clone()
        if float(last[:, 0].mean()) > self.limit:
            if self.beyond == "error":
                raise UserError("the session is gone")
            last[:, 0, 3, 4] = torch.nan if self.beyond == "nan" else 5000.0
        return last


class Warming(Assimilator):
    """Adds ``by`` K to t2m at every analysis, and does something else from number ``at`` on.

    Args:
        by: K.
        what: ``state``, ``nothing``, ``grid``, ``words``, ``key``, ``cost``, ``nan`` or ``far``.
        at: number of the first such analysis.
        until: number of the first that is well again.
    """

    def __init__(self, by: float = 1.0, what: str = "", at: int = 10**9, until: int = 10**9) -> None:
        super().__init__()
        self.by, self.what, self.at, self.until = by, what, at, until

    def forward(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> Analysis:
        values = background.values.clone()
        values[0] += self.by
        state = State(values, background.spec, background.grid)
        if not self.at <= context.index < self.until:
            return Analysis(state, {"seconds": 0.0, "j_b": 1.0, "j_o": 2.0})
        return self._otherwise(state)

    def _otherwise(self, state: State) -> Analysis:
        if self.what == "key":
            raise KeyError("z500")
        if self.what == "cost":
            raise FloatingPointError("the cost of the background is not finite")
        values = state.values.clone()
        if self.what in ("nan", "far"):
            values[0, 2, 2] = torch.nan if self.what == "nan" else 4000.0
        elif self.what == "grid":
            values = values[:, ::2, ::2].contiguous()
            state = State(values, state.spec, Grid.gaussian(8))
        returned: dict[str, object] = {
            "state": state,
            "nothing": None,
            "words": Analysis(state, {"why": "it rains"}),  # type: ignore[dict-item]
        }
        return returned.get(self.what, Analysis(State(values, state.spec, state.grid), {}))  # type: ignore[return-value]
