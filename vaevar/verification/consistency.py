"""Do the departures have the errors that an analysis assumed? Desroziers' ratios, and innovations' memory.

With d_b = y − H(x_b) and d_a = y − H(x_a), an analysis that is optimal for its B and R has
(Desroziers, Berre, Chapnik and Poli, 2005, Q. J. R. Meteorol. Soc. 131, eqs. 1 to 3)

    E[d_b d_bᵀ] = R + H B Hᵀ,
    E[d_a d_bᵀ] = R,
    E[(H(x_a) − H(x_b)) d_bᵀ] = H B Hᵀ.

Observations and states are all it takes: the truth is never used, so every method has them, whether
it knows a B or not. The last two add up to the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vaevar.data.observations.operator import ObservationOperator
from vaevar.data.observations.points import Observations
from vaevar.state import State


@dataclass(frozen=True)
class Consistency:
    """What the departures of one variable say, both over the variance R that was assumed.

    Attributes:
        observation: mean of d_a d_b / R: 1 where B and R are consistent, above 1 where the analysis
            stays too far from the observations.
        background: mean of (H(x_a) − H(x_b)) d_b / R: the background error variance at the
            observations, as this analysis sees it.
    """

    observation: float
    background: float


def departures(operator: ObservationOperator, state: State, observations: Observations) -> np.ndarray:
    """y − H(x), [P] float64, of a [C, H, W] state.

    Args:
        operator: H, to the places of ``observations``.
        state: x.
        observations: y.
    """
    seen = operator.to(state.values.device)(state.values)
    return observations.value - seen.detach().double().cpu().numpy()


def desroziers(before: np.ndarray, after: np.ndarray, observations: Observations) -> dict[str, Consistency]:
    """Both ratios of every observed variable.

    Args:
        before: d_b, [P].
        after: d_a, [P].
        observations: P of them; their ``error_std`` is the square root of R's diagonal.
    """
    found = {}
    for name in np.unique(observations.variable):
        here = observations.variable == name
        scaled = before[here] / observations.error_std[here] ** 2
        found[str(name)] = Consistency(
            observation=float(np.mean(after[here] * scaled)),
            background=float(np.mean((before[here] - after[here]) * scaled)),
        )
    return found


def memory(earlier: np.ndarray, now: np.ndarray, observations: Observations) -> dict[str, float]:
    """Autocorrelation of the innovations of every observed variable: of d' at one time and d at a later one.

    Mean of d' d / R over mean of d² / R: 0 for white ones, above where the cycle takes too little from its
    observations (λ is too large), below where it takes too much.

    Args:
        earlier, now: d' and d, [P], of the same network.
        observations: P of them, of the later time.
    """
    found = {}
    for name in np.unique(observations.variable):
        here = observations.variable == name
        scaled = now[here] / observations.error_std[here] ** 2
        found[str(name)] = float((earlier[here] * scaled).mean() / (now[here] * scaled).mean())
    return found
