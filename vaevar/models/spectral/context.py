"""The network that reads the day: a background, and where it was observed before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaevar.models.nn.blocks import ConvNeXtBlock, Downsample, LatitudeModulation, pad_sphere
from vaevar.models.nn.unet import UNet, scale_grid
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics


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
