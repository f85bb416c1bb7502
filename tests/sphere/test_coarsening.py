"""Coarsening preserves means, constants and smooth fields; a few cells are checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vaevar.sphere.coarsening import Coarsening
from vaevar.sphere.grid import Grid


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (Grid.equiangular(33), Grid.cells(8)),
        (Grid.equiangular(721), Grid.cells(128)),
        (Grid.equiangular(41), Grid.equiangular(9)),
        (Grid.gaussian(48), Grid.cells(16)),
        (Grid.cells(24), Grid.gaussian(12)),
    ],
    ids=str,
)
def test_means_over_the_sphere_are_kept(source, target):
    coarsen = Coarsening(source, target)
    field = torch.randn(2, *source.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    coarse = coarsen(field)
    assert coarse.shape == (2, *target.shape)
    assert coarse.dtype == torch.float64
    torch.testing.assert_close(target.area_mean(coarse), source.area_mean(field), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(coarsen(torch.ones(source.shape)), torch.ones(target.shape))


def test_cells_by_hand():
    # 4 × 8 cells to 2 × 4: pairs of rows by area; in longitude one fine cell and two halves.
    source, target = Grid.cells(4), Grid.cells(2)
    field = torch.arange(32.0, dtype=torch.float64).reshape(4, 8)
    high, low = 1 - np.sqrt(0.5), np.sqrt(0.5)  # areas of the bands 90 to 45 and 45 to 0
    north = high * field[0] + low * field[1]
    expected = 0.25 * north[1] + 0.5 * north[2] + 0.25 * north[3]
    assert Coarsening(source, target)(field)[0, 1].item() == pytest.approx(expected.item(), rel=1e-6)
    # The first cell lies across longitude 0.
    first = 0.25 * north[7] + 0.5 * north[0] + 0.25 * north[1]
    assert Coarsening(source, target)(field)[0, 0].item() == pytest.approx(first.item(), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(20, 60), coarse=st.integers(4, 10), columns=st.integers(24, 80), fewer=st.integers(4, 12)
)
def test_every_row_of_the_matrices_is_a_mean(rows, coarse, columns, fewer):
    coarsen = Coarsening(Grid.cells(rows, columns), Grid.cells(coarse, fewer))
    for matrix in (coarsen.rows, coarsen.columns):
        assert (matrix >= 0).all()
        torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix)))


def test_what_is_no_coarsening():
    with pytest.raises(ValueError, match="is finer than"):
        Coarsening(Grid.cells(8), Grid.cells(16))
    with pytest.raises(ValueError, match="expected it on"):
        Coarsening(Grid.cells(8), Grid.cells(4))(torch.zeros(9, 16))
