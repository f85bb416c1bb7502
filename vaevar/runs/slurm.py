"""A job of SLURM: whether its end puts it into the queue again."""

from __future__ import annotations

import os
import signal
import subprocess

# Those that jobs ask for with `#SBATCH --signal`. SLURM's own SIGTERM comes when it needs no help.
REQUEUE_SIGNALS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
_SECONDS = 1.5


def requeues() -> bool:
    """Whether this is a batch job, and not somebody at a terminal of the cluster."""
    name = os.environ.get("SLURM_JOB_NAME")
    return "SLURM_JOB_ID" in os.environ and name not in ("bash", "interactive", None)


def requeue() -> str:
    """Put this job into the queue again.

    Returns:
        what became of it, for people.
    """
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    command = ["scontrol", "requeue", job]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"job {job} could not be requeued ({error}): submit it again"
    if done.returncode:
        return f"job {job} could not be requeued ({done.stderr.strip()}): submit it again"
    return f"job {job} is in the queue again"
