"""A cycle takes no more threads than its grid is worth, nor than its share of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vaevar.runs import threads
from vaevar.runs.threads import available_cpus, limit_threads


@pytest.mark.parametrize(
    ("points", "cpus", "expected"),
    [(16 * 32, 64, 1), (48 * 96, 64, 4), (48 * 96, 2, 2), (721 * 1440, 64, 64), (721 * 1440, 8, 8)],
)
def test_as_many_as_the_grid_is_worth(
    points: int, cpus: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = [64]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: used[-1])
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.setattr(threads, "available_cpus", lambda: cpus)
    limit_threads(points)
    assert used[-1] == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    used.append(64)
    limit_threads(points)
    assert used[-1] == 64


@pytest.mark.parametrize(
    ("files", "expected"),
    [(["200000 100000"], 2), (["50000 100000"], 1), (["max 100000"], 8), (["300000", "100000"], 3),
     (["-1", "100000"], 8), ([], 8)],
)  # fmt: skip
def test_a_containers_quota_counts(
    files: list[str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(tmp_path / str(number)) for number in range(len(files) or 1)]
    for path, content in zip(paths, files, strict=False):
        Path(path).write_text(content + "\n")
    monkeypatch.setattr(threads, "_QUOTAS", {"this": tuple(paths)})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert available_cpus() == expected
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert available_cpus() == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, True), ({"GOMP_SPINCOUNT": "7"}, False), ({"OMP_WAIT_POLICY": "active"}, False)],
)
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given: dict[str, str], expected: bool) -> None:
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    program = "import vaevar, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, env=clean | given, capture_output=True, text=True, check=True)
    assert (done.stdout.strip() not in ("None", "7")) is expected
