"""The networks of the spectral VAE: functions of fields on the sphere that begin as zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaevar.models.nn.blocks import ConvNeXtBlock, Downsample, LatitudeModulation, Upsample
from vaevar.models.nn.unet import UNet, scale_grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.sphere.wind import field_of, to_coefficients, to_waves, waves_of

# Features are divided by their size only where it exceeds that of an ordinary error. A norm that always
# divides by it is singular at 0, where an analysis begins.
SMOOTH = 1.0


class OddNetwork(UNet):
    """An odd function of n fields, F(−z) = −F(z): ½ (N(z) − N(−z)) with a U-Net N whose head begins as zero.

    An error is as likely as its opposite. So F(0) = 0, and F has a slope there.

    Args:
        harmonics: of the fields' grid; z and F(z) are coefficients in parts, [B, n, L, M, 2].
        count: n.
        widths: features on each scale. Scale 0 has patches of 2 × 2 points; each next scale halves the rows.
        depth: blocks of one pass over a scale.
    """

    def __init__(self, harmonics: SphericalHarmonics, count: int, widths: Sequence[int], depth: int) -> None:
        super().__init__()
        self.harmonics = harmonics
        shape = harmonics.grid.shape

        def stage(scale: int, upward: bool) -> nn.Sequential:
            rows, _ = scale_grid(*shape, 2, scale)
            blocks = [ConvNeXtBlock(widths[scale], kernel_size=5, epsilon=SMOOTH) for _ in range(depth)]
            return nn.Sequential(LatitudeModulation(widths[scale], rows), *blocks)

        self.stem = Downsample(count, widths[0], 2)
        self.add_scales(widths, stage)
        self.head = Upsample(widths[0], count, 2)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, z: Tensor) -> Tensor:
        """[B, n, L, M, 2] -> the same, of unit variance as fields where z is."""
        with torch.autocast(z.device.type, enabled=False):
            matrix = self.harmonics.synthesis_matrix
            fields = field_of(to_waves(matrix, z), self.harmonics.grid.shape[1])
        both = torch.cat([fields, -fields]).contiguous(memory_format=torch.channels_last)
        there, back = self.head(self.through_scales(self.stem(both)), fields.shape[-2]).chunk(2)
        with torch.autocast(z.device.type, enabled=False):
            odd = (there.float() - back.float()) / 2
            return to_coefficients(self.harmonics.analysis_matrix, waves_of(odd, matrix.shape[0]))


class LogVariance(nn.Module):
    """What the log-variance of w | x differs by from that of the linear model, given how large x is.

    By eigenvector and degree, from the log-power of x there.

    Args:
        size: n · (lmax + 1), the number of eigenvectors.
        width: of the hidden layer.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.read, self.write = nn.Linear(size, width), nn.Linear(width, size)
        for parameter in self.write.parameters():
            nn.init.zeros_(parameter)

    def forward(self, log_power: Tensor) -> Tensor:
        """[B, n, L] -> the same."""
        hidden = nn.functional.gelu(self.read(log_power.flatten(1)))
        return self.write(hidden).view_as(log_power)
