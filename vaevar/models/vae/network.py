"""Encoder and decoder of the VAE: U-shaped stacks of windowed attention on the sphere.

In the spirit of VAE-Var (Xiao et al., ICLR 2025): a stem of its own for the surface variables and
for each upper-air variable, a U-shaped stack in the encoder, a latent field [Cz, h, w], a U-shaped
stack in the decoder, and a head of its own for each group. Nothing skips from encoder to decoder.

Scales: scale 0 has patches of ``patch`` × ``patch`` grid points; each next one halves rows and
columns. The latent field lives on scale ``latent_scale``; the U reaches from there down to the last
scale and back. All blocks are residual around a trunk that is linear and starts out as a nearly
orthogonal map: at first the network is a linear autoencoder, which trains fast, and the decoder
stays smooth enough for a quasi-Newton minimisation over w.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaevar.models.nn.blocks import (
    ConvNeXtBlock,
    Downsample,
    LatitudeModulation,
    Recomputed,
    SphereConv2d,
    Upsample,
    WindowAttention,
)


@dataclass(frozen=True)
class VAEShape:
    """Sizes that encoder and decoder share.

    Attributes:
        rows, columns: H and W of the fields.
        groups: channels of each group of fields, one stem and head each, in channel order.
        patch: grid points of a patch on scale 0, each way.
        stem_width: features of each group's stem.
        head_width: features of each group's head, on the fields' own grid.
        widths: features on each scale.
        depths: how many times attention and convolution alternate on each scale.
        heads: attention heads on each scale; 0 for convolutions only.
        window: rows and columns of an attention window.
        expansion: of the pointwise layers in the convolution blocks.
        kernel_size: of the depthwise convolutions.
        latent_scale: the scale of the latent field.
        latent_channels: Cz.

    Raises:
        ValueError: when sizes do not fit each other; the message names them.
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
        """Rows and columns of a scale; an incomplete patch at the south pole counts."""
        rows = -(-self.rows // self.patch)
        for _ in range(scale):
            rows = -(-rows // 2)
        return rows, self.columns // (self.patch * 2**scale)

    @property
    def latent(self) -> tuple[int, int, int]:
        """Shape of the latent field, (Cz, h, w)."""
        return (self.latent_channels, *self.grid_of(self.latent_scale))

    def stage(self, scale: int, shifted: bool = False) -> nn.Sequential:
        """The blocks of one pass over a scale: latitude first, then attention and convolution in turn.

        Every second attention has shifted windows, beginning with the first where ``shifted``.
        """
        width, heads = self.widths[scale], self.heads[scale]
        blocks = nn.Sequential(LatitudeModulation(width, self.grid_of(scale)[0]))
        for block in range(self.depths[scale]):
            if heads:
                window = (self.window, self.window)
                blocks.append(WindowAttention(width, heads, window, shifted=bool(block % 2) != shifted))
            blocks.append(ConvNeXtBlock(width, self.expansion, self.kernel_size))
        return blocks


class UStack(nn.Module):
    """From the latent scale down to the last and back up, with skips: [B, C, h, w] -> the same."""

    def __init__(self, shape: VAEShape, recompute: bool = False) -> None:
        super().__init__()
        self.recomputed = Recomputed(recompute)
        scales = range(shape.latent_scale, len(shape.widths))
        steps = [(fine, shape.widths[fine], shape.widths[fine + 1]) for fine in scales[:-1]]
        self.rows = [shape.grid_of(fine)[0] for fine, _, _ in steps]
        self.descend = nn.ModuleList(shape.stage(fine) for fine, _, _ in steps)
        self.shrink = nn.ModuleList(Downsample(wide, deep) for _, wide, deep in steps)
        self.bottom = shape.stage(scales[-1])
        self.grow = nn.ModuleList(Upsample(deep, wide) for _, wide, deep in steps)
        self.ascend = nn.ModuleList(shape.stage(fine, shifted=True) for fine, _, _ in steps)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for stage, shrink in zip(self.descend, self.shrink, strict=True):
            x = self.recomputed(stage, x)
            skips.append(x)
            x = shrink(x)
        x = self.recomputed(self.bottom, x)
        for step in reversed(range(len(skips))):
            x = self.grow[step](x, self.rows[step]) + skips[step]
            x = self.recomputed(self.ascend[step], x)
        return x


class Encoder(nn.Module):
    """Fields to the mean and log-variance of the latent field.

    [B, C, H, W] normalised -> two of [B, Cz, h, w]. With ``recompute`` what lies between the stages is
    kept for the backward pass, and the rest made again.
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
        # Little noise at the start, so that the mean learns to carry information before the KL
        # term closes the units that are not worth it.
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
    """The latent field to normalised fields: [B, Cz, h, w] -> [B, C, H, W].

    ``recompute`` is the encoder's.
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
