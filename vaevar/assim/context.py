"""What a method may be told of an analysis besides its background and its observations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)
class AnalysisContext:
    """Which analysis this is, and what the cycle has seen before it; never the truth.

    Attributes:
        index: the number of the analysis in its cycle: 0 for the first, and the same after a restart.
        time: the analysis time. None outside a cycle.
        coverage: [K, H, W], where earlier analyses of the cycle had observations
            (:mod:`vaevar.data.observations.coverage`). None outside a cycle.

    Example:
        >>> third = method(state, observations, vaevar.AnalysisContext(index=2, time=time))
    """

    index: int = 0
    time: np.datetime64 | None = None
    coverage: Tensor | None = None


STANDALONE = AnalysisContext()  # an analysis outside any cycle
