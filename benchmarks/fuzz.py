"""Random damage to everything that a command reads: no hang, no traceback, no damaged data taken for good.

    python benchmarks/fuzz.py --minutes 10

A tiny world is made (see changed_inputs.py), and one of its files after the other is damaged at random:
configs in their structure and their text, stores in their metadata and their chunks, ONNX files, checkpoints,
B, stores of samples and restart files in their bytes. Then the command that reads it is given, in a
process of its own with a limit of time and of memory. The cases depend on the seed and their number alone;
with a record, a run that was ended goes on.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from changes.kinds import Case, Result
from changes.probes import Prober
from changes.world import world
from fuzzed import fuzz_config, fuzz_file, fuzz_header, fuzz_store

from vaevar.errors import UserError
from vaevar.files import require_writable, save_text
from vaevar.scripts import run
from vaevar.verification.tables import markdown_table

SECONDS, MEMORY = 120, 12 * 2**30
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Target:
    """What is damaged.

    Attributes:
        what: in words.
        file: of the world; what is under ``runs`` is of a cycle that has begun.
        probe: the command that reads it.
        damage: damages it; what it did.
        checked: whether another result is a fault: its data have checksums. Of a config it is what was asked
            for, and an ONNX file has none.
    """

    what: str
    file: str
    probe: str
    damage: Callable[[Path, random.Random], str]
    checked: bool = True


TARGETS = [
    Target("configs of a cycle", "cycle.yaml", "cycle", fuzz_config, checked=False),
    Target("configs of a fit", "vae.yaml", "fit", fuzz_config, checked=False),
    Target("stores of weather", "truth.zarr", "cycle", fuzz_store),
    Target("stores of samples", "errors.zarr", "fit", fuzz_store),
    Target("ONNX headers", "drift.onnx", "cycle", fuzz_header, checked=False),
    Target("checkpoints of a VAE", "vae.ckpt", "cycle", fuzz_file),
    Target("checkpoints of a denoiser", "denoiser.ckpt", "cycle", fuzz_file),
    Target("B", "covariance.nc", "cycle", fuzz_file),
    Target("restart files", "runs/begun/interpolation/restart.pt", "go on", fuzz_file),
    Target("records of runs", "runs/begun/provenance.json", "go on", fuzz_file, checked=False),
]


@dataclass(frozen=True)
class Damage:
    """One case and what came of it."""

    number: int
    what: str
    file: str
    damage: str
    outcome: str
    line: str

    @property
    def fault(self) -> bool:
        """Whether it is a fault of the program."""
        (target,) = [target for target in TARGETS if target.what == self.what]
        return self.outcome in ("crashed", "hangs", "died") or (self.outcome == "other" and target.checked)


def main(
    minutes: float = 10.0,
    seed: int = 0,
    only: str = "",
    record: str | None = None,
    output: str | None = "benchmarks/results/fuzz.md",
) -> None:
    """Damage files until the time is over, and write a table.

    Args:
        minutes: how long.
        seed: of the damage.
        only: a pattern of what to damage.
        record: a file with a line for each case, from which a run that was ended goes on. None: none is kept.
        output: the table. None: it is printed only.

    Raises:
        UserError: when a command hung or ended with a traceback, or took damaged data for good.
    """
    if "LOCAL_RANK" in os.environ:
        raise UserError("fuzz.py was started by a trainer, which must not be: a config asks for processes")
    if output is not None:
        require_writable(Path(output))
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        found = fuzz(place, minutes * 60, seed, only, Path(record) if record else None)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    text = text_of(found, minutes, seed)
    print(text)
    if output is not None:
        save_text(Path(output), text)
    if faults := [damage for damage in found if damage.fault]:
        raise UserError(
            "; ".join(f"{d.number}: {d.file}, {d.damage}: {d.outcome}, {d.line[:200]}" for d in faults)
        )


def fuzz(place: Path, seconds: float, seed: int, only: str, record: Path | None) -> list[Damage]:
    """All cases until the time is over; those of the record first."""
    apart(lambda: world(place / "world"), 10 * SECONDS)
    found = [] if record is None or not record.is_file() else recorded(record)
    targets = [target for target in TARGETS if re.search(only, target.what)]
    prober = Prober(place / "world", place / "damaged")
    for target in targets:
        if target.probe not in prober.expected:
            prober.expected[target.probe] = apart(lambda t=target: prober.unchanged(t.probe), 10 * SECONDS)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        damage = tried(prober, targets, seed, len(found))
        found.append(damage)
        if damage.fault:
            print(
                f"{damage.number}: {damage.file}: {damage.damage}: {damage.outcome}: {damage.line}",
                flush=True,
            )
        if record is not None:
            with record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(damage)) + "\n")
    return found


def recorded(record: Path) -> list[Damage]:
    """The cases of a run that was ended; a last line that was cut is made again."""
    lines = record.read_text(encoding="utf-8").split("\n")
    if lines[-1]:
        save_text(record, "".join(f"{line}\n" for line in lines[:-1]))
    return [Damage(**json.loads(line)) for line in lines[:-1]]


def tried(prober: Prober, targets: list[Target], seed: int, number: int) -> Damage:
    """One case, in a process of its own."""
    target = targets[number % len(targets)]
    told: list[str] = []

    def apply(directory: Path) -> None:
        # The same in every run: hash() of a text is not.
        told.append(target.damage(directory / target.file, random.Random(f"{seed} {number}")))

    case = Case(target.file.partition("/")[0], target.what, apply, target.probe, ".")
    try:
        result: Result
        result, what = apart(lambda: (prober(case), told[0]), SECONDS)
        return Damage(number, target.what, target.file, what, result.outcome, result.line[:500])
    except TimeoutError:
        return Damage(number, target.what, target.file, "", "hangs", f"for {SECONDS} s")
    except ChildProcessError as error:
        return Damage(number, target.what, target.file, "", "died", str(error))


def apart(function: Callable[[], Any], seconds: float) -> Any:
    """What a function returns in a process of its own.

    Raises:
        TimeoutError: when it takes longer.
        ChildProcessError: when the process ends without a result.
    """
    ours, theirs = _FORK.Pipe(duplex=False)

    def work() -> None:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        try:
            value = function()
            theirs.send(_without_case(value))
        finally:
            theirs.close()
            os._exit(0)  # without the parent's handlers: a test's, or a debugger's

    process = _FORK.Process(target=work)
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            raise TimeoutError
        return ours.recv()
    except EOFError:
        process.join()
        raise ChildProcessError(f"the process ended with {process.exitcode}") from None
    finally:
        if process.is_alive() and process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


def _without_case(value: Any) -> Any:
    """A result that another process can read: a case holds functions."""
    if isinstance(value, tuple) and value and isinstance(value[0], Result):
        blank = Case("", "", print, "", "")
        return (Result(blank, value[0].outcome, value[0].line), *value[1:])
    return value


def text_of(found: list[Damage], minutes: float, seed: int) -> str:
    """The page: counts by what was damaged."""
    head = ["damaged", "cases", "refused", "harmless", "another result", "faults"]
    rows = []
    for target in TARGETS:
        mine = [damage for damage in found if damage.what == target.what]
        outcomes = [damage.outcome for damage in mine]
        refused, harmless = (
            sum(outcomes.count(kind) for kind in kinds) for kinds in (("refused", "unnamed"), ("harmless",))
        )
        other = sum(outcomes.count(kind) for kind in ("other", "told"))
        faults = sum(damage.fault for damage in mine)
        rows.append([target.what, *map(str, (len(mine), refused, harmless, other, faults))])
    return (
        f"# Damaged at random\n\nCommand: `python benchmarks/fuzz.py --minutes {minutes:g} --seed {seed}`, "
        f"on a CPU. A fault is a hang of {SECONDS} s, a traceback or the death of the process, and another "
        "result from a file that has checksums. Of a damaged config another result is what was asked for; an "
        "ONNX file has no checksum.\n\n"
        f"{markdown_table(head, rows)}\n"
    )


if __name__ == "__main__":
    run(main)
