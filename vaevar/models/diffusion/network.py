"""The network of the denoiser: a U on the sphere that knows the forecast and the noise level.

Of a size with the VAE's networks and made of the same blocks. It estimates the clean residual,

    r̂ = h(x_t, c, t) + √ᾱ_t g(t) x_t,

where h comes from the U and 0 < g < 1 is learned by channel: where there is little noise, x_t itself is
the better part of the answer, and the U, whose patches cannot carry white noise on 69 channels, need
not copy it. Predicting r is predicting the noise, ε̂ = (x_t − √ᾱ_t r̂)/√(1 − ᾱ_t), without asking the
network for the white noise itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaevar.models.nn.blocks import (
    ConvNeXtBlock,
    Downsample,
    LatitudeModulation,
    SphereConv2d,
    Upsample,
    WindowAttention,
)


class NoiseEmbedding(nn.Module):
    """Sines and cosines of log √((1 − ᾱ)/ᾱ), then two layers: [B] -> [B, width]."""

    frequency: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        frequency = torch.exp(torch.linspace(math.log(0.25), math.log(8.0), 16))
        self.register_buffer("frequency", frequency, persistent=False)
        self.layers = nn.Sequential(nn.Linear(33, width), nn.GELU(), nn.Linear(width, width), nn.GELU())

    def forward(self, signal: Tensor) -> Tensor:
        level = 0.5 * torch.log((1 - signal).clamp_min(1e-6) / signal.clamp_min(1e-6))
        angle = level[:, None] * self.frequency
        return self.layers(torch.cat([level[:, None] / 4, angle.sin(), angle.cos()], 1))


class Stage(nn.Module):
    """Blocks of one pass over a scale; each scaled and shifted by the noise level (FiLM).

    Perez et al. (2018): x · (1 + a(t)) + b(t), by feature, zero at the start.
    """

    def __init__(
        self, width: int, rows: int, depth: int, heads: int, window: int, kernel_size: int, embedding: int,
        shifted: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.latitude = LatitudeModulation(width, rows)
        self.film = nn.Linear(embedding, 2 * width)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        self.blocks = nn.Sequential()
        for block in range(depth):
            if heads:
                turn = bool(block % 2) != shifted
                self.blocks.append(WindowAttention(width, heads, (window, window), shifted=turn))
            self.blocks.append(ConvNeXtBlock(width, kernel_size=kernel_size))

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        gain, offset = self.film(embedded)[:, :, None, None].chunk(2, 1)
        return self.blocks(self.latitude(x) * (1 + gain) + offset)


class DenoiserNetwork(nn.Module):
    """Noised residual, forecast and noise level to the clean residual.

    Args:
        channels: C of the residual and of the forecast.
        rows, columns: H and W.
        widths, depths, heads: on each scale, the finest first, as in :class:`vaevar.models.vae.vae.VAE`.
        window: rows and columns of an attention window.
        kernel_size: of the depthwise convolutions.
        patch: grid points of a patch on the finest scale, each way.
        head_width: features on the grid's own points before the last convolution.
        embedding: width of the noise embedding.

    Raises:
        ValueError: when sizes do not fit each other.
    """

    def __init__(
        self,
        channels: int,
        rows: int,
        columns: int,
        widths: Sequence[int],
        depths: Sequence[int],
        heads: Sequence[int],
        window: int = 6,
        kernel_size: int = 3,
        patch: int = 2,
        head_width: int = 32,
        embedding: int = 128,
    ) -> None:
        super().__init__()
        scales = range(len(widths))
        if not len(widths) == len(depths) == len(heads) > 0:
            raise ValueError(f"widths {widths}, depths {depths} and heads {heads} must be of one length")
        sizes = [(-(-rows // patch), columns // patch)]
        for _ in scales[1:]:
            sizes.append((-(-sizes[-1][0] // 2), sizes[-1][1] // 2))
        if columns % (2 * patch * 2 ** scales[-1]):
            raise ValueError(f"{columns} longitudes do not divide into patches on {len(widths)} scales")
        for width, head, (high, wide) in zip(widths, heads, sizes, strict=True):
            if head and (width % head or wide % window or high < window):
                raise ValueError(
                    f"{width} features, {head} heads and windows of {window} do not fit {high} × {wide}"
                )

        def stage(scale: int, shifted: bool = False) -> Stage:
            return Stage(
                widths[scale], sizes[scale][0], depths[scale], heads[scale], window, kernel_size, embedding,
                shifted,
            )  # fmt: skip

        self.rows = [rows, *(high for high, _ in sizes)]
        self.embed = NoiseEmbedding(embedding)
        self.stem = Downsample(2 * channels, widths[0], patch)
        self.descend = nn.ModuleList(stage(scale) for scale in scales[:-1])
        self.shrink = nn.ModuleList(Downsample(widths[s], widths[s + 1]) for s in scales[:-1])
        self.bottom = stage(scales[-1])
        self.grow = nn.ModuleList(Upsample(widths[s + 1], widths[s]) for s in scales[:-1])
        self.ascend = nn.ModuleList(stage(scale, shifted=True) for scale in scales[:-1])
        self.head = Upsample(widths[0], head_width, patch)
        self.finish = SphereConv2d(head_width, channels, 3)
        self.copied = nn.Linear(embedding, channels)
        nn.init.zeros_(self.finish.weight)
        nn.init.zeros_(self.copied.weight)

    def forward(self, noised: Tensor, forecast: Tensor, signal: Tensor) -> Tensor:
        """r̂.

        Args:
            noised: [B, C, H, W], x_t in units of the residual's std.
            forecast: [B, C, H, W], normalised.
            signal: [B], ᾱ_t.

        Returns:
            [B, C, H, W], in units of the residual's std.
        """
        embedded = self.embed(signal.float())
        x = torch.cat([noised, forecast], 1).contiguous(memory_format=torch.channels_last)
        x = self.stem(x)
        skips = []
        for stage, shrink in zip(self.descend, self.shrink, strict=True):
            x = stage(x, embedded)
            skips.append(x)
            x = shrink(x)
        x = self.bottom(x, embedded)
        for scale in reversed(range(len(skips))):
            x = self.ascend[scale](self.grow[scale](x, self.rows[scale + 1]) + skips[scale], embedded)
        x = self.finish(functional.gelu(self.head(x, self.rows[0])))
        copied = self.copied(embedded).sigmoid() * signal.float().sqrt()[:, None]
        return x + copied[:, :, None, None] * noised
