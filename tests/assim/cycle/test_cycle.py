from __future__ import annotations

import pytest

from vaevar.assim.cycle.cycle import Cycle
from vaevar.errors import UserError


@pytest.mark.parametrize("name", ["new_cycle_every", "largest_increment", "failures_in_a_row"])
@pytest.mark.parametrize("number", [0, -1, float("nan")])
def test_numbers_of_a_cycle_that_are_not_positive_are_refused(name: str, number: float) -> None:
    with pytest.raises(UserError, match=f"Cycle: {name} is .*must be positive"):
        Cycle(**{name: number})
    Cycle(new_cycle_every=None, largest_increment=None, failures_in_a_row=1)
