"""The U-Net that all networks here share.

A stage is one pass over a scale, such as attention and convolution blocks. Each next scale halves the rows
and columns, and on each scale a skip connects the way down with the way up. Networks bring their own stages,
stems and heads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from vaevar.models.nn.blocks import Downsample, Recomputed, Upsample

Stage = Callable[[int, bool], nn.Module]


def scale_grid(rows: int, columns: int, patch: int, scale: int) -> tuple[int, int]:
    """Rows and columns of a scale; an incomplete patch at the south pole counts.

    Args:
        rows, columns: of the fields.
        patch: grid points of a patch on scale 0, each way.
        scale: 0 for the finest.
    """
    rows = -(-rows // patch)
    for _ in range(scale):
        rows = -(-rows // 2)
    return rows, columns // (patch * 2**scale)


class UNet(nn.Module):
    """The base of networks that contain a U.

    A subclass calls :meth:`add_scales` between building its stem and its head, so that parameters are
    initialised and stored in the order of the layers.

    Args:
        recompute: recompute the activations of stages in the backward pass
            (:class:`vaevar.models.nn.blocks.Recomputed`).
    """

    def __init__(self, recompute: bool = False) -> None:
        super().__init__()
        self.recomputed = Recomputed(recompute)

    def add_scales(self, widths: Sequence[int], stage: Stage) -> None:
        """Build the layers of the U.

        Args:
            widths: features on each scale, the finest first.
            stage: ``stage(scale, upward)`` makes the stage of a scale on the way down or up.
        """
        finer, pairs = range(len(widths) - 1), list(itertools.pairwise(widths))
        self.descend = nn.ModuleList(stage(scale, False) for scale in finer)
        self.shrink = nn.ModuleList(Downsample(fine, coarse) for fine, coarse in pairs)
        self.bottom = stage(len(widths) - 1, False)
        self.grow = nn.ModuleList(Upsample(coarse, fine) for fine, coarse in pairs)
        self.ascend = nn.ModuleList(stage(scale, True) for scale in finer)

    def stages(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """The stages on the way down, including the coarsest scale, and on the way up; both finest first."""
        return [*self.descend, self.bottom], [*self.ascend]

    def join(self, scale: int, x: Tensor, skip: Tensor) -> Tensor:
        """Combine features from the coarser scale with the skip of this scale, [B, C, h, w] each."""
        return x + skip

    def through_scales(self, x: Tensor, *inputs: Tensor) -> Tensor:
        """[B, widths[0], h, w] -> the same.

        Args:
            x: features on the finest scale.
            inputs: further inputs of every stage, such as the embedding of a noise level.
        """
        (*down, bottom), up = self.stages()
        skips = []
        for stage, shrink in zip(down, self.shrink, strict=True):
            x = self.recomputed(stage, x, *inputs)
            skips.append(x)
            x = shrink(x)
        x = self.recomputed(bottom, x, *inputs)
        for scale in reversed(range(len(skips))):
            skip = skips[scale]
            x = self.join(scale, self.grow[scale](x, skip.shape[-2]), skip)
            x = self.recomputed(up[scale], x, *inputs)
        return x
