"""Restart files: how many analyses they stand for, and which of two is believed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vaevar.assim.cycle.restart import EARLIER, LATEST, RestartFiles, analyses_made, mean_of
from vaevar.assim.cycle.standing import Standing
from vaevar.data.observations.coverage import MAPS
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec

SPEC, GRID = StateSpec(["t2m"], [], []), Grid.gaussian(4)


def cycle_of(count: int = 4, spec: StateSpec = SPEC, grid: Grid = GRID, step_hours: int = 6) -> Any:
    start = np.datetime64("2021-01-01T00", "h")
    times = start + step_hours * np.arange(count)
    store = SimpleNamespace(grid=grid)
    return SimpleNamespace(times=times, start=start, step_hours=step_hours, spec=spec, store=store)


def restart(index: int) -> Standing:
    return Standing(index, torch.full((2, 1, 4, 8), 270.0 + index), torch.zeros(MAPS, 4, 8))


def test_the_latest_is_read_first_and_the_settled_one_stays(tmp_path: Path) -> None:
    assert analyses_made(tmp_path) == 0
    files = RestartFiles(tmp_path, cycle_of(), 2)
    assert files.read() == []
    files.write(restart(1), settle=True)
    files.write(restart(2), settle=False)
    files.write(restart(3), settle=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([LATEST, EARLIER])
    latest, earlier = RestartFiles(tmp_path, cycle_of(), 2).read()
    assert (latest.next_index, earlier.next_index) == (3, 1)
    assert torch.equal(latest.trajectory, restart(3).trajectory)
    assert analyses_made(tmp_path) == 3
    (tmp_path / LATEST).write_bytes(b"torn")
    assert analyses_made(tmp_path) == 1
    (only,) = files.read()
    assert only.next_index == 1
    (tmp_path / EARLIER).write_bytes(b"torn")
    assert analyses_made(tmp_path) == 0
    with pytest.raises(UserError, match="not a restart file of a cycle"):
        files.read()
    files.remove()
    assert not list(tmp_path.iterdir())
    files.remove()


def test_a_restart_of_another_truth_is_refused(tmp_path: Path) -> None:
    def cycle_with(truth: torch.Tensor | None) -> Any:
        data = cycle_of()

        def state(time: np.datetime64) -> State:
            assert time == data.times[2]
            if truth is None:
                raise UserError("a gap")
            return State(truth, SPEC, GRID)

        data.store.state, data.source = state, SimpleNamespace(description="SPEEDY")
        return data

    truth = 280 + torch.arange(32.0).reshape(1, 4, 8)
    files = RestartFiles(tmp_path, cycle_with(truth), 2)
    files.write(restart(3), settle=False, truth=mean_of(State(truth, SPEC, GRID)))
    for same in (truth, truth.flip(-1), None):  # added in another order; a gap is told elsewhere
        assert len(RestartFiles(tmp_path, cycle_with(same), 2).read()) == 1
    other = truth.clone()
    other[0, 1, 1] += 1e-3
    with pytest.raises(UserError, match=r"restart.pt: .*another truth: .* of 2021-01-01T12 .*SPEEDY here"):
        RestartFiles(tmp_path, cycle_with(other), 2).read()
    # A restart after a gap does not know, nor does one of an earlier version.
    files.write(restart(3), settle=False)
    assert len(RestartFiles(tmp_path, cycle_with(other), 2).read()) == 1


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (cycle_of(2), r"next analysis is number 3, but the cycle has only 2; set .*analyses to at least 3"),
        (cycle_of(spec=StateSpec(["msl"], [], [])), "its channels is t2m, this one's is msl"),
        (cycle_of(grid=Grid.gaussian(4, 6)), "its longitude is"),
        (cycle_of(grid=Grid.equiangular(4, 8)), "its latitude is"),
        (cycle_of(step_hours=12), "its time is 2021-01-01T18:00:00, this one's is 2021-01-02T12:00:00"),
    ],
)
def test_a_restart_of_another_cycle_is_refused(tmp_path: Path, data: Any, says: str) -> None:
    RestartFiles(tmp_path, cycle_of(), 2).write(restart(3), settle=False)
    assert len(RestartFiles(tmp_path, cycle_of(3), 2).read()) == 1  # the end of a cycle is no error
    with pytest.raises(UserError, match=says):
        RestartFiles(tmp_path, data, 2).read()


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (Standing(-1, torch.zeros(2, 1, 4, 8), torch.zeros(MAPS, 4, 8)), "next analysis is number -1"),
        (Standing(1, torch.zeros(1, 1, 4, 8), torch.zeros(MAPS, 4, 8)), "trajectory is"),
        (Standing(1, torch.full((2, 1, 4, 8), 280.0), torch.zeros(1, 4, 8)), "coverage is"),
        (
            Standing(1, torch.full((2, 1, 4, 8), torch.nan), torch.zeros(MAPS, 4, 8)),
            "trajectory is not finite",
        ),
        (
            Standing(1, torch.full((2, 1, 4, 8), 280.0), torch.full((MAPS, 4, 8), torch.inf)),
            "coverage is not",
        ),
        (Standing(1, torch.full((2, 1, 4, 8), 280), torch.zeros(MAPS, 4, 8)), "trajectory is not finite"),
        (Standing(1, torch.full((2, 1, 4, 8), 28.0), torch.zeros(MAPS, 4, 8)), "t2m"),
    ],
)
def test_a_damaged_restart_is_refused(tmp_path: Path, broken: Standing, says: str) -> None:
    RestartFiles(tmp_path, cycle_of(), 2).write(broken, settle=False)
    with pytest.raises(UserError, match=f"damaged.*{says}"):
        RestartFiles(tmp_path, cycle_of(), 2).read()
