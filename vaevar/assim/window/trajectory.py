"""The states of a window as a function of the control vector.

x_0 = x_b + D(w),   x_k = M(x_{k−1}) + Q D_q(η_k)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from vaevar.assim.control.base import ControlTransform
from vaevar.errors import ForecasterFault, UserError, one_line
from vaevar.forecast import Forecaster
from vaevar.models.forecaster.gradient import watched
from vaevar.state import regrid


@contextmanager
def forecasting() -> Iterator[None]:
    """What a forecaster says of itself is its fault, not its user's: other arms of a cycle go on.

    Raises:
        ForecasterFault: instead of UserError.
    """
    try:
        yield
    except UserError as error:
        raise ForecasterFault(f"the forecast through its window fails: {one_line(error)}") from error


@dataclass(frozen=True)
class ModelError:
    """Q D_q: what a forecast of one step may be wrong by.

    Attributes:
        control: D_q.
        scale: Q, a number.
    """

    control: ControlTransform
    scale: float


@dataclass(frozen=True)
class WindowModel:
    """From the control vector v = (w, η_1, ..., η_{K−1}) to the increments δ_k = x_k − x_b,k of a window.

    Only the state at the beginning of the window is corrected, and each forecast where there is model error.
    The states before the window, which forecasters such as FengWu need, are analyses of the window before;
    they stay as they are. The gradient that comes back to each step is watched
    (:func:`vaevar.models.forecaster.gradient.watched`).

    Attributes:
        control: D.
        forecaster: M.
        before: [history − 1, C, H, W], the states before the window.
        backgrounds: [K, C, H, W], x_b,k: the forecast from x_b.
        model_error: None: the forecaster is perfect.
    """

    control: ControlTransform
    forecaster: Forecaster
    before: Tensor
    backgrounds: Tensor
    model_error: ModelError | None = None

    @property
    def sizes(self) -> list[int]:
        """Lengths of w, η_1, ..., η_{K−1}."""
        error = self.model_error
        errors = [] if error is None else [prod(error.control.shape)] * (len(self.backgrounds) - 1)
        return [prod(self.control.shape), *errors]

    def __call__(self, v: Tensor) -> list[Tensor]:
        """[N] -> δ_0, ..., δ_{K−1}, [C, H, W] each, on the grid of the states."""
        w, *errors = v.split(self.sizes)
        grid, spec = self.forecaster.grid, self.forecaster.spec
        increment = regrid(self.control(w.reshape(self.control.shape)), spec, self.control.grid, grid)
        increments = [increment]
        first = (self.backgrounds[0] + increment).to(self.backgrounds.dtype)
        states = torch.cat([self.before, first[None]])
        for number in range(1, len(self.backgrounds)):
            with forecasting():
                state = self.forecaster.step(watched(states[None], spec, number, self.forecaster))[0]
            if self.model_error is not None:
                made = self.model_error.control(errors[number - 1].reshape(self.model_error.control.shape))
                state = state + self.model_error.scale * regrid(
                    made, spec, self.model_error.control.grid, grid
                ).to(state.dtype)
            increments.append(state - self.backgrounds[number])
            states = torch.cat([states, state[None]])[-self.forecaster.history :]
        return increments
