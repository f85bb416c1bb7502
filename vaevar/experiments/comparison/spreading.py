"""The runs of a comparison, spread over processes by dask.distributed: a task is one arm of one case.

Locks and records decide whether a run is made, as in :mod:`vaevar.experiments.comparison.sweep`; the
scheduler only says where. So several commands may share a cluster, and what is begun twice is run once.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, Future, Worker, get_worker, wait
from distributed.scheduler import KilledWorker

from vaevar.errors import UserError
from vaevar.experiments.comparison.cluster import cluster_at, own_cluster, require_one_thread
from vaevar.experiments.comparison.record import Case
from vaevar.experiments.comparison.sweep import Sweep, attempt, say
from vaevar.runs import stopping

_LOOK_EVERY = 5.0  # seconds: for workers that have joined


def spread(
    sweep: Sweep, processes: int = 2, scheduler: str | None = None, dashboard: int | None = None
) -> bool:
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


class _Tasks:
    """The tasks of one command, one for each worker at a time: a worker that dies takes no other with it."""

    def __init__(self, client: Client, sweep: Sweep, ours: bool) -> None:
        self.client, self.sweep, self.ours = client, sweep, ours
        self.names: dict[str, str] = {}
        self.topic = f"comparison-{uuid4().hex}"
        client.subscribe_topic(self.topic, _print_line)
        client.subscribe_topic("all", self._tell_of_a_death)

    def run(self, runs: list[tuple[Case, str]]) -> bool:
        """True when none failed."""
        waiting, active, fine = deque(runs), set[Future](), True
        while waiting or active:
            while waiting and len(active) < self._workers():
                active.add(self._submit(*waiting.popleft()))
            with contextlib.suppress(TimeoutError):
                wait(active, timeout=_LOOK_EVERY, return_when="FIRST_COMPLETED")
            for future in [future for future in active if future.done()]:
                active.remove(future)
                fine &= self._succeeded(future)
        return fine

    def _workers(self) -> int:
        return max(1, len(self.client.nthreads()))

    def _submit(self, case: Case, arm: str) -> Future:
        key = f"arm-{uuid4().hex}"
        self.names[key] = f"{case.name} {arm}"
        place = str(Path.cwd())
        return self.client.submit(_task, self.sweep, case, arm, place, self.topic, self.ours, key=key)

    def _succeeded(self, future: Future) -> bool:
        if future.status == "finished":
            return bool(future.result())
        name, error = self.names[str(future.key)], future.exception()
        if isinstance(error, KilledWorker):
            say(f"{name}: failed: the processes that ran it have died; the machine may be short of memory")
        else:
            print(f"error: {error}" if isinstance(error, UserError) else _text(error), file=sys.stderr)
            say(f"{name}: failed")
        return False

    def _tell_of_a_death(self, event: tuple[float, Any]) -> None:
        _, message = event
        if message.get("action") != "remove-worker" or message.get("expected"):
            return
        for key in message["processing-tasks"]:
            if key in self.names:
                say(f"{self.names[key]}: its worker, {message['worker']}, has died")


def _text(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def _print_line(event: tuple[float, Any]) -> None:
    _, (stream, line) = event
    print(line, file=getattr(sys, stream), flush=True)


def _send(worker: Worker, topic: str, stream: str, line: str) -> None:
    worker.log_event(topic, (stream, line))


def _task(sweep: Sweep, case: Case, arm: str, directory: str, topic: str, ours: bool) -> bool:
    """One run, in a thread of a worker. What it says is said by the command that submitted it."""
    worker = get_worker()
    require_one_thread(worker.address, worker.state.nthreads)
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
            return attempt(sweep, case, arm)
        except SystemExit as stop:  # it would end the worker
            print(f"{case.name} {arm}: ended with exit code {stop.code}", file=sys.stderr)
            return False


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
