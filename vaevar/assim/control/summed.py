"""Background errors that are a sum of independent parts: δ = D_1(w_1) + D_2(w_2) + ...

A VAE's own model of an error is δ = D(w) + ε, where ε is what its decoder cannot represent: the small
scales above all. The published method drops ε. With ε = U_r v, U_r calibrated on what the VAE leaves
of its training samples (``configs/residual_covariance.yaml``), both are analysed together:

    J(w, v) = λ_w/2 ‖w‖² + λ_v/2 ‖v‖² + ½ (y − H(x_b + D(w) + U_r v))ᵀ R⁻¹ (y − H(x_b + D(w) + U_r v)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vaevar.assim.control.base import ControlTransform
from vaevar.errors import UserError
from vaevar.state import State


class SummedControl(ControlTransform):
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
            raise UserError("SummedControl: give at least one part")
        weights = [1.0] * len(parts) if weights is None else list(weights)
        if len(weights) != len(parts) or not all(weight > 0 for weight in weights):
            raise UserError(f"SummedControl: {len(parts)} parts need as many positive weights, got {weights}")
        for part in parts[1:]:
            if part.spec != parts[0].spec or part.grid != parts[0].grid:
                raise UserError(
                    f"SummedControl: parts differ: {parts[0].spec} on {parts[0].grid}, and "
                    f"{part.spec} on {part.grid}"
                )
        self.parts = nn.ModuleList(parts)
        self.scales = [weight**-0.5 for weight in weights]
        self.spec, self.grid = parts[0].spec, parts[0].grid
        self._shapes = [tuple(part.shape) for part in parts]

    def given(self, background: State, coverage: Tensor | None) -> None:
        for part in self.parts:
            cast(ControlTransform, part).given(background, coverage)

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(torch.Size(shape).numel() for shape in self._shapes),)

    def forward(self, w: Tensor) -> Tensor:
        """[N] -> [C, H, W] in physical units."""
        pieces = w.split([torch.Size(shape).numel() for shape in self._shapes])
        increments = [
            part(piece.reshape(shape) * scale)
            for part, piece, shape, scale in zip(self.parts, pieces, self._shapes, self.scales, strict=True)
        ]
        return torch.stack(increments).sum(0)
