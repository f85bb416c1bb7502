"""Times of nested actions."""

from __future__ import annotations

import cycle_profile
import pytest
from cycle_profile import READING, REST, ExclusiveTimes, part_of


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch):
    """A clock that moves only on command."""
    now = [100.0]
    monkeypatch.setattr(cycle_profile.time, "perf_counter", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def test_an_action_is_charged_without_those_within_it(pass_time) -> None:
    times = ExclusiveTimes()
    pass_time(1.0)
    with times.profile("outer"):
        pass_time(2.0)
        with times.profile("inner"):
            pass_time(4.0)
        pass_time(8.0)
        with times.profile("inner"):
            pass_time(16.0)
    pass_time(32.0)
    with times.profile("outer"):
        pass_time(64.0)
    assert times.seconds == {"": 33.0, "outer": 74.0, "inner": 20.0}
    assert times.calls == {"outer": 2, "inner": 2}


def test_the_first_round_is_left_out(pass_time) -> None:
    times = ExclusiveTimes(round_="next")
    for seconds in (1.0, 2.0, 4.0):
        with times.profile("next"):
            pass_time(seconds)
        pass_time(10 * seconds)
    times.start("end")
    assert times.seconds == {"next": 6.0, "": 60.0}
    assert times.calls["next"] == 2


def test_what_did_not_begin_last_cannot_end() -> None:
    times = ExclusiveTimes()
    times.start("one")
    times.start("other")
    with pytest.raises(ValueError, match="other was started last"):
        times.stop("one")


@pytest.mark.parametrize(
    ("action", "part"),
    [
        ("[_PredictionLoop].predict_next", READING),
        ("[Callback]StateWriter.on_predict_batch_end", "StateWriter"),
        ("[Callback]ModelCheckpoint{'monitor': None}.on_predict_batch_end", "ModelCheckpoint"),
        ("[Callback]CycleProfile.on_predict_epoch_end", REST),
        ("[Strategy]SingleDeviceStrategy.predict_step", REST),
        ("arm vaevar", "arm vaevar"),
        ("forecaster", "forecaster"),
        ("", REST),
    ],
)
def test_parts_of_a_cycle(action: str, part: str) -> None:
    assert part_of(action) == part
