"""Networks of the conditional VAE: what a background says of its own error, and how the decoder uses it.

Fields here are the n standardised control variables of 3DVar (:mod:`vaevar.models.balance`) on their grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaevar.models.blocks import (
    ConvNeXtBlock,
    Downsample,
    LatitudeModulation,
    SphereConv2d,
    Upsample,
    pad_sphere,
)
from vaevar.sphere import Grid, SphericalHarmonics

Heads = tuple[Tensor, Tensor, list[Tensor]]


class Geography(nn.Module):
    """Learned smooth maps: [] -> [maps, H, W]; where storms, land and mountains are, as far as it matters.

    Args:
        grid: of the maps.
        maps: how many.
        lmax: their truncation.
    """

    def __init__(self, grid: Grid, maps: int, lmax: int) -> None:
        super().__init__()
        self.harmonics = SphericalHarmonics(grid, lmax)
        self.weight = nn.Parameter(0.1 * torch.randn(maps, lmax + 1, lmax + 1, 2))

    def forward(self) -> Tensor:
        return self.harmonics.synthesise(torch.view_as_complex(self.weight))


class ContextNetwork(nn.Module):
    """A U on the sphere from a background and its coverage to smooth features, on the fields' own grid.

    Args:
        channels: of the normalised background, plus the maps of coverage.
        grid: H × W of the background.
        widths: features on each scale; scale 0 has patches of 2 × 2 points, each next one half the rows.
        depth: blocks of one pass over a scale.
        maps, lmax: of :class:`Geography`.
        dropout: of whole features, before the last scale's way back; 0 for none.
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
        rows = [-(-grid.shape[0] // 2)]
        for _ in widths[1:]:
            rows.append(-(-rows[-1] // 2))
        self.rows, self.shape = rows, grid.shape
        self.geography = Geography(grid, maps, lmax)

        def stage(scale: int) -> nn.Sequential:
            blocks = [ConvNeXtBlock(widths[scale], kernel_size=5) for _ in range(depth)]
            return nn.Sequential(LatitudeModulation(widths[scale], rows[scale]), *blocks)

        steps = list(itertools.pairwise(widths))
        self.stem = Downsample(channels + maps, widths[0], 2)
        self.descend = nn.ModuleList(stage(scale) for scale in range(len(widths) - 1))
        self.shrink = nn.ModuleList(Downsample(fine, coarse) for fine, coarse in steps)
        self.bottom = stage(len(widths) - 1)
        self.dropout = nn.Dropout2d(dropout)
        self.grow = nn.ModuleList(Upsample(coarse, fine) for fine, coarse in steps)
        self.ascend = nn.ModuleList(stage(scale) for scale in range(len(widths) - 1))
        self.norm = nn.LayerNorm(widths[0])

    def forward(self, background: Tensor, coverage: Tensor) -> Tensor:
        """[B, C, H, W] normalised and [B, K, H, W] -> [B, widths[0], H, W]."""
        maps = self.geography().expand(len(background), -1, -1, -1).to(background)
        x = torch.cat([background, coverage.to(background), maps], 1)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        skips = []
        for stage, shrink in zip(self.descend, self.shrink, strict=True):
            x = stage(x)
            skips.append(x)
            x = shrink(x)
        x = self.dropout(self.bottom(x))
        for scale in reversed(range(len(skips))):
            x = self.ascend[scale](self.grow[scale](x, self.rows[scale]) + skips[scale])
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return _doubled(x)[..., : self.shape[0], :]


def _doubled(x: Tensor) -> Tensor:
    """Twice the rows and columns, bilinear on the sphere: what depends on the weather is to be smooth."""
    larger = functional.interpolate(pad_sphere(x, 1, 1), scale_factor=2, mode="bilinear", align_corners=False)
    return larger[..., 2:-2, 2:-2]


class Coupling(nn.Module):
    """y_b ← y_b + O (g(c) ⊙ K I y_a): adds to some variables what others, and the context, say of them.

    y_a are the variables of a mask and y_b the rest. I and O mix variables at a point, K is a depthwise
    convolution, and g gates K's features with the context. It is linear in y, can be undone exactly, and
    keeps volumes (Dinh et al., "NICE", 2015). O is zero at the start.

    Args:
        mask: [n] bool, y_a.
        features: between I and O.
    """

    source: Tensor
    target: Tensor

    def __init__(self, mask: Tensor, features: int) -> None:
        super().__init__()
        self.register_buffer("source", mask.nonzero().flatten(), persistent=False)
        self.register_buffer("target", (~mask).nonzero().flatten(), persistent=False)
        self.enter = nn.Conv2d(int(mask.sum()), features, 1, bias=False)
        self.spread = SphereConv2d(features, features, 3, groups=features, bias=False)
        self.leave = nn.Conv2d(features, int((~mask).sum()), 1, bias=False)
        nn.init.zeros_(self.leave.weight)

    def forward(self, y: Tensor, gate: Tensor) -> Tensor:
        """What is added to y [B, n, H, W], with gates [B or 1, features, H, W]."""
        added = self.leave(gate * self.spread(self.enter(y.index_select(1, self.source))))
        return torch.zeros_like(y).index_copy(1, self.target, added)


class Modulation(nn.Module):
    """x = m(c) + e^{s(c)} ⊙ (a chain of couplings of y): from homogeneous fields to those of the day.

    Args:
        names: of the n variables, ``psi500`` and so on; they decide the couplings' masks.
        context: features of the context.
        features: of a coupling.
        pairs: of couplings; each pair has a mask and its complement.
        largest: |s| stays below it.
    """

    def __init__(
        self, names: Sequence[str], context: int, features: int, pairs: int, largest: float = 2.0
    ) -> None:
        super().__init__()
        self.largest = largest
        winds = torch.tensor([name.startswith(("psi", "chi")) for name in names])
        alternate = torch.arange(len(names)) % 2 == 0
        masks = [winds if pair % 2 == 0 else alternate for pair in range(pairs)]
        usable = [mask for mask in masks if 0 < int(mask.sum()) < len(names)]
        self.couplings = nn.ModuleList(Coupling(half, features) for mask in usable for half in (mask, ~mask))
        self.gates = nn.ModuleList(nn.Conv2d(context, features, 1) for _ in self.couplings)
        self.log_scale = nn.Conv2d(context, len(names), 1)
        self.mean = nn.Conv2d(context, len(names), 1)
        for head in (self.log_scale, self.mean):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def heads(self, context: Tensor) -> Heads:
        """s and m, [B, n, H, W] each, and the couplings' gates, of a context [B, F, H, W]."""
        scale = self.largest * torch.tanh(self.log_scale(context) / self.largest)
        return scale, self.mean(context), [gate(context) for gate in self.gates]

    def forward(self, y: Tensor, heads: Heads) -> Tensor:
        """y [B, n, H, W] -> x."""
        scale, mean, gates = heads
        for coupling, gate in zip(self.couplings, gates, strict=True):
            y = y + coupling(y, gate)
        return mean + scale.exp() * y

    def inverse(self, x: Tensor, heads: Heads) -> Tensor:
        """x [B, n, H, W] -> y, exactly."""
        scale, mean, gates = heads
        y = (x - mean) * (-scale).exp()
        for coupling, gate in reversed(list(zip(self.couplings, gates, strict=True))):
            y = y - coupling(y, gate)
        return y
