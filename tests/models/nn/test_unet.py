"""The U-Net that all networks share, against the same pass written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vaevar.models.nn.unet import UNet, scale_grid


class Scaled(nn.Module):
    """A stage with an input of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        return self.mix(x).tanh() * factor


class Plain(UNet):
    def __init__(self, recompute: bool = False) -> None:
        super().__init__(recompute)
        widths = (3, 4, 6)
        self.calls: list[tuple[int, bool]] = []

        def stage(scale: int, upward: bool) -> Scaled:
            self.calls.append((scale, upward))
            return Scaled(widths[scale])

        self.add_scales(widths, stage)


@pytest.fixture
def net() -> Plain:
    torch.manual_seed(0)
    return Plain()


def test_down_and_up_with_skips(net: Plain) -> None:
    x, factor = torch.randn(2, 3, 7, 8), torch.tensor(0.7)
    fine = net.descend[0](x, factor)
    middle = net.descend[1](net.shrink[0](fine), factor)
    coarse = net.bottom(net.shrink[1](middle), factor)
    assert [tuple(y.shape[1:]) for y in (fine, middle, coarse)] == [(3, 7, 8), (4, 4, 4), (6, 2, 2)]
    up = net.ascend[1](net.grow[1](coarse, 4) + middle, factor)
    expected = net.ascend[0](net.grow[0](up, 7) + fine, factor)
    assert torch.equal(net.through_scales(x, factor), expected)
    assert net.calls == [(0, False), (1, False), (2, False), (0, True), (1, True)]


def test_recomputed_activations_give_the_same_gradients(net: Plain) -> None:
    x, factor = torch.randn(2, 3, 7, 8), torch.tensor(0.7)
    torch.manual_seed(0)
    other = Plain(recompute=True).train()
    for one in (net, other):
        one.through_scales(x, factor).square().sum().backward()
    for kept, recomputed in zip(net.parameters(), other.parameters(), strict=True):
        assert kept.grad is not None
        assert torch.equal(kept.grad, recomputed.grad)


@pytest.mark.parametrize(
    ("scale", "expected"), [(0, (361, 720)), (1, (181, 360)), (2, (91, 180)), (3, (46, 90))]
)
def test_grids_of_the_scales(scale: int, expected: tuple[int, int]) -> None:
    assert scale_grid(721, 1440, 2, scale) == expected
