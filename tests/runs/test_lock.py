"""One process at a time writes into a run directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vaevar.errors import UserError
from vaevar.runs import lock
from vaevar.runs.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from vaevar.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_is_told_whose_it_is_and_since_when(tmp_path: Path, holder: subprocess.Popen) -> None:
    held = json.loads((tmp_path / ".lock").read_text())
    told = f"process {holder.pid} on {held['host']} .* since {held['since'][:10]}"
    with pytest.raises(UserError, match=told), locked(tmp_path):
        pass
    # Being refused leaves nothing behind.
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert json.loads((tmp_path / ".lock").read_text()) == held


def test_a_killed_holder_is_no_obstacle(tmp_path: Path, holder: subprocess.Popen) -> None:
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_holder_is_known_by_its_start_where_numbers_are_used_again(tmp_path: Path) -> None:
    text = json.dumps(lock._myself() | {"started": "1"})
    (tmp_path / ".lock").write_text(text)
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(("silent", "gone"), [(0, False), (lock.SILENCE_SECONDS + 60, True)])
def test_a_holder_on_another_machine_is_gone_when_it_falls_silent(
    tmp_path: Path, silent: float, gone: bool
) -> None:
    path = tmp_path / ".lock"
    path.write_text(json.dumps(lock._myself() | {"host": "elsewhere", "pid": 1}))
    then = time.time() - silent
    os.utime(path, (then, then))
    if gone:
        with locked(tmp_path):
            pass
        return
    with pytest.raises(UserError, match="process 1 on elsewhere"), locked(tmp_path):
        pass


def test_a_requeued_job_is_not_kept_out_by_its_former_self(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    (tmp_path / ".lock").write_text(json.dumps(lock._myself() | {"host": "elsewhere", "pid": 1}))
    with pytest.raises(UserError, match="job 17"), locked(tmp_path):
        pass
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with locked(tmp_path):
        pass


def test_a_lock_that_a_crash_has_emptied_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.touch()
    os.utime(path, (0, 0))
    with locked(tmp_path):
        pass


def test_a_holder_is_heard_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with locked(tmp_path):
        path = tmp_path / ".lock"
        os.utime(path, (0, 0))
        end = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < end:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0


def test_a_lock_that_another_has_taken_over_is_left_alone(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / ".lock").write_text("{}")
    assert (tmp_path / ".lock").read_text() == "{}"
