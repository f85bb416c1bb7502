from __future__ import annotations

import pytest
import torch

from vaevar.assim.control.base import LinearControl
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SPEC, GRID = StateSpec(["u10", "t2m"], [], []), Grid.gaussian(4)  # 2 · 4 · 8 values


def test_an_explicit_matrix_has_a_row_for_each_value() -> None:
    matrix = torch.randn(64, 3, dtype=torch.float64)
    control = LinearControl(matrix, SPEC, GRID)
    assert control.shape == (3,)
    w = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(control(w), (matrix @ w).reshape(2, 4, 8))
    assert control(w.float()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(63, 3), (3, 64), (64,), (64, 3, 1)])
def test_another_matrix_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(64, N\)"):
        LinearControl(torch.zeros(shape), SPEC, GRID)
