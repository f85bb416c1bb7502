"""Clusters of dask.distributed that a comparison runs on: of its own workers, or of a running scheduler."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
from distributed import Client, LocalCluster

from vaevar.errors import UserError
from vaevar.runs import stopping
from vaevar.runs.threads import available_cpus

_SETTINGS: dict[str, Any] = {
    # A library that keeps the interpreter for minutes is at work, not dead. Processes that die are seen.
    "distributed.scheduler.worker-ttl": None,
    "distributed.deploy.lost-worker-timeout": "10 minutes",  # a new process takes its time on a busy machine
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.daemon": False,  # Lightning starts processes
    "distributed.worker.profile.enabled": False,  # it would look at the stack a hundred times a second
    "distributed.worker.http.routes": [],
}
_CONNECT_SECONDS = 10
# That a connection is closed, which is what a stop does.
logging.getLogger("distributed.batched").setLevel(logging.WARNING)
# For a process that Python starts beside the workers: it removes what a stop leaves, and warns of it.
_OF_STOPS = "ignore::UserWarning:multiprocessing.resource_tracker"


@contextmanager
def own_cluster(processes: int, dashboard: int | None = None) -> Iterator[Client]:
    """Worker processes on this machine, which end with this one and at its stop.

    They divide the CPUs among them, unless OMP_NUM_THREADS is set.

    Args:
        processes: number of workers.
        dashboard: port of dask's dashboard on this machine; default none.

    Raises:
        UserError: for a dashboard without bokeh, or a port that is taken.
    """
    if dashboard is not None and importlib.util.find_spec("bokeh") is None:
        raise UserError("--dashboard: dask's dashboard needs bokeh; install it with `pip install bokeh`")
    threads = max(1, available_cpus() // processes)
    settings = _SETTINGS | {"distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": threads}}
    if dashboard is None:
        settings["distributed.scheduler.http.routes"] = []
    before = os.environ.get("OMP_NUM_THREADS")
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        stack.callback(_restore, "OMP_NUM_THREADS", before)
        sys.warnoptions.append(_OF_STOPS)
        stack.callback(sys.warnoptions.remove, _OF_STOPS)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Port .* is already in use")
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=processes,
                    threads_per_worker=1,
                    memory_limit=0,
                    silence_logs=logging.ERROR,
                    dashboard_address=f"127.0.0.1:{dashboard or 0}",
                    scheduler_kwargs={"dashboard": dashboard is not None},
                )
            )
        if dashboard and cluster.scheduler.http_server.port != dashboard:
            raise UserError(f"--dashboard {dashboard}: the port is in use; give another one")
        stopping.end_together(lambda: [nanny.pid for nanny in cluster.workers.values() if nanny.pid])
        yield stack.enter_context(Client(cluster))


def _restore(name: str, value: str | None) -> None:
    """Undo what dask does to this process's environment for its children's sake."""
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value


@contextmanager
def cluster_at(scheduler: str) -> Iterator[Client]:
    """The workers of a scheduler that runs already, which stay when this command ends.

    Args:
        scheduler: its address, such as ``tcp://host:8786``.

    Raises:
        UserError: when it does not answer, or a worker has several threads.
    """
    try:
        client = Client(scheduler, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--scheduler {scheduler}: no scheduler of dask answers there ({' '.join(str(error).split())}); "
            "give the address that `dask scheduler` prints, such as tcp://host:8786"
        ) from None
    stopping.go_on(
        "the cluster's workers finish the runs that they have begun; the same command goes on from there"
    )
    with client:
        for worker, threads in client.nthreads().items():
            if threads != 1:  # several tasks in one process, where their output would mix
                raise UserError(
                    f"--scheduler {scheduler}: its worker at {worker} has {threads} threads for tasks; start "
                    "workers with `dask worker ADDRESS --nthreads 1`, and OMP_NUM_THREADS for a run's threads"
                )
        yield client
