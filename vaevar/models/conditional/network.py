"""Networks of the conditional VAE: what a background says of its own error, and how the decoder uses it.

Fields here are the n standardised control variables of 3DVar (:mod:`vaevar.models.covariance.balance`) on
their grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaevar.models.nn.blocks import ConvNeXtBlock, Downsample, LatitudeModulation, Upsample, pad_sphere
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.sphere.wind import field_of, to_coefficients, to_waves, waves_of


class Geography(nn.Module):
    """Learned smooth maps: [] -> [maps, H, W]; where storms, land and mountains are, as far as it matters.

    Args:
        grid: of the maps.
        maps: how many.
        lmax: their truncation.
    """

    def __init__(self, grid: Grid, maps: int, lmax: int) -> None:
        super().__init__()
        self.harmonics = SphericalHarmonics(grid, lmax)
        self.weight = nn.Parameter(0.1 * torch.randn(maps, lmax + 1, lmax + 1, 2))

    def forward(self) -> Tensor:
        return self.harmonics.synthesise(torch.view_as_complex(self.weight))


class ContextNetwork(nn.Module):
    """A U on the sphere from a background and its coverage to smooth features, on the fields' own grid.

    Args:
        channels: of the normalised background, plus the maps of coverage.
        grid: H × W of the background.
        widths: features on each scale; scale 0 has patches of 2 × 2 points, each next one half the rows.
        depth: blocks of one pass over a scale.
        maps, lmax: of :class:`Geography`.
        dropout: of whole features, before the last scale's way back; 0 for none.
    """

    def __init__(
        self,
        channels: int,
        grid: Grid,
        widths: Sequence[int],
        depth: int,
        maps: int,
        lmax: int,
        dropout: float,
    ) -> None:
        super().__init__()
        rows = [-(-grid.shape[0] // 2)]
        for _ in widths[1:]:
            rows.append(-(-rows[-1] // 2))
        self.rows, self.shape = rows, grid.shape
        self.geography = Geography(grid, maps, lmax)

        def stage(scale: int) -> nn.Sequential:
            blocks = [ConvNeXtBlock(widths[scale], kernel_size=5) for _ in range(depth)]
            return nn.Sequential(LatitudeModulation(widths[scale], rows[scale]), *blocks)

        steps = list(itertools.pairwise(widths))
        self.stem = Downsample(channels + maps, widths[0], 2)
        self.descend = nn.ModuleList(stage(scale) for scale in range(len(widths) - 1))
        self.shrink = nn.ModuleList(Downsample(fine, coarse) for fine, coarse in steps)
        self.bottom = stage(len(widths) - 1)
        self.dropout = nn.Dropout2d(dropout)
        self.grow = nn.ModuleList(Upsample(coarse, fine) for fine, coarse in steps)
        self.ascend = nn.ModuleList(stage(scale) for scale in range(len(widths) - 1))
        self.norm = nn.LayerNorm(widths[0])

    def forward(self, background: Tensor, coverage: Tensor) -> Tensor:
        """[B, C, H, W] normalised and [B, K, H, W] -> [B, widths[0], H, W]."""
        maps = self.geography().expand(len(background), -1, -1, -1).to(background)
        x = torch.cat([background, coverage.to(background), maps], 1)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        skips = []
        for stage, shrink in zip(self.descend, self.shrink, strict=True):
            x = stage(x)
            skips.append(x)
            x = shrink(x)
        x = self.dropout(self.bottom(x))
        for scale in reversed(range(len(skips))):
            x = self.ascend[scale](self.grow[scale](x, self.rows[scale]) + skips[scale])
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return _doubled(x)[..., : self.shape[0], :]


def _doubled(x: Tensor) -> Tensor:
    """Twice the rows and columns, bilinear on the sphere: what depends on the weather is to be smooth."""
    larger = functional.interpolate(pad_sphere(x, 1, 1), scale_factor=2, mode="bilinear", align_corners=False)
    return larger[..., 2:-2, 2:-2]


class Modulation(nn.Module):
    """x = Σ_b e^{s_b(c)} ⊙ F_b y: from homogeneous fields to those of the day, scale by scale.

    F_b projects on the total wavenumbers of a band. What makes errors of 1000 km large does not make those of
    10,000 km large, so that each band has its own s_b: a field of each variable that has no wavenumbers
    beyond half of the first of its band (beyond 1 in the lowest bands), smooth beside what it multiplies.

    Fields are coefficients in parts, [B, n, L, M, 2].

    Args:
        harmonics: of the fields.
        count: n.
        context: features of the context.
        bands: first total wavenumber of each band, the first one 0; those beyond the truncation are left out.
        largest: |s| stays below it.

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
        """s of a context [B, F, H, W]: [B, b, n, H, W]."""
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
        """x -> y to second order in what multiplication by e^s moves from one band to another."""
        y = self(x, -scales)
        return y + self(x - self(y, scales), -scales)

    def _field(self, coefficients: Tensor, low: int, high: int) -> Tensor:
        """What the total wavenumbers from ``low`` to before ``high`` make, [..., H, W]."""
        matrix = self.harmonics.synthesis_matrix[:high, low:high]
        return field_of(to_waves(matrix, coefficients[..., low:high, :high, :]), self.harmonics.grid.shape[1])
