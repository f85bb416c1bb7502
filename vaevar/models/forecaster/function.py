"""A plain function as the forecaster of a config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from vaevar.errors import UserError
from vaevar.forecast import Forecaster
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


class FunctionForecaster(Forecaster):
    """Steps with a function that a config names; in Python, :meth:`vaevar.forecast.Forecaster.from_function`.

    Args:
        function: from the last states [B, history, C, H, W] to the next, [B, C, H, W], physical units; in a
            config its import path, such as ``my_package.my_module.my_function``.
        grid, shape: of the states: the family of their grid, and H and W.
        spec: the C channels. None: FengWu's 69.
        history: number of past states that it needs.
        step_hours: of its step.

    Raises:
        UserError: when there is no such grid, or a number is not positive.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        grid: Literal["equiangular", "gaussian", "cells", "regular"],
        shape: tuple[int, int],
        spec: StateSpec | None = None,
        history: int = 1,
        step_hours: int = 6,
    ) -> None:
        try:
            points = Grid.of_family(grid, *shape)
        except ValueError as error:
            raise UserError(f"FunctionForecaster: {error}") from None
        self._steps = Forecaster.from_function(function, spec or StateSpec(), points, history, step_hours)
        self.function = function
        self.spec, self.grid = self._steps.spec, self._steps.grid
        self.history, self.step_hours = history, step_hours

    def step(self, states: Tensor) -> Tensor:
        return self._steps.step(states)
