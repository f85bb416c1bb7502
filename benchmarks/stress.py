"""Nothing is lost: programs killed at random moments and given again end as if nothing had been.

    python benchmarks/stress.py --predict 50 --fit 15 --errors 15 --sweep 15

Error generation, a fit, a cycle and a sweep run on a tiny made-up world, once without a kill, and then with
as many kills (SIGKILL to all processes) as asked for. A killed program is given again, and killed again at
another moment; when it has ended, its files are compared bit by bit with those of the run that was left
alone, and it begins anew. After each kill every file must open, or have a name by which it is recognised as
unfinished.

The temporary directory may lie on another file system: `TMPDIR=/dev/shm python benchmarks/stress.py ...`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from stress_files import check, require_equal, results
from stress_world import copy_world, world

from vaevar.errors import UserError
from vaevar.files import require_writable, save_text
from vaevar.scripts import run
from vaevar.verification.tables import markdown_table

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Job:
    """A program, and which of its files must be the same however often it was killed.

    Attributes:
        command: words after ``python``.
        results: patterns of files and stores, relative to the directory that it runs in.
    """

    command: tuple[str, ...]
    results: tuple[str, ...]


JOBS = {
    "errors": Job(("main.py", "predict", "--config", "errors.yaml"), ("data/errors.zarr",)),
    "fit": Job(("main.py", "fit", "--config", "fit.yaml"), ("runs/fit/checkpoints/last.ckpt", "vae.ckpt")),
    "predict": Job(
        ("main.py", "predict", "--config", "cycle.yaml"),
        ("runs/cycle/*/*.zarr", "runs/cycle/*/*.csv", "runs/cycle/scores.csv"),
    ),
    "sweep": Job(
        (
            "benchmarks/comparison.py", "--config", "cycle.yaml", "--columns", "20", "--networks", "fixed",
            "moving", "--seeds", "0", "--arms", "free", "interpolation", "--runs", "runs/sweep", "--results",
            "sweep",
        ),
        ("sweep/*.csv",),
    ),
}  # fmt: skip


def main(
    predict: int = 50,
    fit: int = 15,
    errors: int = 15,
    sweep: int = 15,
    seed: int = 0,
    directory: str | None = None,
    output: str | None = "benchmarks/results/stress.md",
) -> None:
    """Kill each program as often as asked, and write a table.

    Args:
        predict, fit, errors, sweep: kills of each; 0 leaves the program out.
        seed: of the moments.
        directory: an empty one to work in, which stays. None: a temporary one, which is removed.
        output: the table. None: it is printed only.

    Raises:
        UserError: when a program does not end as it should, or leaves a file that does not open.
    """
    if output is not None:
        require_writable(Path(output))
    counts = {"errors": errors, "fit": fit, "predict": predict, "sweep": sweep}
    place = Path(directory or tempfile.mkdtemp(prefix="stress-")).absolute()
    try:
        world(place / "world")
        rows = [
            [name, *stress(name, kills, place, random.Random(f"{seed} {name}"))]
            for name, kills in counts.items()
            if kills
        ]
    finally:
        if directory is None:
            shutil.rmtree(place, ignore_errors=True)
    head = ["program", "kills", "runs to the end", "seconds to the kill", "files looked at after kills"]
    table = markdown_table(head, rows)
    print(table)
    if output is not None:
        save_text(Path(output), text_of(table, seed))


def text_of(table: str, seed: int) -> str:
    """The result, with what it took."""
    words = " ".join(sys.argv[1:])
    return (
        f"# Killed at random moments\n\nCommand: `python benchmarks/stress.py {words}`, seed {seed}, "
        f"with the temporary directory {tempfile.gettempdir()}. Every program ended bit-identical to one "
        "that was left alone, and after every kill every file opened or was recognised as unfinished.\n\n"
        f"{table}\n"
    )


def stress(name: str, kills: int, place: Path, moments: random.Random) -> list[str]:
    """Kill one program.

    Args:
        name: of the job.
        kills: how often.
        place: the directory of the world.
        moments: when.

    Returns:
        numbers of kills and of runs that ended, the range of moments, and the number of files looked at.

    Raises:
        UserError: as :func:`main`.
    """
    job, whole, parts = JOBS[name], place / name / "whole", place / name / "parts"
    copy_world(place / "world", whole)
    if name == "fit":
        give(JOBS["errors"], whole)
    began = time.monotonic()
    give(job, whole)
    duration = time.monotonic() - began
    expected = results(job.results, whole)
    done, ended, looked, delays = 0, 0, 0, []
    while done < kills:
        shutil.rmtree(parts, ignore_errors=True)
        copy_world(place / "world", parts)
        if name == "fit":
            shutil.copytree(whole / "data", parts / "data")
        finished = False
        while not finished:
            delay = moments.uniform(0.3, 1.0) * duration if done < kills else None
            began, fresh = time.monotonic(), not any(parts.glob("output.log"))
            finished = give(job, parts, delay)
            if finished and fresh:  # the machine is faster than it was
                duration = min(duration, time.monotonic() - began)
            looked += check(parts)
            if not finished:
                done, delays = done + 1, [*delays, delay or 0.0]
                print(f"{name}: kill {done} of {kills} after {delay:.1f} s", flush=True)
        ended += 1
        require_equal(name, expected, results(job.results, parts))
    shutil.rmtree(place / name)
    return [str(done), str(ended), f"{min(delays):.1f} to {max(delays):.1f}", str(looked)]


def give(job: Job, directory: Path, delay: float | None = None) -> bool:
    """Give the command, and kill it after a time. Whether it ended before.

    Raises:
        UserError: when it fails.
    """
    program, *words = job.command
    command = [sys.executable, str(ROOT / program), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with open(directory / "output.log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        lines = (directory / "output.log").read_text(encoding="utf-8", errors="replace").splitlines()
        raise UserError(f"{' '.join(job.command)} failed in {directory}: {' | '.join(lines[-3:])}")
    return True


if __name__ == "__main__":
    run(main)
