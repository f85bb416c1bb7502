"""Signals that come to small programs: what is finished, what is said, and the exit code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PREAMBLE = """
import time, os, sys, signal, hashlib
from pathlib import Path
from vaevar.runs import stopping
stopping.install()
def ready(): Path("ready").touch()
"""
ARRAY = {"SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3"}
IGNORED = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"


def start(program: str, directory: Path, **variables: str) -> subprocess.Popen[str]:
    """A program that has come to ``ready()``."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=directory,
        env=environment | {"PYTHONPATH": str(ROOT)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (directory / "ready").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process


def stopped(process: subprocess.Popen[str], *signals: signal.Signals, gap: float = 0.0) -> tuple[int, str]:
    """Exit code, and what was said."""
    for number in signals:
        process.send_signal(number)
        time.sleep(gap)
    _, said = process.communicate(timeout=30)
    return process.returncode, said


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_a_signal_ends_a_program_with_one_line(name: str, tmp_path: Path) -> None:
    number = getattr(signal, name)
    process = start(PREAMBLE + "ready(); time.sleep(30)", tmp_path)
    assert stopped(process, number) == (
        128 + number,
        f"stopped by {name}: the same command goes on from there\n",
    )


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT, signal.SIGTERM]])
def test_a_write_is_finished_first(signals: list[signal.Signals], tmp_path: Path) -> None:
    program = """
with stopping.finishing():
    with stopping.finishing():
        ready()
        time.sleep(0.5)
    Path("inner").touch()
    time.sleep(0.2)
    Path("whole").touch()
Path("more").touch()
"""
    code, _ = stopped(start(PREAMBLE + program, tmp_path), *signals)
    assert code == 128 + signals[0]
    assert (tmp_path / "inner").exists()
    assert (tmp_path / "whole").exists()
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize("install", ["install", "install_as_guest"])
def test_a_write_in_another_thread_is_finished_first(install: str, tmp_path: Path) -> None:
    program = f"""
import threading
def write():
    with stopping.finishing():
        ready()
        time.sleep(0.5)
        Path("whole").touch()
    time.sleep(30)
stopping.{install}()
threading.Thread(target=write, daemon=True).start()
time.sleep(30)
"""
    began = time.monotonic()
    assert stopped(start(PREAMBLE + program, tmp_path), signal.SIGTERM)[0] == 143
    assert time.monotonic() - began < 10
    assert (tmp_path / "whole").exists()


def test_an_error_in_a_write_is_told(tmp_path: Path) -> None:
    program = """
with stopping.finishing():
    ready()
    time.sleep(0.5)
    raise OSError("no space left")
"""
    _, said = stopped(start(PREAMBLE + program, tmp_path), signal.SIGTERM)
    assert "no space left" in said


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    process = start(PREAMBLE + "with stopping.finishing():\n ready()\n time.sleep(30)", tmp_path)
    code, said = stopped(process, signal.SIGINT, signal.SIGINT, gap=1.2)
    assert (code, said.count("\n")) == (130, 1)
    assert "in the middle" in said


def test_a_call_into_a_library_that_does_not_return_is_ended(tmp_path: Path) -> None:
    program = "stopping.PATIENCE = 1.0; ready(); hashlib.pbkdf2_hmac('sha256', b'a', b'b', 10**9)"  # hours
    began = time.monotonic()
    code, said = stopped(start(PREAMBLE + program, tmp_path), signal.SIGTERM)
    assert code == 143
    assert time.monotonic() - began < 10
    assert "in the middle of its work: the same command" in said


def test_a_library_that_takes_the_stop_for_something_else_does_not_keep_the_program(tmp_path: Path) -> None:
    program = """
stopping.PATIENCE = 1.0
try:
    ready()
    time.sleep(30)
except BaseException:
    pass
time.sleep(30)
"""
    assert stopped(start(PREAMBLE + program, tmp_path), signal.SIGTERM)[0] == 143


def test_a_stop_while_libraries_are_imported_is_no_error_of_theirs(tmp_path: Path) -> None:
    program = """
stopping.install(importing=True)
try:
    ready()
    time.sleep(30)
except BaseException:
    Path("taken").touch()
"""
    code, said = stopped(start(PREAMBLE + program, tmp_path), signal.SIGINT)
    assert (code, said) == (130, "stopped by SIGINT before it began anything\n")
    assert not (tmp_path / "taken").exists()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux which signals are caught")
def test_ctrl_c_while_a_program_of_the_package_is_imported() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vaevar.data.weather.climatology", "--help"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    status = Path(f"/proc/{process.pid}/status")
    until = time.monotonic() + 30
    while time.monotonic() < until:
        caught = int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16)
        if caught >> (signal.SIGTERM - 1) & 1:  # long before torch is imported
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "stopped by SIGINT before it began anything\n"
    assert process.returncode == 130


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    process = start(IGNORED + PREAMBLE + "ready(); time.sleep(0.5)", tmp_path)
    assert stopped(process, signal.SIGHUP) == (0, "")


def test_a_forked_process_is_not_this_program(tmp_path: Path) -> None:
    program = """
import signal
child = os.fork()
if not child:
    time.sleep(30)
    os._exit(0)
time.sleep(0.3)
os.kill(child, signal.SIGTERM)
_, status = os.waitpid(child, 0)
assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM, status
ready()
time.sleep(0.3)
assert not stopping.asked()
print("went on")
"""
    out, error = start(PREAMBLE + program, tmp_path).communicate(timeout=30)
    assert (out, error) == ("went on\n", "")


def test_launched_processes_stop_too_and_are_waited_for(tmp_path: Path) -> None:
    program = """
import subprocess
code = "import signal, sys, time; from pathlib import Path\\n"
code += "def stop(*_): time.sleep(0.5); Path('child').touch(); sys.exit()\\n"
code += "signal.signal(signal.SIGTERM, stop); Path('ready').touch(); time.sleep(30)"
child = subprocess.Popen([sys.executable, "-c", code])
stopping.end_together(lambda: [child.pid])
time.sleep(30)
"""
    assert stopped(start(PREAMBLE + program, tmp_path), signal.SIGTERM)[0] == 143
    assert (tmp_path / "child").exists()


def test_a_launched_process_ends_with_its_parent(tmp_path: Path) -> None:
    program = """
import subprocess
code = "import os, time; from pathlib import Path; from vaevar.runs import stopping\\n"
code += "stopping.end_with_parent(); Path('ready').touch(); time.sleep(30)"
child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
print(child.pid, flush=True)
time.sleep(30)
"""
    process = start(PREAMBLE + program, tmp_path)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while time.monotonic() < end and Path(f"/proc/{child}/cwd").exists():
        time.sleep(0.1)
    assert not Path(f"/proc/{child}/cwd").exists()


@pytest.fixture
def scontrol(tmp_path: Path) -> dict[str, str]:
    """The surroundings of a job, with a ``scontrol`` that writes down what it was told."""
    path = tmp_path / "bin" / "scontrol"
    path.parent.mkdir()
    path.write_text(
        '#!/bin/sh\necho "$@" >> requeued\n[ "$2" != 13 ] || { echo "not allowed" >&2; exit 1; }\n'
    )
    path.chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "fit", "SLURM_PROCID": "0"}
    return job | {"PATH": f"{path.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("number", "variables", "asked", "told"),
    [
        (signal.SIGUSR1, {}, "requeue 7\n", "; job 7 is in the queue again"),
        (signal.SIGUSR2, {}, "requeue 7\n", "; job 7 is in the queue again"),
        (signal.SIGUSR1, ARRAY, "requeue 9_3\n", "; job 9_3 is in the queue again"),
        (signal.SIGUSR1, {"SLURM_JOB_ID": "13"}, "requeue 13\n", "could not be requeued (not allowed)"),
        (signal.SIGTERM, {}, "", "from there\n"),  # SLURM needs no help after its own
        (signal.SIGUSR1, {"SLURM_JOB_NAME": "bash"}, "", "from there\n"),  # somebody at a terminal
    ],
)  # fmt: skip
def test_a_job_is_requeued(
    number: signal.Signals,
    variables: dict[str, str],
    asked: str,
    told: str,
    scontrol: dict[str, str],
    tmp_path: Path,
) -> None:
    process = start(PREAMBLE + "ready(); time.sleep(30)", tmp_path, **scontrol | variables)
    code, said = stopped(process, number)
    assert code == 128 + number
    assert told in said
    assert said.count("\n") == 1
    requeued = tmp_path / "requeued"
    assert (requeued.read_text() if requeued.exists() else "") == asked


def test_one_process_of_a_job_requeues_it(scontrol: dict[str, str], tmp_path: Path) -> None:
    process = start(PREAMBLE + "ready(); time.sleep(30)", tmp_path, **scontrol | {"SLURM_PROCID": "1"})
    assert stopped(process, signal.SIGUSR1) == (138, "")
    assert not (tmp_path / "requeued").exists()


def test_without_scontrol_the_line_says_so(tmp_path: Path) -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "fit", "PATH": ""}
    code, said = stopped(start(PREAMBLE + "ready(); time.sleep(30)", tmp_path, **job), signal.SIGUSR1)
    assert code == 138
    assert "job 7 could not be requeued" in said


def test_output_that_nobody_reads_ends_a_program_without_a_word(tmp_path: Path) -> None:
    program = """
from vaevar.scripts import one_line_errors
with one_line_errors():
    for number in range(100000):
        print(number, flush=True)
"""
    process = start(PREAMBLE + "ready()" + program, tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    assert (process.wait(timeout=30), said) == (141, "")
