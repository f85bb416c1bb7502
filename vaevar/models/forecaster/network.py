"""The network of the learned forecaster: a ConvNeXt U-Net on the sphere."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaevar.models.forecaster.resolved_scales import ResolvedScales
from vaevar.models.nn.blocks import ConvNeXtBlock, Downsample, Upsample
from vaevar.models.nn.unet import Stage, UNet


class ForecastNetwork(UNet):
    """A ConvNeXt U-Net on the sphere, normalised states to normalised states.

    Input [B, 2C, H, W]: the states at t − 6 h and t, normalised. Output [B, 2C, H, W]: the state at t + 6 h,
    then the log-variance of its error, like FengWu's 138 outputs. The log-variance is one constant per
    channel, estimated from the training errors.

    Args:
        channels: C.
        rows, columns: H and W, for the learned map of the ground (orography, coasts, latitude).
        widths: features on each scale, the finest first; each scale halves H and W.
        depths: blocks on each scale, on the way down and again on the way up.
        kernel_size: size of the depthwise convolutions.
        patch: grid points of a patch on the finest scale, each way. A T31 spectral model on 48 × 96 points
            has no more degrees of freedom than 24 × 48 points.
        resolved: limits the forecast to the scales that the data resolve. None: no limit.

    Raises:
        ValueError: when the sizes do not fit together.
    """

    change_std: Tensor
    log_variance: Tensor

    def __init__(
        self,
        channels: int,
        rows: int,
        columns: int,
        widths: Sequence[int],
        depths: Sequence[int],
        kernel_size: int = 5,
        patch: int = 2,
        resolved: ResolvedScales | None = None,
    ) -> None:
        super().__init__()
        if not len(widths) == len(depths) > 0:
            raise ValueError(
                f"widths {list(widths)} and depths {list(depths)} differ in length, or are empty"
            )
        if columns % (patch * 2 ** (len(widths) - 1)):
            raise ValueError(
                f"{columns} longitudes are no multiple of patch × 2^(scales − 1) = "
                f"{patch * 2 ** (len(widths) - 1)}"
            )
        self.channels, self.resolved = channels, resolved
        self.register_buffer("change_std", torch.ones(channels, 1, 1))
        self.register_buffer("log_variance", torch.zeros(channels, 1, 1))
        self.stem = Downsample(2 * channels, widths[0], patch)
        self.ground = nn.Parameter(torch.zeros(widths[0], -(-rows // patch), columns // patch))

        def stage(scale: int, upward: bool) -> nn.Sequential:
            blocks = [ConvNeXtBlock(widths[scale], kernel_size=kernel_size) for _ in range(depths[scale])]
            return nn.Sequential(*blocks)

        self.add_scales(widths, stage)
        self.head = Upsample(widths[0], channels, patch)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def add_scales(self, widths: Sequence[int], stage: Stage) -> None:
        """The layers of the U, and those that merge the skips, under the names that ONNX files use."""
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(stage(scale, False) for scale in range(len(widths)))
        self.shrink = nn.ModuleList(Downsample(fine, coarse) for fine, coarse in pairs)
        self.grow = nn.ModuleList(Upsample(coarse, fine) for fine, coarse in pairs)
        self.merge = nn.ModuleList(nn.Conv2d(2 * fine, fine, 1) for fine, _ in pairs)
        self.up = nn.ModuleList(stage(scale, True) for scale in range(len(pairs)))

    def stages(self) -> tuple[list[nn.Module], list[nn.Module]]:
        return [*self.down], [*self.up]

    def join(self, scale: int, x: Tensor, skip: Tensor) -> Tensor:
        return self.merge[scale](torch.cat([x, skip], 1))

    def change(self, states: Tensor) -> Tensor:
        """The 6 h change after the states [B, 2C, H, W], in units of its std, [B, C, H, W]."""
        # Full precision under autocast too: bfloat16 keeps 8 bits and would round away most of the
        # difference between two states 6 hours apart.
        with torch.autocast(states.device.type, enabled=False):
            x = self.stem(states.float()) + self.ground
        return self.head(self.through_scales(x), states.shape[-2])

    def next_state(self, states: Tensor, change: Tensor) -> Tensor:
        """The next state [B, C, H, W], from the two states [B, 2C, H, W] and the network's change."""
        current = states[:, self.channels :]
        forecast = current + self.change_std * change
        return forecast if self.resolved is None else self.resolved(forecast, current)

    def forward(self, states: Tensor) -> Tensor:
        following = self.next_state(states, self.change(states))
        variance = torch.zeros_like(following) + self.log_variance
        return torch.cat([following, variance], 1)
