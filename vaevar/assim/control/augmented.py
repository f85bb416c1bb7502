"""Background errors that are a sum of independent parts: δ = D_1(w_1) + D_2(w_2) + ...

The control vector is augmented by one part for each source of error (Lorenc, 2003, Q. J. R. Meteorol. Soc.
129). A VAE's own model of an error is δ = D(w) + ε, where ε is what its decoder cannot represent, mostly
small scales. The published method drops ε. With ε = U_r v, U_r calibrated on what the VAE leaves of its
training samples (``configs/residual_covariance.yaml``), both are analysed together:

    J(w, v) = λ_w/2 ‖w‖² + λ_v/2 ‖v‖² + ½ (y − H(x_b + D(w) + U_r v))ᵀ R⁻¹ (y − H(x_b + D(w) + U_r v)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vaevar.assim.context import AnalysisContext
from vaevar.assim.control.base import ControlTransform
from vaevar.errors import UserError
from vaevar.state import State, difference


class AugmentedControl(ControlTransform):
    """D(w) = Σ_i D_i(w_i / √r_i), w the w_i end to end.

    Args:
        parts: the D_i, of the same channels and grid.
        weights: r_i, the weight of ‖w_i‖² relative to the assimilator's λ; 1 for all by default.

    Raises:
        UserError: for no parts, parts of different channels or grids, or weights that do not fit.
    """

    def __init__(self, parts: list[ControlTransform], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not parts:
            raise UserError("AugmentedControl: give at least one part")
        weights = [1.0] * len(parts) if weights is None else list(weights)
        if len(weights) != len(parts) or not all(weight > 0 for weight in weights):
            raise UserError(
                f"AugmentedControl: {len(parts)} parts need as many positive weights, got {weights}"
            )
        for number, part in enumerate(parts):
            if part.spec != parts[0].spec or part.grid != parts[0].grid:
                fault = difference(part.spec, part.grid, parts[0].spec, parts[0].grid)
                raise UserError(
                    f"AugmentedControl: part {number} is for other increments than part 0, {fault}; give "
                    "parts of one kind"
                )
        self.parts, self.weights = nn.ModuleList(parts), weights
        self.spec, self.grid = parts[0].spec, parts[0].grid
        self._shapes = [torch.Size(part.shape) for part in parts]

    def for_analysis(self, background: State, context: AnalysisContext) -> ControlTransform:
        """The sum of the parts of one day."""
        parts = [cast(ControlTransform, part).for_analysis(background, context) for part in self.parts]
        return AugmentedControl(parts, self.weights)

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(shape.numel() for shape in self._shapes),)

    def forward(self, w: Tensor) -> Tensor:
        """[N] -> [C, H, W] in physical units."""
        pieces = w.split([shape.numel() for shape in self._shapes])
        increments = [
            part(piece.reshape(shape) * weight**-0.5)
            for part, piece, shape, weight in zip(self.parts, pieces, self._shapes, self.weights, strict=True)
        ]
        return torch.stack(increments).sum(0)
