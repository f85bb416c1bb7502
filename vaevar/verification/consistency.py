"""Are the assumed error variances consistent with the departures? Desroziers' ratios and innovation memory.

With d_b = y − H(x_b) and d_a = y − H(x_a), an analysis whose B and R are correct satisfies (Desroziers,
Berre, Chapnik and Poli, 2005, Q. J. R. Meteorol. Soc. 131, eqs. 1 to 3)

    E[d_b d_bᵀ] = R + H B Hᵀ,
    E[d_a d_bᵀ] = R,
    E[(H(x_a) − H(x_b)) d_bᵀ] = H B Hᵀ.

Only observations and states are needed, never the truth, so every method has these diagnostics, with or
without an explicit B. The last two add up to the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vaevar.data.observations.operator import ObservationOperator
from vaevar.data.observations.points import Observations
from vaevar.state import State


@dataclass(frozen=True)
class Consistency:
    """Desroziers' ratios of one variable, relative to the assumed variance R.

    Attributes:
        observation: mean of d_a d_b / R: 1 when B and R are consistent, above 1 when the analysis stays too
            far from the observations.
        background: mean of (H(x_a) − H(x_b)) d_b / R: the background error variance at the observations that
            this analysis implies.
    """

    observation: float
    background: float


def departures(operator: ObservationOperator, state: State, observations: Observations) -> np.ndarray:
    """y − H(x), [P] float64.

    Args:
        operator: H, at the positions of ``observations``.
        state: x, [C, H, W].
        observations: y, [P].
    """
    simulated = operator.to(state.values.device)(state.values)
    return observations.value - simulated.detach().double().cpu().numpy()


def desroziers(before: np.ndarray, after: np.ndarray, observations: Observations) -> dict[str, Consistency]:
    """Both ratios for every observed variable.

    Args:
        before: d_b, [P].
        after: d_a, [P].
        observations: [P]; ``error_std`` is the square root of R's diagonal.
    """
    ratios = {}
    for name in np.unique(observations.variable):
        chosen = observations.variable == name
        scaled = before[chosen] / observations.error_std[chosen] ** 2
        ratios[str(name)] = Consistency(
            observation=float(np.mean(after[chosen] * scaled)),
            background=float(np.mean((before[chosen] - after[chosen]) * scaled)),
        )
    return ratios


def memory(earlier: np.ndarray, now: np.ndarray, observations: Observations) -> dict[str, float]:
    """Autocorrelation of the innovations of every observed variable: d' at one time, d at a later time.

    Mean of d' d / R over mean of d² / R: 0 for white innovations, positive when the cycle draws too little on
    its observations (λ is too large), negative when it draws too much.

    Args:
        earlier, now: d' and d, [P], from the same network.
        observations: [P], of the later time.
    """
    correlations = {}
    for name in np.unique(observations.variable):
        chosen = observations.variable == name
        scaled = now[chosen] / observations.error_std[chosen] ** 2
        correlations[str(name)] = float((earlier[chosen] * scaled).mean() / (now[chosen] * scaled).mean())
    return correlations
