"""The network of the denoiser: a U-Net on the sphere, given the forecast and the noise level.

It is built from the VAE's blocks and about as large. It estimates the clean residual,

    r̂ = h(x_t, c, t) + √ᾱ_t g(t) x_t,

where h is the U-Net and 0 < g < 1 is learned for each channel. With little noise, x_t itself is most of the
answer, and the U-Net, whose patches cannot carry white noise on 69 channels, need not copy it. Predicting r
is equivalent to predicting the noise, ε̂ = (x_t − √ᾱ_t r̂)/√(1 − ᾱ_t), but the network never has to output
white noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaevar.models.nn.blocks import (
    Downsample,
    LatitudeModulation,
    SphereConv2d,
    Upsample,
    alternating_blocks,
)
from vaevar.models.nn.unet import UNet, scale_grid


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
    """One pass over a scale, its features scaled and shifted by the noise level (FiLM).

    Perez et al. (2018): x · (1 + a(t)) + b(t), with a and b for each feature, zero at the start.
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
        blocks = alternating_blocks(width, depth, heads, window, kernel_size, 4, shifted)
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        gain, offset = self.film(embedded)[:, :, None, None].chunk(2, 1)
        return self.blocks(self.latitude(x) * (1 + gain) + offset)


class DenoiserNetwork(UNet):
    """From the noised residual, the forecast and the noise level to the clean residual.

    Args:
        channels: C of the residual and of the forecast.
        rows, columns: H and W.
        widths, depths, heads: for each scale, the finest first, as in :class:`vaevar.models.vae.vae.VAE`.
        window: rows and columns of an attention window.
        kernel_size: size of the depthwise convolutions.
        patch: grid points of a patch on the finest scale, each way.
        head_width: features at the grid points, before the last convolution.
        embedding: width of the noise embedding.

    Raises:
        ValueError: when the sizes do not fit together.
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
        grids = [scale_grid(rows, columns, patch, scale) for scale in scales]
        if columns % (2 * patch * 2 ** scales[-1]):
            raise ValueError(f"{columns} longitudes do not divide into patches on {len(widths)} scales")
        for width, head, (height, breadth) in zip(widths, heads, grids, strict=True):
            if head and (width % head or breadth % window or height < window):
                raise ValueError(
                    f"{width} features, {head} heads and windows of {window} do not fit {height} × {breadth}"
                )

        def stage(scale: int, upward: bool) -> Stage:
            return Stage(
                widths[scale], grids[scale][0], depths[scale], heads[scale], window, kernel_size, embedding,
                shifted=upward,
            )  # fmt: skip

        self.embed = NoiseEmbedding(embedding)
        self.stem = Downsample(2 * channels, widths[0], patch)
        self.add_scales(widths, stage)
        self.head = Upsample(widths[0], head_width, patch)
        self.finish = SphereConv2d(head_width, channels, 3)
        self.copied = nn.Linear(embedding, channels)
        nn.init.zeros_(self.finish.weight)
        nn.init.zeros_(self.copied.weight)

    def forward(self, noised: Tensor, forecast: Tensor, signal: Tensor) -> Tensor:
        """Estimate the clean residual r̂.

        Args:
            noised: [B, C, H, W], x_t in units of the residual's std.
            forecast: [B, C, H, W], normalised.
            signal: [B], ᾱ_t.

        Returns:
            [B, C, H, W], in units of the residual's std.
        """
        embedded = self.embed(signal.float())
        x = torch.cat([noised, forecast], 1).contiguous(memory_format=torch.channels_last)
        x = self.through_scales(self.stem(x), embedded)
        x = self.finish(functional.gelu(self.head(x, noised.shape[-2])))
        copied = self.copied(embedded).sigmoid() * signal.float().sqrt()[:, None]
        return x + copied[:, :, None, None] * noised
