"""The times of a cycle are those of ``analysis_time``, and gaps where their truth cannot be read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vaevar.data.analysis_times import AnalysisTimes, MissingTime
from vaevar.errors import UserError


class Source(AnalysisTimes):
    """Two times; the truth of the second cannot be read."""

    def __init__(self, fault: str = "") -> None:
        self.times, self.ended, self.skip_missing, self.fault = np.arange(2), False, True, fault
        self.store: Any = SimpleNamespace(state=self._state)

    def _state(self, time: int) -> str:
        if time == 1:
            raise UserError("torn")
        return "truth"

    def analysis_time(self, index: int) -> Any:
        truth = self.store.state(index)
        if self.fault:
            raise UserError(self.fault)
        return truth


def test_the_stream_is_made_of_analysis_times_and_gaps() -> None:
    first, second = Source().predict_dataloader().dataset
    assert first == "truth"
    assert isinstance(second, MissingTime)
    assert second.cause == "torn"


def test_only_a_truth_that_cannot_be_read_is_a_gap() -> None:
    with pytest.raises(UserError, match="no such network"):
        Source("no such network").time_or_gap(0)
    stopping = Source()
    stopping.skip_missing = False
    with pytest.raises(UserError, match="torn"):
        stopping.time_or_gap(1)
