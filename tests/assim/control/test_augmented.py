from __future__ import annotations

import pytest
import torch

from vaevar.assim.context import AnalysisContext
from vaevar.assim.control.augmented import AugmentedControl
from vaevar.assim.control.base import ControlTransform, LinearControl
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

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
        ([_linear(3), _linear(3)], [1.0]),
        ([_linear(3)], []),
        ([_linear(3)], [0.0]),
        ([_linear(3)], [-1.0]),
        ([_linear(3), _linear(3, Grid.gaussian(6))], None),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    parts: list[ControlTransform], weights: list[float] | None
) -> None:
    with pytest.raises(UserError, match="AugmentedControl"):
        AugmentedControl(parts, weights)


def test_each_part_is_that_of_the_day() -> None:
    """A part that depends on the day is asked for it, and weights stay with their parts."""

    class Daily(LinearControl):
        def for_analysis(self, background: State, context: AnalysisContext) -> ControlTransform:
            return LinearControl(self.matrix * context.index, SPEC, GRID)

    daily, fixed = Daily(_linear(3).matrix, SPEC, GRID), _linear(2)
    background = State(torch.tensor([3.0, 280.0])[:, None, None].expand(2, *GRID.shape), SPEC, GRID)
    control = AugmentedControl([daily, fixed], [4.0, 1.0]).for_analysis(background, AnalysisContext(index=7))
    w = torch.randn(5, dtype=torch.float64)
    torch.testing.assert_close(control(w), 7 * daily(w[:3]) / 2 + fixed(w[3:]))
    assert AugmentedControl([daily, fixed]).weights == [1.0, 1.0]
