from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from vaevar.models.vae.prior import LatentPrior

SHAPE = (3, 4, 8)


def _codes(count: int = 4000) -> Tensor:
    """Correlated along the circle, between neighbouring rows and between channels; not centred."""
    torch.manual_seed(0)
    white = torch.randn(count, *SHAPE, dtype=torch.float64)
    along = white + 0.8 * white.roll(1, -1)
    rows = along + 0.5 * torch.cat([along[:, :, 1:], torch.zeros_like(along[:, :, :1])], 2)
    return rows + 0.3 * rows.roll(1, 1) + 2.0


def _batches(codes: Tensor, variance: float) -> Iterator[tuple[Tensor, Tensor]]:
    return ((part, torch.full_like(part, variance)) for part in codes.split(256))


def _fitted(reach: float) -> LatentPrior:
    prior = LatentPrior(SHAPE, rank=12, reach_degrees=reach).double()
    prior.fit(_batches(_codes(), 0.1))
    return prior


def test_identity_until_fitted_and_at_rank_0() -> None:
    v = torch.randn(2, *SHAPE)
    torch.testing.assert_close(LatentPrior(SHAPE, 12, 30.0)(v), v)
    published = LatentPrior(SHAPE, 0, 30.0)
    published.fit(_batches(_codes(100), 0.1))
    assert published(v) is v


def test_samples_have_the_mean_and_covariance_of_the_codes() -> None:
    prior, codes = _fitted(reach=1e6), _codes()
    root = torch.func.jacrev(lambda v: prior(v[None])[0].flatten())(torch.zeros(SHAPE, dtype=torch.float64))
    root = root.flatten(1)
    centre = prior(torch.zeros(1, *SHAPE).double())[0]
    torch.testing.assert_close(centre, codes.mean((0, 3))[..., None].expand(SHAPE))
    found = (root @ root.T).reshape(*SHAPE, *SHAPE)
    centred = codes - codes.mean((0, 3))[..., None]
    sampled = torch.einsum("naij,nbkl->aijbkl", centred, centred) / len(codes)
    turned = [sampled.roll((turn, turn), (2, 5)) for turn in range(8)]
    expected = torch.stack(turned).mean(0) + 0.1 * torch.eye(96).reshape(*SHAPE, *SHAPE)
    torch.testing.assert_close(found, expected)


def test_reach_takes_out_remote_rows_and_no_variance() -> None:
    near, far = _fitted(reach=20.0).covariance(), _fitted(reach=1e6).covariance()
    torch.testing.assert_close(near.diagonal(dim1=1, dim2=2), far.diagonal(dim1=1, dim2=2))
    row = torch.arange(12) % 4
    apart = (row[:, None] - row).abs()
    assert near[:, apart == 3].abs().max() < 1e-9
    ratio = near[:, apart == 1].abs() / far[:, apart == 1].abs()
    assert ratio.min() == pytest.approx(float(torch.exp(torch.tensor(-0.5 * (45 / 20) ** 2))), rel=1e-6)


def test_nothing_to_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        LatentPrior(SHAPE, 12, 30.0).fit(iter([]))
