"""How many CPU threads a run takes: no more than its share of the machine, and than its grid is worth."""

from __future__ import annotations

import os
from pathlib import Path

import torch

# Below this a thread has too little to do between two waits for the others.
POINTS_PER_THREAD = 1000
_QUOTAS = {  # of a container, in microseconds of each period: all CPUs together
    "v2": ("/sys/fs/cgroup/cpu.max",),
    "v1": ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
}


def limit_threads(points: int) -> None:
    """Let torch, and what follows it, use as many threads as a grid is worth on the CPUs that there are.

    OMP_NUM_THREADS, if set, says how many.

    Args:
        points: of the grid.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    threads = min(available_cpus(), max(1, points // POINTS_PER_THREAD))
    if threads < torch.get_num_threads():
        torch.set_num_threads(threads)


def available_cpus() -> int:
    """CPUs that this process may use: by its affinity, its container's quota, and SLURM's share of a task."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get("SLURM_CPUS_PER_TASK", "")
    limits = [cpus, int(share) if share.isdecimal() else cpus, _quota() or cpus]
    return max(1, min(limits))


def _quota() -> int | None:
    for paths in _QUOTAS.values():
        try:
            words = " ".join(Path(path).read_text(encoding="utf-8") for path in paths).split()
        except OSError:
            continue
        # "max" and -1 are no limit.
        if len(words) == 2 and words[0].isdecimal():
            return max(1, int(words[0]) // int(words[1]))
    return None
