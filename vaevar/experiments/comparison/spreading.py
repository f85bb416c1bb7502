"""The runs of a comparison, spread over processes by dask.distributed: a task is one arm of one case.

Locks and records decide whether a run is made, as in :mod:`vaevar.experiments.comparison.sweep`; the
scheduler only says where. So several commands may share a cluster, and what is begun twice is run once.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, Future, Worker, get_worker, wait

from vaevar.errors import UserError
from vaevar.experiments.comparison.cluster import cluster_at, own_cluster
from vaevar.experiments.comparison.record import Case
from vaevar.experiments.comparison.sweep import Sweep, attempt, say
from vaevar.runs import stopping

_LOOK_EVERY = 2.0  # seconds: for workers that have joined or died
_NEW_WORKER = 600.0  # seconds until one that died is given up


def spread(sweep: Sweep, processes: int, scheduler: str | None = None, dashboard: int | None = None) -> bool:
    """Run what is missing, on several workers. True when nothing failed.

    Args:
        sweep: what to run. The workers use the current directory of this process, and its paths.
        processes: workers of this command's own.
        scheduler: instead, the address of a scheduler, whose workers see the same files.
        dashboard: port of dask's dashboard for workers of this command's own; default none.

    Raises:
        UserError: for a cluster that does not answer or cannot do it.
    """
    runs = sweep.missing()
    if not runs:
        return True
    cluster = own_cluster(processes, dashboard) if scheduler is None else cluster_at(scheduler)
    with cluster as client:
        return _Tasks(client, sweep, ours=scheduler is None).run(runs)


@dataclass(frozen=True)
class _Task:
    """A run that has been given to a worker."""

    case: Case
    arm: str
    worker: str


class _Tasks:
    """The tasks of one command, each for a worker that is idle: one that dies takes no other task with it."""

    def __init__(self, client: Client, sweep: Sweep, ours: bool) -> None:
        self.client, self.sweep, self.ours = client, sweep, ours
        self.waiting: deque[tuple[Case, str]] = deque()
        self.active: dict[Future, _Task] = {}
        self.tried_again: set[tuple[Case, str]] = set()
        self.fine = True
        self.alone = 0.0
        self.topic = f"comparison-{uuid4().hex}"

    def run(self, runs: list[tuple[Case, str]]) -> bool:
        """True when none failed."""
        self.waiting.extend(runs)
        self.client.subscribe_topic(self.topic, _print_line)
        try:
            while self.waiting or self.active:
                self._look()
        finally:
            self.client.unsubscribe_topic(self.topic)
        return self.fine

    def _look(self) -> None:
        """Take what has ended, give work to workers that are idle, and wait for the next end."""
        workers = self.client.nthreads()
        for future in list(self.active):
            if future.done():
                self._ended(future, self.active.pop(future))
            elif self.active[future].worker not in workers:
                future.cancel()
                self._died(self.active.pop(future))
        busy = {task.worker for task in self.active.values()}
        for worker in [name for name, threads in workers.items() if threads == 1 and name not in busy]:
            if self.waiting:
                self._submit(*self.waiting.popleft(), worker)
        if self.active:
            self.alone = 0.0
            with contextlib.suppress(TimeoutError):
                wait(list(self.active), timeout=_LOOK_EVERY, return_when="FIRST_COMPLETED")
        elif self.waiting:
            self._wait_for_workers()

    def _wait_for_workers(self) -> None:
        if not self.alone:
            self.alone = time.monotonic()
            say("there is no idle worker; waiting for one")
        if self.ours and time.monotonic() > self.alone + _NEW_WORKER:
            raise UserError("worker processes died, and no new ones have started; give the command again")
        time.sleep(_LOOK_EVERY)

    def _submit(self, case: Case, arm: str, worker: str) -> None:
        place = str(Path.cwd())
        future = self.client.submit(
            _task, self.sweep, case, arm, place, self.topic, self.ours, workers=[worker], pure=False
        )
        self.active[future] = _Task(case, arm, worker)

    def _ended(self, future: Future, task: _Task) -> None:
        error = future.exception() if future.status == "error" else None
        if future.status == "finished":
            return
        self.fine = False
        if not isinstance(error, _ReportedError):
            text = "".join(traceback.format_exception(error)).rstrip()
            print(f"error: {error}" if isinstance(error, UserError) else text, file=sys.stderr)
            say(f"{task.case.name} {task.arm}: failed")

    def _died(self, task: _Task) -> None:
        run = (task.case, task.arm)
        name = f"{task.case.name} {task.arm}: its worker, {task.worker}, has died"
        if run in self.tried_again:
            self.fine = False
            say(f"{name} too: failed")
        else:
            self.tried_again.add(run)
            self.waiting.appendleft(run)
            say(f"{name}; it is tried once more")


class _ReportedError(Exception):
    """A run has failed, and the reason has been told."""


def _print_line(event: tuple[float, Any]) -> None:
    _, (stream, line) = event
    print(line, file=getattr(sys, stream), flush=True)


def _send(worker: Worker, topic: str, stream: str, line: str) -> None:
    worker.log_event(topic, (stream, line))


def _task(sweep: Sweep, case: Case, arm: str, directory: str, topic: str, ours: bool) -> None:
    """One run, in a thread of a worker. What it says is said by the command that submitted it.

    Raises:
        _ReportedError: when it failed. A result would have to be fetched from the worker, which may die.
    """
    worker = get_worker()
    if ours:
        worker.loop.add_callback(stopping.install_as_guest)
    try:
        os.chdir(directory)
    except OSError as error:
        raise UserError(
            f"the worker at {worker.address} has no directory {directory} ({error.strerror}); workers need "
            "the same files under the same names"
        ) from None
    said = {name: _Lines(partial(_send, worker, topic, name)) for name in ("stdout", "stderr")}
    with (
        contextlib.redirect_stdout(said["stdout"]),
        contextlib.redirect_stderr(said["stderr"]),
        # Arrays of dask in a run are computed here, not by other workers that have runs to do.
        dask.config.set(scheduler="threads"),
    ):
        try:
            fine = attempt(sweep, case, arm)
        except SystemExit as stop:  # it would end the worker
            say(f"{case.name} {arm}: failed with exit code {stop.code}")
            fine = False
    if not fine:
        raise _ReportedError


class _Lines(io.TextIOBase):
    """A stream whose lines go elsewhere, each when it is whole."""

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send, self._rest = send, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._send(line)
        return len(text)
