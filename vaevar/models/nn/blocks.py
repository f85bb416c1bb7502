"""Network blocks on the sphere: cyclic in longitude, continued across the poles.

Feature maps are [B, C, H, W] with rows from north to south and an even number of longitudes; H may be odd
(721). The TorchScript exporter can write every block to ONNX. Blocks keep the ``channels_last`` layout of
their input, which is the fast one on a CPU, above all in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


def _half_circle(rows: Tensor) -> Tensor:
    """Rows seen from the other side of the pole: rolled by half a circle, in reverse order."""
    half = rows.shape[-1] // 2
    return torch.cat([rows[..., half:], rows[..., :half]], dim=-1).flip(-2)


def pad_poles(x: Tensor, north: int, south: int) -> Tensor:
    """[B, C, H, W] -> [B, C, north + H + south, W].

    The rows beyond a pole are the rows half a circle away, nearest first. This is for features: wind
    components do not change sign.
    """
    parts = [x]
    if north:
        parts.insert(0, _half_circle(x[..., :north, :]))
    if south:
        parts.append(_half_circle(x[..., -south:, :]))
    return torch.cat(parts, dim=-2) if len(parts) > 1 else x


def pad_sphere(x: Tensor, rows: int, columns: int) -> Tensor:
    """[B, C, H, W] -> [B, C, H + 2 rows, W + 2 columns], cyclic in longitude and across the poles."""
    x = pad_poles(x, rows, rows)
    return torch.cat([x[..., -columns:], x, x[..., :columns]], dim=-1) if columns else x


class Recomputed(nn.Module):
    """Calls a function and recomputes its intermediate results in the backward pass instead of keeping them.

    Activation checkpointing (Chen et al., 2016) saves memory at the cost of one more forward pass. It applies
    only in training mode and with gradients. An analysis runs the decoder in evaluation mode, keeps
    everything and is faster.

    Args:
        active: False: call the function directly.
    """

    def __init__(self, active: bool) -> None:
        super().__init__()
        self.active = active

    def forward(self, function: Callable[..., Tensor], *inputs: object) -> Tensor:
        if not (self.active and self.training and torch.is_grad_enabled()):
            return function(*inputs)
        # The functions use no random numbers, so the state of the generators need not be kept.
        output = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(output, Tensor)
        return output


class SphereConv2d(nn.Conv2d):
    """A convolution on the sphere's grid that keeps the size; W even, kernel odd.

    Raises:
        ValueError: for an even kernel size.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, groups: int = 1, bias: bool = True
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        super().__init__(in_channels, out_channels, kernel_size, groups=groups, bias=bias)
        self.margin = kernel_size // 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_sphere(x, self.margin, self.margin))


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, norm, pointwise expansion, GELU, pointwise reduction, layer scale, residual.

    Liu et al. (2022), on the sphere. [B, C, H, W] -> the same shape.

    Args:
        channels: C.
        expansion: width of the hidden pointwise layer, in multiples of C.
        kernel_size: size of the depthwise convolution.
        layer_scale: initial factor of the residual branch.
        epsilon: added to the variance that the norm divides by.
    """

    def __init__(
        self,
        channels: int,
        expansion: int = 4,
        kernel_size: int = 7,
        layer_scale: float = 0.1,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.spatial = SphereConv2d(channels, channels, kernel_size, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=epsilon)
        self.expand = nn.Linear(channels, expansion * channels)
        self.reduce = nn.Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.spatial(x).permute(0, 2, 3, 1))
        y = self.reduce(functional.gelu(self.expand(y))) * self.scale
        return x + y.permute(0, 3, 1, 2)


class Downsample(nn.Module):
    """Turns patches of ``factor`` × ``factor`` points into one point: [B, C, H, W] -> [B, C', ⌈H/f⌉, W/f].

    Rows beyond the south pole complete the last patch when H is no multiple of the factor.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.patch = nn.Conv2d(in_channels, out_channels, factor, stride=factor)

    def forward(self, x: Tensor) -> Tensor:
        return self.patch(pad_poles(x, 0, -x.shape[-2] % self.factor))


class Upsample(nn.Module):
    """Turns each point into ``factor`` × ``factor`` points (sub-pixel): [B, C, H, W] -> [B, C', f H, f W].

    ``forward`` crops the result to ``rows`` if given, which removes the rows that :class:`Downsample` added.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.expand = nn.Conv2d(in_channels, out_channels * factor**2, 1)

    def forward(self, x: Tensor, rows: int | None = None) -> Tensor:
        x = functional.pixel_shuffle(self.expand(x), self.factor)
        return x if rows is None else x[..., :rows, :]


class LatitudeModulation(nn.Module):
    """x · (1 + a(φ)) + b(φ), with a and b for each feature: [B, C, H, W] -> the same shape.

    The other blocks act alike at all latitudes, but weather does not: errors are larger in the storm tracks,
    and wind turns the other way round a low in the other hemisphere. a and b are Legendre series in sin φ, so
    the number of weights does not depend on the grid. a starts with random odd and even terms, so that
    features differ between the hemispheres from the first step.

    Args:
        channels: C.
        rows: H, equally spaced in latitude.
        degree: degree of the series.
        gain: std of a at the start.
    """

    basis: Tensor

    def __init__(self, channels: int, rows: int, degree: int = 8, gain: float = 0.3) -> None:
        super().__init__()
        latitude = np.pi * (0.5 - (np.arange(rows) + 0.5) / rows)
        basis = np.polynomial.legendre.legvander(np.sin(latitude), degree)  # [H, degree + 1]
        self.register_buffer("basis", torch.tensor(basis, dtype=torch.float32), persistent=False)
        spread = gain / float(np.sqrt(np.square(basis).sum(-1).mean()))
        self.gain = nn.Parameter(spread * torch.randn(degree + 1, channels))
        self.offset = nn.Parameter(torch.zeros(degree + 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        gain = (1 + self.basis @ self.gain).T[:, :, None].to(x.dtype)
        offset = (self.basis @ self.offset).T[:, :, None].to(x.dtype)
        return x * gain + offset


class WindowAttention(nn.Module):
    """Self-attention within windows of latitude × longitude, residual: [B, C, H, W] -> the same shape.

    As in Swin transformers (Liu et al., 2021), with relative position bias and shifted windows in every
    second block. The sphere needs no mask: in longitude the shift is a roll, and in latitude windows reach
    across the poles to the rows on the other side.

    Args:
        channels: C, a multiple of ``heads``.
        heads: number of attention heads.
        window: rows and columns of a window. W must be a multiple of the columns; H may be any number.
        shifted: shift the windows by half a window.
        layer_scale: initial factor of the residual branch.

    Raises:
        ValueError: when ``channels`` is no multiple of ``heads``.
    """

    position_index: Tensor

    def __init__(
        self, channels: int, heads: int, window: tuple[int, int], shifted: bool, layer_scale: float = 0.1
    ) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"channels ({channels}) must be a multiple of heads ({heads})")
        self.heads, self.window = heads, window
        self.shift = (window[0] // 2, window[1] // 2) if shifted else (0, 0)
        self.norm = nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), layer_scale))
        height, width = window
        self.position_bias = nn.Parameter(torch.zeros(heads, (2 * height - 1) * (2 * width - 1)))
        row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        row, column = row.flatten(), column.flatten()
        rows_apart = row[:, None] - row[None] + height - 1
        columns_apart = column[:, None] - column[None] + width - 1
        index = rows_apart * (2 * width - 1) + columns_apart
        self.register_buffer("position_index", index.flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, rows, columns = x.shape
        (height, width), (north, west), heads = self.window, self.shift, self.heads
        y = pad_poles(x, north, -(rows + north) % height).permute(0, 2, 3, 1)
        if west:
            y = torch.cat([y[:, :, west:], y[:, :, :west]], dim=2)
        padded_rows, size = y.shape[1], height * width
        y = self.query_key_value(self.norm(y))
        y = y.reshape(
            batch, padded_rows // height, height, columns // width, width, 3, heads, channels // heads
        )
        y = y.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, -1, heads, size, channels // heads)
        query, key, value = y.unbind(0)
        bias = self.position_bias[:, self.position_index].reshape(1, heads, size, size)
        y = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        y = y.reshape(batch, padded_rows // height, columns // width, heads, height, width, channels // heads)
        y = y.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, padded_rows, columns, channels)
        if west:
            y = torch.cat([y[:, :, -west:], y[:, :, :-west]], dim=2)
        y = self.project(y[:, north : north + rows]) * self.scale
        return x + y.permute(0, 3, 1, 2)


def alternating_blocks(
    channels: int, depth: int, heads: int, window: int, kernel_size: int, expansion: int, shifted: bool
) -> list[nn.Module]:
    """``depth`` pairs of attention and convolution; with 0 ``heads``, convolutions only.

    Every second attention block has shifted windows, starting with the first if ``shifted``.
    """
    blocks: list[nn.Module] = []
    for number in range(depth):
        if heads:
            shift = bool(number % 2) != shifted
            blocks.append(WindowAttention(channels, heads, (window, window), shift))
        blocks.append(ConvNeXtBlock(channels, expansion, kernel_size))
    return blocks
