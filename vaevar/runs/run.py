"""One run of the command line: it locks its directory, says what it is made of, and goes on where it may."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from vaevar.errors import UserError
from vaevar.files import replacing
from vaevar.mistakes.notices import told
from vaevar.mistakes.words import words
from vaevar.runs.aside import OLD, move_aside, place_aside
from vaevar.runs.checkpoints import checkpoints_in, made_by
from vaevar.runs.leaving import (
    CONFIG,
    PREPARATIONS,
    entries,
    is_arm,
    is_ours,
    keep_metrics,
    made_by_now,
    matches,
    put_back,
    refuse_arms,
    remove_empty,
    withdraw,
)
from vaevar.runs.lock import holding, locked
from vaevar.runs.record import BEGUN, ENDED, MOVING, NAME, now, read_record, record_of, write_record
from vaevar.runs.settings import ORIGIN, Settings, files_of

# What runs write beside the directories of arms, also when a kill kept them from listing it.
WRITTEN = (
    *PREPARATIONS, "checkpoints", "hpc_ckpt_*.ckpt", "metrics*.csv", "scores.csv", "forecasts.csv",
    "summary.md", "figures", "profile.json", "cases.csv", "*.partial",
)  # fmt: skip


class Start(Enum):
    """How a run begins."""

    ANEW = "anew"
    GOING_ON = "going on"
    OVER = "over"


@dataclass(frozen=True)
class Run:
    """A command and the directory it writes to.

    Attributes:
        directory: of the run.
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        settings: what its results depend on.
        config: the resolved config, as text.
        checkpoints: directories of a fit's checkpoints.
        restart: begin again, with what is there moved aside.
        from_checkpoint: the user says from which of its own checkpoints it goes on.
        devices: what it runs on, for people.
        already: asked when less is wanted than before: what is there already, if that is more; else empty.
    """

    directory: Path
    command: str
    settings: Settings
    config: str
    checkpoints: tuple[Path, ...] = ()
    restart: bool = False
    from_checkpoint: bool = False
    devices: str = ""
    already: Callable[[], str] = lambda: ""

    def start(self) -> Start:
        """How the run begins, from what lies in its directory. Nothing is changed.

        Raises:
            UserError: when another run's results are there.
        """
        if self.restart:
            return Start.ANEW
        foreign = self.checkpoints_elsewhere(of_this_run=False)
        if foreign and not self.from_checkpoint and ORIGIN not in self.settings.values:
            names = ", ".join(path.name for path in foreign)
            raise UserError(
                f"{foreign[0].parent}: holds checkpoints of another run ({names}); give ModelCheckpoint no "
                "dirpath, or another one"
            )
        if not self.has_results():
            return Start.ANEW
        before = read_record(self.directory)
        values = self._check(before) if not self.from_checkpoint or "settings" in (before or {}) else {}
        if self.from_checkpoint:
            return Start.GOING_ON
        if self.settings.shrunk(values) and self.already():
            return Start.OVER
        outputs = [path.exists() for path in self.settings.outputs.values()]
        whole = all(outputs) if outputs else not self.lost_checkpoints()
        ended = self._readable_record().get("status") == ENDED and whole
        over = self.command == "fit" and ended and not self.settings.grown(values)
        return Start.OVER if over else Start.GOING_ON

    def _check(self, before: dict[str, Any] | None) -> dict[str, Any]:
        """The settings in the record of a run that this one may go on with.

        Raises:
            UserError: when it may not.
        """
        if before is None:
            raise UserError(
                f"{self.directory}: holds results of which no {NAME} says what made them; {_advice()}"
            )
        if "settings" not in before:
            raise UserError(
                f"{self.directory}: an earlier version of vaevar made this run, and kept no settings to go "
                f"on with; {_advice()}"
            )
        values = self.settings.before(before)
        if refusal := self.settings.refusal(values):
            raise UserError(f"{self.directory} {refusal}; {_advice()}")
        return values

    def has_results(self) -> bool:
        """Whether the directory holds what a first try that was refused would not have left."""
        inside = (path for path in (self.directory / "checkpoints", *self.checkpoints) if self._holds(path))
        if any(is_arm(path) for path in self._directories()) or any(map(checkpoints_in, inside)):
            return True
        record = self._readable_record()
        # A command that has left nothing but its record here keeps its results elsewhere, and asks there.
        results = any(not matches(name, PREPARATIONS) for name in record.get("made", ()))
        done = record.get("status") == ENDED and results and _does_work(record)
        return done or bool(self.checkpoints_elsewhere(of_this_run=True))

    def lost_checkpoints(self) -> bool:
        """Whether a fit has trained here, of which no checkpoint is left."""
        record = self._readable_record()
        if not self.checkpoints or record.get("settings", {}).get("command") != "fit":
            return False
        if any(map(checkpoints_in, self.checkpoints)):
            return False
        if record.get("status") == BEGUN and any(self.directory.glob("metrics*.csv")):
            return True
        return any(path.name in record.get("made", ()) or path.is_dir() for path in self.checkpoints)

    def _readable_record(self) -> dict[str, Any]:
        try:
            return read_record(self.directory) or {}
        except UserError:  # a damaged one alone keeps nobody from beginning
            return {}

    def _directories(self) -> list[Path]:
        """Those in the run directory that are not runs of their own."""
        paths = self.directory.iterdir() if self.directory.is_dir() else ()
        return sorted(path for path in paths if path.is_dir() and not (path / NAME).exists())

    def _holds(self, path: Path) -> bool:
        return path.absolute().is_relative_to(self.directory.absolute())

    def progress(self) -> dict[Path, int]:
        """What changes with every analysis and every checkpoint, with its time."""
        arms = (file for path in self._directories() for file in path.glob("restart*.pt"))
        inside = (file for path in self.checkpoints for file in checkpoints_in(path))
        return {path: path.stat().st_mtime_ns for path in (*arms, *inside)}

    def checkpoints_elsewhere(self, of_this_run: bool) -> list[Path]:
        """This run's checkpoints, or those of others, in places outside its directory."""
        number = self._readable_record().get("run", "")
        elsewhere = (path for path in self.checkpoints if not self._holds(path))
        files = (file for path in elsewhere for file in checkpoints_in(path))
        return [file for file in files if (made_by(file) == number) is of_this_run]

    def move_aside(self, record: dict[str, Any]) -> Path | None:
        """Move what an earlier run made away, in steps that a kill may interrupt. The record goes last.

        Args:
            record: of that run, perhaps empty.

        Returns:
            Where it is now; None if there was nothing.
        """
        if record.get("status") != MOVING:
            names = [name for name in self._made(record.get("made", ())) if name != NAME]
            if not names and not (self.directory / NAME).exists():
                return None
            record = record | {"status": MOVING, "aside": place_aside(self.directory).name, "moving": names}
            write_record(self.directory, record)
        place = self.directory / OLD / record["aside"]
        for file in self.checkpoints_elsewhere(of_this_run=True):
            move_aside(file.parent, [file.name], file.parent / OLD / record["aside"])
            print(f"{file}: is now in {file.parent / OLD / record['aside']}")
        move_aside(self.directory, [*record["moving"], NAME], place)
        return place

    def _made(self, listed: Any) -> list[str]:
        """Names in the directory of what a run made: what its record lists, and what runs write."""
        directories = self._directories()
        names = []
        for path in sorted(self.directory.iterdir()):
            known = matches(path.name, WRITTEN)
            another_run = path.is_dir() and path not in directories
            if (known or path.name in listed or is_arm(path)) and not another_run and not is_ours(path.name):
                names.append(path.name)
        return names


@contextmanager
def running(
    run: Run, first_process: bool = True, complete: Callable[[], bool] = lambda: True
) -> Iterator[Start]:
    """Hold the run directory and keep its record while a command runs.

    Args:
        run: what runs.
        first_process: of the run. The others only learn how it begins.
        complete: asked when the command has ended without an error, whether nothing is left to do.

    Raises:
        UserError: when another process writes there, or another run's results are there.
    """
    refuse_arms(run.directory)
    with holding(run.directory):
        yield from _running(run, first_process, complete)


def _running(run: Run, first_process: bool, complete: Callable[[], bool]) -> Iterator[Start]:
    judging = run.command in ("validate", "test")
    if not first_process or (judging and run.has_results()):
        yield Start.ANEW if judging else run.start()
        return
    new = [path for path in (run.directory, *run.directory.parents) if not path.exists()]
    try:
        run.directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{run.directory}: is a file, and the run would need a directory there") from None
    try:
        with locked(run.directory):
            _finish_moving(run)
            start = Start.ANEW if judging else run.start()
            if start is Start.OVER:
                yield start
            else:
                yield from _recorded(run, start, complete)
    finally:
        remove_empty(new)


def _finish_moving(run: Run) -> None:
    try:
        before = read_record(run.directory)
    except UserError:
        if not run.restart:
            return  # said where it matters: when there are results beside it
        before = {}
    interrupted = before is not None and before.get("status") == MOVING
    if run.restart or interrupted:
        place = run.move_aside(before or {})
        if place is not None:
            print(f"{run.directory}: what was there is now in {place}")


def _recorded(run: Run, start: Start, complete: Callable[[], bool]) -> Iterator[Start]:
    before = read_record(run.directory) if start is Start.GOING_ON else None
    if run.lost_checkpoints():
        print(f"{run.directory}: no checkpoint is left of what was trained here; the fit begins again")
    keep_metrics(run.directory)
    there, progress = entries(run.directory), run.progress()
    earlier = (run.directory / CONFIG).read_bytes() if CONFIG in there else run.config.encode()
    with replacing(run.directory / CONFIG) as partial:
        partial.write_text(run.config, encoding="utf-8")
    record = record_of(run.settings, before) | {"device": run.devices}
    write_record(run.directory, record)
    try:
        yield start
    except BaseException as error:
        if isinstance(error, UserError):
            record = record | {"fault": str(error)}
        # Whatever ended the run is told, not what else goes wrong because of it, such as a full disk.
        with suppress(OSError):
            if start is Start.ANEW and not run.has_results():
                withdraw(run.directory, there)
            elif before is not None and run.progress() == progress:
                # Nothing was done with the new settings, which may have been the mistake.
                put_back(run.directory, before, earlier, there)
            else:
                _close(run, record, there, BEGUN)
        raise
    if before is not None and _found_all_done(run, before, record, progress):
        put_back(run.directory, before, earlier, there)
    else:
        _close(run, record, there, ENDED if complete() else BEGUN)


def _found_all_done(
    run: Run, before: dict[str, Any], record: dict[str, Any], progress: dict[Path, int]
) -> bool:
    """Whether a cycle that had ended was given again, and nothing was computed."""
    same = before.get("settings") == record["settings"] and before.get("status") == ENDED
    return same and bool(progress) and not run.checkpoints and run.progress() == progress


def _close(run: Run, record: dict[str, Any], there: set[str], status: str) -> None:
    made = sorted({*made_by_now(run.directory, record, there), *run._made(())})
    # Files that the run itself has made, such as its samples, have a content now.
    values = run.settings.with_files(record["settings"])
    said = list(dict.fromkeys([*record.get("warnings", ()), *told()]))
    content = record | {"status": status, "until": now(), "made": made, "warnings": said}
    files = files_of(values) | run.settings.written()
    left = {"left": run.settings.changed()}
    write_record(run.directory, content | {"files": files, "settings": values} | left)


def _advice() -> str:
    """How to begin another run instead."""
    return f"{words().another}, or {words().restart}, which moves the old run aside"


def _does_work(record: dict[str, Any]) -> bool:
    return record.get("settings", {}).get("command") not in ("validate", "test")
