"""Stops that lose nothing: a signal ends a program between two writes, soon, and with one line.

A program that was told to stop (``kill``, Ctrl-C, a closed terminal, a cluster's time limit) raises
:class:`Stopped` in its main thread at once; inside :func:`finishing` it does so at the end. The exit code is
128 plus the signal's number. What does not end within ``PATIENCE``, such as a long call into a library, is
ended by a thread: everything on the disk survives that.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from vaevar.runs.slurm import REQUEUE_SIGNALS, requeue, requeues

# Names, as not every system has all of them. SIGUSR1 and SIGUSR2 are what jobs ask SLURM to send; SIGXCPU
# comes at a limit of the CPU time.
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
# Seconds from the signal to the end, at most.
PATIENCE = 8.0
# A terminal, `timeout` and a cluster may send a signal twice within this time, and mean one stop.
_SAME_STOP = 1.0


class Stopped(SystemExit):
    """The program was told to stop; raised in its main thread.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class _Stops:
    """What this process knows of stops.

    Attributes:
        number: of the first signal.
        raised: whether :class:`Stopped` was raised for it.
        importing: whether nothing has begun.
        held: depth of :func:`finishing`.
        said: whether the line was printed.
        advice: how to go on.
        children: process ids of those that end with this process.
        guest: whether the main thread belongs to a library.
        writing: an entry for each other thread inside :func:`finishing`.
        before: handlers before :func:`install`, by signal.
        requeue_on: signals after which the job is put into SLURM's queue again.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.raised = self.said = self.importing = self.guest = False
        self.held = 0
        self.writing: list[str] = []
        self.advice = "the same command goes on from there"
        self.children: list[Callable[[], Iterable[int]]] = []
        self.before: dict[int, Any] = {}
        self.requeue_on: set[int] = set(REQUEUE_SIGNALS)


_stops = _Stops()


def install(importing: bool = False) -> None:
    """Let signals stop this program. A signal that is ignored, such as SIGHUP below ``nohup``, stays ignored.

    Args:
        importing: nothing has begun: end at once. Libraries that are being imported may take an exception
            for a part that is not installed. Until the next call.
    """
    _stops.importing = importing
    if _stops.before or threading.current_thread() is not threading.main_thread():
        return
    for name in _NAMES:
        if hasattr(signal, name):
            _catch(getattr(signal, name))
    # The interpreter calls handlers between two of its instructions, and so never inside a call into C. It
    # writes to this socket at once.
    alarm, woken = socket.socketpair()
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(alarm, woken), daemon=True, name="stops").start()
    atexit.register(_farewell)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)


def install_as_guest() -> None:
    """Let signals stop this process, whose main thread is a library's and whose work is in another.

    It ends without unwinding anything, as soon as that thread is not inside :func:`finishing`.
    """
    install()
    _stops.guest = True


def _catch(number: int) -> None:
    before = signal.getsignal(number)
    if before is not signal.SIG_IGN and number not in _stops.before:
        _stops.before[number] = signal.SIG_DFL if before is None else before
        signal.signal(number, _on_signal)


def _forget() -> None:
    """A forked process is its parent's affair."""
    global _stops
    signal.set_wakeup_fd(-1)
    for number, before in _stops.before.items():
        signal.signal(number, before)
    _stops = _Stops()


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _stops.number is None:
        _stops.number = number
    if _stops.importing:
        _end_now("before it began anything")
    if _stops.guest:
        _wait_for_writes(PATIENCE)
        os._exit(128 + number)
    if not _stops.held and not _stops.raised:
        stop(_stops.number)


def stop(number: int) -> NoReturn:
    """End the program for a signal that came to it, or to another process of its run.

    Raises:
        Stopped: always.
    """
    if _stops.number is None:
        _stops.number = number
        _pass_on(number)
    _stops.raised = True
    raise Stopped(_stops.number)


def asked() -> int:
    """The signal that told this program to stop; 0: none has come."""
    return _stops.number or 0


@contextmanager
def finishing() -> Iterator[None]:
    """What is inside is finished before the program stops, in whichever thread.

    Raises:
        Stopped: at the end, in the main thread, if a signal came meanwhile. An error inside comes first.
    """
    if threading.current_thread() is not threading.main_thread():
        (writing := _stops.writing).append(threading.current_thread().name)
        try:
            yield
        finally:
            writing.pop()
        return
    _stops.held += 1
    try:
        yield
    finally:
        _stops.held -= 1
    if asked() and not _stops.held and not _stops.raised:
        stop(asked())


def _wait_for_writes(seconds: float) -> None:
    """Until no other thread is inside :func:`finishing`, at most so long."""
    end = time.monotonic() + seconds
    while _stops.writing and time.monotonic() < end:
        time.sleep(0.01)


def go_on(advice: str) -> None:
    """Say how to go on after a stop, where it is not "the same command goes on from there"."""
    _stops.advice = advice


def requeue_on(signals: Iterable[int]) -> None:
    """After which signals the job is put into SLURM's queue again; by default SIGUSR1 and SIGUSR2."""
    _stops.requeue_on = set(signals)
    if _stops.before:
        for number in _stops.requeue_on:
            _catch(number)


def end_together(children: Callable[[], Iterable[int]]) -> None:
    """Processes that get this process's signal too, and that it waits for.

    Args:
        children: gives their ids when a signal has come.
    """
    _stops.children.append(children)


def end_with_parent() -> None:
    """End this process when its parent is gone, for it would write on beside the next run."""
    parent = os.getppid()

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=follow, daemon=True, name="parent").start()


def end_if_nobody_reads() -> None:
    """End this process like one that SIGPIPE ends if its output goes nowhere, as after ``| head``."""
    if not hasattr(select, "poll"):
        return
    poll = select.poll()
    for stream in (1, 2):
        poll.register(stream, 0)
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        os._exit(128 + signal.SIGPIPE)


def _farewell() -> None:
    """Wait for the children, put the job into the queue again if that is due, say what happened, and end."""
    if not _stops.raised:
        return
    _wait(_pids(), PATIENCE)
    _wait_for_writes(PATIENCE)
    if not _stops.said:
        _stops.said = True
        _say(f"stopped by {_name()}: {_stops.advice}{_requeued()}")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()
    # Nothing is left to do but to take the interpreter down piece by piece, which takes seconds.
    os._exit(128 + asked())


def _watch(alarm: socket.socket, woken: socket.socket) -> None:
    """End the process when a stop takes too long, or at a second Ctrl-C.

    Args:
        alarm: yields the number of each signal.
        woken: its other end, kept open.
    """
    first = _first_stop(alarm)
    number = _stops.number = _stops.number or first
    began = time.monotonic()
    _pass_on(number)
    while (left := began + PATIENCE - time.monotonic()) > 0:
        alarm.settimeout(left)
        with contextlib.suppress(TimeoutError):
            if alarm.recv(1)[0] == signal.SIGINT and time.monotonic() - began > _SAME_STOP:
                break
    _end_now(f"in the middle of its work: {_stops.advice}")


def _first_stop(alarm: socket.socket) -> int:
    while (number := alarm.recv(1)[0]) not in _stops.before:  # another handler's
        pass
    return number


def _end_now(when: str) -> NoReturn:
    if not _stops.said:
        _stops.said = True
        # Its place on the screen may be a progress bar's, which hides the cursor.
        if sys.stdout is not None and sys.stdout.isatty():
            os.write(1, b"\n\x1b[?25h")
        _say(f"stopped by {_name()} {when}{_requeued()}")
    _pass_on(signal.SIGKILL)
    os._exit(128 + asked())


def _requeued() -> str:
    if leads() and _stops.number in _stops.requeue_on and requeues():
        return f"; {requeue()}"
    return ""


def leads() -> bool:
    """Whether this process speaks for the others of its run."""
    first = all(os.environ.get(name, "0") == "0" for name in ("SLURM_PROCID", "RANK", "LOCAL_RANK"))
    return first and multiprocessing.parent_process() is None


def _name() -> str:
    return signal.Signals(asked()).name


def _say(line: str) -> None:
    if leads():
        with contextlib.suppress(OSError):  # a closed terminal
            os.write(2, f"{line}\n".encode())


def _pids() -> list[int]:
    return [pid for children in _stops.children for pid in children()]


def _pass_on(number: int) -> None:
    for pid in _pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait(pids: list[int], seconds: float) -> None:
    """Until the processes have ended, at most so long."""
    end = time.monotonic() + seconds
    while pids and time.monotonic() < end:
        pids = [pid for pid in pids if _runs(pid)]
        time.sleep(0.05)


def _runs(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] == 0
    except ChildProcessError:  # its end was seen elsewhere
        return False
