"""A run directory belongs to one process at a time, and in it to one thread.

The lock is a file that says who holds it, so it works on file systems without locks of their own, and the
second process can be told whose the directory is. Processes that a run starts itself share its lock.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from vaevar.errors import UserError
from vaevar.mistakes.words import words

NAME = ".lock"
BEAT_SECONDS = 20.0
# A holder on another machine that has not been heard of for so long is gone.
SILENCE_SECONDS = 180.0
# A file without a holder in it: one that is being written, or one that a crash of the machine emptied.
EMPTY_SECONDS = 10.0


_held: list[tuple[Path, int]] = []


@contextmanager
def holding(directory: Path) -> Iterator[None]:
    """Remember that a run of this thread, or of the process that leads this one, keeps a directory."""
    mine = directory.absolute(), threading.get_ident()
    _held.append(mine)
    try:
        yield
    finally:
        _held.remove(mine)


def is_held(directory: Path) -> bool:
    """Whether a run of this thread keeps the directory, and its record. That of another is another's."""
    return (directory.absolute(), threading.get_ident()) in _held


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a run directory.

    Args:
        directory: of the run; it exists.

    Raises:
        UserError: when another process, or another thread of this one, holds it.
    """
    path = directory / NAME
    holder = _myself()
    text = json.dumps(holder)
    while not _create(path, text):
        _remove_if_stale(path, holder)
    released = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, released), name="run lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        released.set()
        if _read(path) == text:
            path.unlink(missing_ok=True)


def _myself() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "started": _start_of(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID"),
        "restarts": os.environ.get("SLURM_RESTART_COUNT", "0"),
        "since": datetime.now().astimezone().isoformat(" ", "seconds"),
    }


def _create(path: Path, text: str) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return True


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _remove_if_stale(path: Path, me: dict[str, Any]) -> None:
    """Remove a lock whose holder is gone.

    Raises:
        UserError: when the holder is at work.
    """
    text = _read(path)
    if text is None:
        return
    holder = _parsed(text)
    silent = _silence(path)
    if holder is None:
        if silent < EMPTY_SECONDS:
            time.sleep(0.2)
            return
    elif not _gone(holder, me, silent):
        job = f", job {holder['job']}" if holder.get("job") else ""
        mine = {"host": me["host"], "pid": me["pid"]}.items() <= holder.items()
        who = (
            "another thread of this process" if mine else f"process {holder['pid']} on {holder['host']}{job}"
        )
        raise UserError(
            f"{path.parent}: {who} has been writing into this run "
            f"since {holder.get('since')}; wait for it, or {words().another} (if it no longer exists, "
            f"delete {path})"
        )
    # Renamed first: of two processes that find a stale lock, one gets it, and neither removes a new one.
    taken = path.with_name(f"{NAME}.{platform.node()}.{os.getpid()}")
    try:
        os.rename(path, taken)
    except FileNotFoundError:
        return
    if _read(taken) != text and not path.exists():
        os.rename(taken, path)
    taken.unlink(missing_ok=True)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        holder = json.loads(text)
    except ValueError:
        return None
    return holder if isinstance(holder, dict) and {"host", "pid"} <= holder.keys() else None


def _gone(holder: dict[str, Any], me: dict[str, Any], silent: float) -> bool:
    # A requeued job has the number it had, and its processes of before were ended.
    if me["job"] and holder.get("job") == me["job"] and holder.get("restarts") != me["restarts"]:
        return True
    if holder["host"] != me["host"]:
        return silent > SILENCE_SECONDS
    started = _start_of(int(holder["pid"]))
    return started is None or (bool(holder.get("started")) and holder["started"] != started)


def _start_of(pid: int) -> str | None:
    """When a process of this machine started, as the system counts it; None if there is none."""
    try:
        # The name of the program comes second, in parentheses, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        state, start = fields.split()[0], fields.split()[19]
        return None if state in "ZX" else start
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:  # somebody else's
        pass
    return "unknown"


def _silence(path: Path) -> float:
    """Seconds since the holder was heard of, by the clock of the file system that keeps the lock."""
    probe = path.with_name(f"{NAME}.probe.{platform.node()}.{os.getpid()}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _beat(path: Path, released: threading.Event) -> None:
    while not released.wait(BEAT_SECONDS):
        try:
            os.utime(path)
        except OSError:
            continue  # a file system that does not answer now may answer later
