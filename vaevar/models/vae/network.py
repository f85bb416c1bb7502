"""Encoder and decoder of the VAE: U-Nets of windowed attention on the sphere.

In the spirit of VAE-Var (Xiao et al., ICLR 2025): one stem for the surface variables and one for each
upper-air variable, a U-Net in the encoder, a latent field [Cz, h, w], a U-Net in the decoder, and one head
for each group. No skip connects the encoder with the decoder.

Scale 0 has patches of ``patch`` × ``patch`` grid points; each next scale halves the rows and columns. The
latent field lives on scale ``latent_scale``, and the U-Nets reach from there to the coarsest scale and back.
All blocks are residual around a linear trunk that starts as a nearly orthogonal map. So the network starts as
a linear autoencoder, which trains fast, and the decoder stays smooth enough for a quasi-Newton minimisation
over w.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaevar.models.nn.blocks import (
    Downsample,
    LatitudeModulation,
    Recomputed,
    SphereConv2d,
    Upsample,
    alternating_blocks,
)
from vaevar.models.nn.unet import UNet, scale_grid


@dataclass(frozen=True)
class VAEShape:
    """The sizes of encoder and decoder.

    Attributes:
        rows, columns: H and W of the fields.
        groups: number of channels of each group, in channel order; each group has its own stem and head.
        patch: grid points of a patch on scale 0, each way.
        stem_width: features of each group's stem.
        head_width: features of each group's head, on the grid of the fields.
        widths: features on each scale.
        depths: pairs of attention and convolution on each scale.
        heads: attention heads on each scale; 0: convolutions only.
        window: rows and columns of an attention window.
        expansion: width of the pointwise layers in the convolution blocks, in multiples of the features.
        kernel_size: size of the depthwise convolutions.
        latent_scale: the scale of the latent field.
        latent_channels: Cz.

    Raises:
        ValueError: when the sizes do not fit together; the message names them.
    """

    rows: int
    columns: int
    groups: tuple[int, ...]
    patch: int
    stem_width: int
    head_width: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    expansion: int
    kernel_size: int
    latent_scale: int
    latent_channels: int

    def __post_init__(self) -> None:
        scales = len(self.widths)
        if not scales or len(self.depths) != scales or len(self.heads) != scales:
            raise ValueError(
                f"widths, depths and heads need one entry per scale, got {scales}, "
                f"{len(self.depths)} and {len(self.heads)}"
            )
        if not 0 <= self.latent_scale < scales:
            raise ValueError(f"latent_scale {self.latent_scale} is outside the {scales} scales")
        for scale in range(scales):
            divisor = self.patch * 2**scale
            if self.columns % (2 * divisor):
                raise ValueError(
                    f"{self.columns} longitudes do not divide into an even number of patches of "
                    f"{divisor} on scale {scale}; change patch, or use fewer scales"
                )
            rows, columns = self.grid_of(scale)
            if self.heads[scale] and (columns % self.window or rows < self.window):
                raise ValueError(
                    f"windows of {self.window} do not fit the {rows} × {columns} patches of scale "
                    f"{scale}; choose a window that divides {columns}, or heads 0 there"
                )
            if self.heads[scale] and self.widths[scale] % self.heads[scale]:
                raise ValueError(
                    f"width {self.widths[scale]} on scale {scale} is no multiple of {self.heads[scale]} heads"
                )

    def grid_of(self, scale: int) -> tuple[int, int]:
        """Rows and columns of a scale."""
        return scale_grid(self.rows, self.columns, self.patch, scale)

    @property
    def latent(self) -> tuple[int, int, int]:
        """Shape of the latent field, (Cz, h, w)."""
        return (self.latent_channels, *self.grid_of(self.latent_scale))

    def stage(self, scale: int, shifted: bool = False) -> nn.Sequential:
        """One pass over a scale: latitude first, then attention and convolution in turn."""
        width, rows = self.widths[scale], self.grid_of(scale)[0]
        depth, heads = self.depths[scale], self.heads[scale]
        return nn.Sequential(
            LatitudeModulation(width, rows),
            *alternating_blocks(width, depth, heads, self.window, self.kernel_size, self.expansion, shifted),
        )


class UStack(UNet):
    """The U-Net from the latent scale to the coarsest and back: [B, C, h, w] -> the same shape."""

    def __init__(self, shape: VAEShape, recompute: bool = False) -> None:
        super().__init__(recompute)
        first = shape.latent_scale
        self.add_scales(shape.widths[first:], lambda scale, upward: shape.stage(first + scale, upward))

    def forward(self, x: Tensor) -> Tensor:
        return self.through_scales(x)


class Encoder(nn.Module):
    """From normalised fields [B, C, H, W] to mean and log-variance of the latent field, [B, Cz, h, w] each.

    Args:
        shape: the sizes.
        recompute: recompute the activations of stages in the backward pass.
    """

    def __init__(self, shape: VAEShape, recompute: bool = False) -> None:
        super().__init__()
        self.recomputed = Recomputed(recompute)
        self.groups = list(shape.groups)
        self.stems = nn.ModuleList(Downsample(n, shape.stem_width, shape.patch) for n in shape.groups)
        self.mix = nn.Conv2d(len(shape.groups) * shape.stem_width, shape.widths[0], 1)
        fine = range(shape.latent_scale)
        self.stages = nn.ModuleList(shape.stage(scale) for scale in fine)
        self.shrink = nn.ModuleList(Downsample(shape.widths[s], shape.widths[s + 1]) for s in fine)
        self.stack = UStack(shape, recompute)
        width = shape.widths[shape.latent_scale]
        self.mean = nn.Conv2d(width, shape.latent_channels, 1)
        self.log_variance = nn.Conv2d(width, shape.latent_channels, 1)
        _orthogonal(self.stems, self.mix, self.shrink, self.stack.shrink, self.stack.grow, self.mean)
        # Little noise at the start, so that the mean learns to carry information before the KL term
        # switches off the units that are not worth their cost.
        nn.init.zeros_(self.log_variance.weight)
        self.log_variance.bias = nn.Parameter(torch.full((shape.latent_channels,), -4.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        groups = x.split(self.groups, dim=1)
        x = self.mix(torch.cat([stem(g) for stem, g in zip(self.stems, groups, strict=True)], dim=1))
        for stage, shrink in zip(self.stages, self.shrink, strict=True):
            x = shrink(self.recomputed(stage, x))
        x = self.stack(x)
        return self.mean(x), self.log_variance(x)


class Decoder(nn.Module):
    """From the latent field [B, Cz, h, w] to normalised fields [B, C, H, W].

    Args:
        shape: the sizes.
        recompute: as in :class:`Encoder`.
    """

    def __init__(self, shape: VAEShape, recompute: bool = False) -> None:
        super().__init__()
        self.recomputed = Recomputed(recompute)
        coarse_to_fine = range(shape.latent_scale - 1, -1, -1)
        self.project = nn.Conv2d(shape.latent_channels, shape.widths[shape.latent_scale], 1)
        self.stack = UStack(shape, recompute)
        self.rows = [shape.grid_of(scale)[0] for scale in coarse_to_fine]
        self.grow = nn.ModuleList(Upsample(shape.widths[s + 1], shape.widths[s]) for s in coarse_to_fine)
        self.stages = nn.ModuleList(shape.stage(scale) for scale in coarse_to_fine)
        self.field_rows, width = shape.rows, shape.head_width
        self.latitude = LatitudeModulation(shape.widths[0], shape.grid_of(0)[0])
        self.heads = nn.ModuleList(Upsample(shape.widths[0], width, shape.patch) for _ in shape.groups)
        # A small convolution on the fields' own grid smooths the edges of the patches.
        self.finish = nn.ModuleList(SphereConv2d(width, n, 3) for n in shape.groups)
        _orthogonal(self.project, self.stack.shrink, self.stack.grow, self.grow, self.heads, self.finish)

    def forward(self, w: Tensor) -> Tensor:
        x = self.project(w.contiguous(memory_format=torch.channels_last))
        x = self.stack(x)
        for grow, stage, rows in zip(self.grow, self.stages, self.rows, strict=True):
            x = self.recomputed(stage, grow(x, rows))
        x = self.latitude(x)
        return torch.cat(
            [self.recomputed(self._fields, x, number) for number in range(len(self.heads))], dim=1
        )

    def _fields(self, x: Tensor, group: int) -> Tensor:
        """The fields of a group: [B, widths[0], h, w] of scale 0 -> [B, groups[group], H, W]."""
        return self.finish[group](self.heads[group](x, self.field_rows))


def _orthogonal(*modules: nn.Module) -> None:
    convolutions: Sequence[nn.Conv2d] = [
        layer for module in modules for layer in module.modules() if isinstance(layer, nn.Conv2d)
    ]
    for layer in convolutions:
        nn.init.orthogonal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
