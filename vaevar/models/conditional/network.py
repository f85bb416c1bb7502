"""Networks of the conditional VAE: what a background tells about its own error, and how the decoder uses it.

Fields are the n standardised control variables of 3DVar (:mod:`vaevar.models.covariance.balance`) on their
grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaevar.models.nn.blocks import ConvNeXtBlock, Downsample, LatitudeModulation, pad_sphere
from vaevar.models.nn.unet import UNet, scale_grid
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.sphere.wind import field_of, to_coefficients, to_waves, waves_of


class Geography(nn.Module):
    """Learned smooth maps, [maps, H, W], of storm tracks, land and mountains as far as they matter.

    Args:
        grid: the H × W points.
        maps: number of maps.
        lmax: triangular truncation of the maps.
    """

    def __init__(self, grid: Grid, maps: int, lmax: int) -> None:
        super().__init__()
        self.harmonics = SphericalHarmonics(grid, lmax)
        self.weight = nn.Parameter(0.1 * torch.randn(maps, lmax + 1, lmax + 1, 2))

    def forward(self) -> Tensor:
        return self.harmonics.synthesise(torch.view_as_complex(self.weight))


class ContextNetwork(UNet):
    """A U-Net on the sphere, from a background and its coverage to smooth features on the same grid.

    Args:
        channels: number of channels of the normalised background, plus the number of coverage maps.
        grid: the H × W points of the background.
        widths: features on each scale. Scale 0 has patches of 2 × 2 points; each next scale halves the rows.
        depth: blocks of one pass over a scale.
        maps, lmax: as in :class:`Geography`.
        dropout: probability of dropping a feature on the coarsest scale.
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
        self.shape = grid.shape
        self.geography = Geography(grid, maps, lmax)

        def stage(scale: int, upward: bool) -> nn.Sequential:
            blocks = [ConvNeXtBlock(widths[scale], kernel_size=5) for _ in range(depth)]
            rows, _ = scale_grid(*grid.shape, 2, scale)
            layers = nn.Sequential(LatitudeModulation(widths[scale], rows), *blocks)
            return layers.append(nn.Dropout2d(dropout)) if scale == len(widths) - 1 else layers

        self.stem = Downsample(channels + maps, widths[0], 2)
        self.add_scales(widths, stage)
        self.norm = nn.LayerNorm(widths[0])

    def forward(self, background: Tensor, coverage: Tensor) -> Tensor:
        """[B, C, H, W] normalised and [B, K, H, W] -> [B, widths[0], H, W]."""
        maps = self.geography().expand(len(background), -1, -1, -1).to(background)
        x = torch.cat([background, coverage.to(background), maps], 1)
        x = self.through_scales(self.stem(x.contiguous(memory_format=torch.channels_last)))
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return _doubled(x)[..., : self.shape[0], :]


def _doubled(x: Tensor) -> Tensor:
    """Twice the rows and columns, by bilinear interpolation: the features have to be smooth."""
    larger = functional.interpolate(pad_sphere(x, 1, 1), scale_factor=2, mode="bilinear", align_corners=False)
    return larger[..., 2:-2, 2:-2]


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
