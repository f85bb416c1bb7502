"""The times of a cycle are those of ``analysis_time``, and gaps where their truth cannot be read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vaevar.data.analysis_times import AnalysisTimes, MissingTime
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.simulate import simulate
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

GRID, SPEC = Grid.gaussian(4), StateSpec(["t2m"], [], [])


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


class Prepared:
    """A source that is asked for a period and for states, and keeps what it was asked."""

    def __init__(self) -> None:
        self.period: tuple[Any, ...] = ()
        self.read_at: list[np.ndarray] = []

    def prepare(self, first: np.datetime64, last: np.datetime64) -> None:
        self.period = (first, last)

    def open(self, spec: StateSpec) -> Any:
        return SimpleNamespace(read=self._read, state=self._state, grid=GRID)

    def _read(self, times: np.ndarray) -> np.ndarray:
        self.read_at.append(np.asarray(times))
        return np.full((len(times), 1, *GRID.shape), 280.0, dtype=np.float32)

    def _state(self, time: np.datetime64) -> State:
        return State(torch.full((1, *GRID.shape), 280.0), SPEC, GRID)


def at(text: str) -> np.datetime64:
    return np.datetime64(text, "h")


@pytest.fixture
def climatology(tmp_path: Path) -> str:
    np.save(tmp_path / "std.npy", np.ones(1))
    return str(tmp_path / "std.npy")


def analyses(climatology: str, **settings: Any) -> AnalysisTimes:
    given = {"start": "2021-01-05T00", "analyses": 3, "network": ColumnNetwork(2), "spec": SPEC}
    return AnalysisTimes(Prepared(), climatology=climatology, **(given | settings))  # type: ignore[arg-type]


def test_times_and_first_states_follow_step_and_lead(climatology: str) -> None:
    """With a step other than the usual 6 h, and a lead other than a day or two."""
    data = analyses(climatology, step_hours=12, lead_hours=36)
    assert data.times.tolist() == [at(f"2021-01-0{day}").tolist() for day in ("5T00", "5T12", "6T00")]
    data.setup("predict")
    assert data.initial_states(2).shape == (2, 1, *GRID.shape)
    data.initial_states(3, 1)
    first, second = data.source.read_at  # type: ignore[attr-defined]
    assert first.tolist() == [at("2021-01-03T00").tolist(), at("2021-01-03T12").tolist()]
    assert second.tolist() == [at(f"2021-01-0{day}").tolist() for day in ("3T00", "3T12", "4T00")]


@pytest.mark.parametrize(("history", "earliest"), [(1, "2021-01-03T12"), (2, "2021-01-03T00")])
def test_the_truth_is_prepared_from_the_first_state_that_is_needed(
    climatology: str, history: int, earliest: str
) -> None:
    data = analyses(climatology, step_hours=12, lead_hours=36)
    module = SimpleNamespace(forecaster=SimpleNamespace(history=history))
    data.trainer = SimpleNamespace(lightning_module=module)  # type: ignore[assignment]
    data.prepare_data()
    assert data.source.period == (at(earliest), at("2021-01-06T00"))  # type: ignore[attr-defined]
    data.trainer = None
    data.prepare_data()  # as far back as two states
    assert data.source.period[0] == at("2021-01-03T00")  # type: ignore[attr-defined]


def test_observations_have_the_seed_and_the_time_of_their_analysis(climatology: str) -> None:
    data = analyses(climatology, seed=4)
    data.setup("predict")
    for index, time in ((0, "2021-01-05T00"), (2, "2021-01-05T12")):
        made = data.analysis_time(index)
        expected = simulate(made.truth, data.network, data.errors, at(time), 4)
        assert (made.index, made.time) == (index, at(time))
        np.testing.assert_array_equal(made.observations.value, expected.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"analyses": 0}, {"step_hours": 0}, {"lead_hours": 0}, {"lead_hours": 9}, {"lead_hours": 3},
        {"start": "yesterday"},
    ],
)  # fmt: skip
def test_settings_that_make_no_cycle_are_refused(climatology: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        analyses(climatology, **wrong)
    analyses(climatology, analyses=1, step_hours=1, lead_hours=1)
