from __future__ import annotations

import pytest
import torch

from vaevar.assim.control.augmented import AugmentedControl
from vaevar.assim.control.base import ControlTransform, LinearControl
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SPEC, GRID = StateSpec(surface=["u10", "t2m"], upper=[], levels=[]), Grid.gaussian(4)


def _linear(columns: int, grid: Grid = GRID) -> LinearControl:
    size = 2 * grid.shape[0] * grid.shape[1]
    return LinearControl(torch.randn(size, columns, dtype=torch.float64), SPEC, grid)


def test_covariances_add_up_with_their_weights() -> None:
    first, second = _linear(3), _linear(5)
    control = AugmentedControl([first, second], weights=[1.0, 4.0])
    assert control.shape == (8,)
    u = torch.func.jacrev(lambda w: control(w).flatten())(torch.zeros(8, dtype=torch.float64))
    expected = first.matrix @ first.matrix.T + second.matrix @ second.matrix.T / 4.0
    torch.testing.assert_close(u @ u.T, expected)


@pytest.mark.parametrize(
    ("parts", "weights"),
    [
        ([], None),
        ([_linear(3)], [1.0, 2.0]),
        ([_linear(3)], [0.0]),
        ([_linear(3), _linear(3, Grid.gaussian(6))], None),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    parts: list[ControlTransform], weights: list[float] | None
) -> None:
    with pytest.raises(UserError, match="AugmentedControl"):
        AugmentedControl(parts, weights)
