"""What a variational method minimises, so that its analysis can be looked at: its adjoint, for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vaevar.assim.cost import Cost
from vaevar.data.observations.points import Observations
from vaevar.state import State


@dataclass(frozen=True)
class Problem:
    """The minimisation of one window; a window of 3DVar is one time.

    Attributes:
        cost: J.
        first: the control vector that it begins at, zero.
        increments: from a control vector to x_k − x_b,k of the K times, [C, H, W] each, on the states' grid.
        backgrounds: x_b,k.
        observed: all P observations, in the order of the cost's innovation.
    """

    cost: Cost[Any]
    first: Tensor
    increments: Callable[[Tensor], list[Tensor]]
    backgrounds: list[State]
    observed: Observations
