"""What every assimilation method is: a background and observations in, an analysis out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.assim.context import STANDALONE, AnalysisContext
from vaevar.data.observations.points import Observations
from vaevar.state import State


@dataclass(frozen=True)
class Analysis:
    """An analysed state and how it was reached.

    Attributes:
        state: x_a, on the background's grid.
        diagnostics: numbers about the analysis by name. A variational analysis has ``j_b`` and ``j_o`` at
            the minimum, ``j_o_initial`` at the background, ``grad_norm`` and ``initial_grad_norm``
            (Euclidean), ``iterations``, ``evaluations`` of J and its gradient, ``chi2`` = 2 J/P (near 1
            where B and R are right), ``lambda`` and ``seconds``. A free run has none.
    """

    state: State
    diagnostics: dict[str, float]


class Assimilator(nn.Module, ABC):
    """The base of every method."""

    @abstractmethod
    def forward(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> Analysis:
        """Analyse one time.

        Args:
            background: x_b, [C, H, W]; it is not changed.
            observations: y, P of them.
            context: which analysis of a cycle this is.
        """


class FreeRun(Assimilator):
    """No assimilation: the forecast goes on from its own state."""

    def forward(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> Analysis:
        return Analysis(background, {})


def add_increment(background: State, increment: Tensor | np.ndarray) -> State:
    """x_b + increment [C, H, W], in the background's precision and on its device."""
    values = background.values
    added = values.double() + torch.as_tensor(increment, dtype=torch.float64, device=values.device)
    return State(added.to(values.dtype), background.spec, background.grid)
