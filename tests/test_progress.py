"""Lines of a log: not too many, not too few, and at once."""

from __future__ import annotations

import pytest

from vaevar import progress
from vaevar.progress import LogTimes, time_left


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "clock", clock)
    return clock


def test_a_fast_piece_of_work_has_a_line_for_every_tenth(clock: Clock) -> None:
    times = LogTimes(300)
    assert [done for done in range(1, 301) if times.due(done)] == [1, *range(31, 300, 30), 300]


def test_a_slow_one_has_a_line_every_half_minute(clock: Clock) -> None:
    times, said = LogTimes(1000), []
    for done in range(1, 61):
        clock.now += 10.0
        if times.due(done):
            said.append(done)
    assert said == [1, *range(4, 61, 3)]


def test_lines_of_a_resumed_piece_of_work(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("compiling", 40, done=20) as advance:
        advance(20, "states")
        for done in range(21, 41):
            clock.now += 2.0
            advance(done)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "compiling: 20/40"
    assert lines[1] == "states: 21/40, 0:00:38 left"
    assert lines[-1] == "states: 40/40, 0:00:00 left"
    assert 4 < len(lines) < 9


def test_time_left() -> None:
    assert time_left(10.0, 5, 100) == "0:03:20 left"
    assert time_left(0.0, 0, 100) == "0:00:00 left"
