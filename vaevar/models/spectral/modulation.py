"""How the size of errors differs from day to day and from place to place."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.sphere.wind import field_of, to_coefficients, to_waves, waves_of


class Modulation(nn.Module):
    """x = Σ_b e^{s_b(c)} ⊙ F_b y: from homogeneous fields to those of the day, band by band.

    F_b projects onto a band of total wavenumbers. What makes errors of 1000 km large does not make errors of
    10,000 km large, so each band has its own s_b. It is one field per variable, with no wavenumber above half
    the band's first one (above 1 in the lowest bands), so that it is smooth compared with what it multiplies.

    Fields are coefficients in parts, [B, n, L, M, 2].

    Args:
        harmonics: the transform of the fields.
        count: n.
        context: number of features of the context.
        bands: first total wavenumber of each band, starting with 0. Bands beyond the truncation are dropped.
        largest: upper bound of |s|.

    Attributes:
        modes: [b], the number of real coefficients in each band.

    Raises:
        ValueError: for bands that do not ascend from 0.
    """

    def __init__(
        self,
        harmonics: SphericalHarmonics,
        count: int,
        context: int,
        bands: Sequence[int],
        largest: float = 2.0,
    ) -> None:
        super().__init__()
        if not bands or bands[0] != 0 or list(bands) != sorted(set(bands)):
            raise ValueError(f"bands {list(bands)} must ascend from 0")
        self.harmonics, self.largest = harmonics, largest
        ends = [*[first for first in bands if first <= harmonics.lmax], harmonics.lmax + 1]
        self.spans = list(itertools.pairwise(ends))
        self.modes = [high**2 - low**2 for low, high in self.spans]
        self.log_scales = nn.ModuleList(nn.Conv2d(context, count, 1) for _ in self.spans)
        for head in self.log_scales:
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def scales(self, context: Tensor) -> Tensor:
        """s, [B, b, n, H, W], of a context [B, F, H, W]."""
        waves = waves_of(context, self.harmonics.lmax + 1)
        coefficients = to_coefficients(self.harmonics.analysis_matrix, waves)
        scales = []
        for head, (low, _) in zip(self.log_scales, self.spans, strict=True):
            smooth = self._field(coefficients, 0, max(low // 2, 1) + 1)
            scales.append(self.largest * torch.tanh(head(smooth) / self.largest))
        return torch.stack(scales, 1)

    def forward(self, y: Tensor, scales: Tensor) -> Tensor:
        """y -> x, linear in y."""
        products = (
            scales[:, band].exp() * self._field(y, low, high) for band, (low, high) in enumerate(self.spans)
        )
        waves = waves_of(torch.stack(list(products)).sum(0), self.harmonics.lmax + 1)
        return to_coefficients(self.harmonics.analysis_matrix, waves)

    def inverse(self, x: Tensor, scales: Tensor) -> Tensor:
        """x -> y, to second order in what multiplication by e^s moves between bands."""
        y = self(x, -scales)
        return y + self(x - self(y, scales), -scales)

    def _field(self, coefficients: Tensor, low: int, high: int) -> Tensor:
        """The part of total wavenumbers ``low`` to ``high`` − 1, as a field [..., H, W]."""
        matrix = self.harmonics.synthesis_matrix[:high, low:high]
        return field_of(to_waves(matrix, coefficients[..., low:high, :high, :]), self.harmonics.grid.shape[1])
