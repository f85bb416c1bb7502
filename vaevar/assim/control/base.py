"""Control transforms D: from a control vector with unit covariance to an increment.

A variational analysis is x = x_b + D(w). In 3DVar D is a square root of B, in VAE-Var the decoder
of a VAE. The methods differ in D alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from vaevar.assim.context import AnalysisContext
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec


class ControlTransform(nn.Module, ABC):
    """The base of every D: a module, so that it moves to a device, and a class that configs can choose.

    Attributes:
        spec, grid: of the increments it makes. The grid may be coarser than the background's.

    Example:
        >>> class White(vaevar.ControlTransform):
        ...     def __init__(self, std, spec, grid):
        ...         super().__init__()
        ...         self.std, self.spec, self.grid = std, spec, grid
        ...     @property
        ...     def shape(self):
        ...         return (len(self.spec), *self.grid.shape)
        ...     def forward(self, w):
        ...         return self.std * w
        >>> vaevar.VariationalAssimilator(White(0.1, state.spec, state.grid))(state, observations).converged
        True
    """

    spec: StateSpec
    grid: Grid

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of w, which is standard normal a priori."""

    def for_analysis(self, background: State, context: AnalysisContext) -> ControlTransform:
        """The transform of one analysis, for a D that depends on the day; by default D itself.

        Args:
            background: x_b.
            context: the analysis, and where earlier ones had observations.
        """
        return self

    @abstractmethod
    def forward(self, w: Tensor) -> Tensor:
        """w of ``shape`` -> increment [C, H, W] in physical units, differentiable.

        Zero at w = 0, unless the background is known to be wrong in the mean.
        """


class LinearControl(ControlTransform):
    """D(w) = U w with an explicit matrix: B = U Uᵀ, for states small enough to write it down.

    Args:
        matrix: [C·H·W, N], U; physical units.
        spec, grid: of the increments.

    Raises:
        ValueError: when the matrix does not have a row for each value of the state.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor, spec: StateSpec, grid: Grid) -> None:
        super().__init__()
        size = len(spec) * grid.shape[0] * grid.shape[1]
        if matrix.ndim != 2 or matrix.shape[0] != size:
            raise ValueError(f"matrix is {tuple(matrix.shape)}, expected ({size}, N)")
        self.spec, self.grid = spec, grid
        self.register_buffer("matrix", matrix)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.matrix.shape[1],)

    def forward(self, w: Tensor) -> Tensor:
        """[N] -> [C, H, W]."""
        return (self.matrix.to(w.dtype) @ w).reshape(len(self.spec), *self.grid.shape)
