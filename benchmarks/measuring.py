"""What the benchmarks measure with: a clock that waits for the device, peak memory, a device's own limits.

Times on a machine that others use too say little: ratios are of one run, and a CPU's of processor time.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

_SECONDS = 0.3  # that a limit is measured for


def wait(device: torch.device | str) -> None:
    """Until all that was asked of the device is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


class Timer:
    """``with Timer(device) as timer``: how long that took, the device's own work included.

    Attributes:
        seconds: by the wall clock.
        busy_seconds: on a CPU processor time, summed over threads, which other jobs change little; on a GPU
            the wall clock again.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.seconds = self.busy_seconds = 0.0

    def __enter__(self) -> Timer:
        wait(self.device)
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        wait(self.device)
        self.seconds = time.perf_counter() - self._began[0]
        busy = time.process_time() - self._began[1]
        self.busy_seconds = busy if self.device.type == "cpu" else self.seconds


def forget_peak(device: torch.device | str) -> None:
    """Count a GPU's peak memory from here on; a process' own cannot be forgotten."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)  # where nothing was asked of it yet, this sets it up
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb() -> float:
    """The most memory that this process has held so far, GB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # What getrusage tells includes, in a child, what its parent held when it was started.
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # in bytes on macOS


def device_peak_gb(device: torch.device | str) -> float | None:
    """The most that torch has held of a GPU since :func:`forget_peak`, GB; None on a CPU."""
    if torch.device(device).type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / 1e9


def machine(device: torch.device | str) -> dict[str, Any]:
    """The device's name, torch's threads and version."""
    gpu = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def matmul_gflops(device: torch.device | str, dtype: torch.dtype = torch.float32) -> float:
    """What the device reaches in a large matrix product, GFLOP in a busy second."""
    size = 8192 if torch.device(device).type == "cuda" else 2048
    a = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / _busy_seconds(lambda: torch.mm(a, a), device) / 1e9


def bandwidth_gb_per_s(device: torch.device | str) -> float:
    """Bytes read and written by a copy that no cache holds, GB in a busy second."""
    a = torch.ones(2**26, device=device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / _busy_seconds(lambda: b.copy_(a), device) / 1e9


def _busy_seconds(work: Callable[[], object], device: torch.device | str) -> float:
    """Of one call, from as many as a moment has room for; the first, which sets things up, is left out."""
    work()
    with Timer(device) as one:
        work()
    calls = max(1, round(_SECONDS / one.seconds))
    with Timer(device) as several:
        for _ in range(calls):
            work()
    return several.busy_seconds / calls


@dataclass(frozen=True)
class Work:
    """What a computation asks of a device.

    Attributes:
        gflop: 1e9 operations of its matrix products and convolutions.
        gb: 1e9 bytes that its operations read and write, each by itself, as torch runs them when nothing is
            compiled.
    """

    gflop: float
    gb: float

    def shares(self, busy_seconds: float, matmul_gflops: float, bandwidth: float) -> dict[str, float]:
        """Shares of the time that the device needs at the least: to calculate, and to move the bytes."""
        return {
            "of_matmul": self.gflop / matmul_gflops / busy_seconds,
            "of_bandwidth": self.gb / bandwidth / busy_seconds,
        }


class _Traffic(TorchDispatchMode):
    """Adds up the bytes of all operations' inputs and results; views move none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if not func.is_view and func is not torch.ops.aten._unsafe_view.default:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return made


def work_of(computation: Callable[[], object]) -> Work:
    """Count while ``computation`` runs; on the device "meta" that takes neither time nor memory."""
    with FlopCounterMode(display=False) as flops, _Traffic() as traffic:
        computation()
    return Work(flops.get_total_flops() / 1e9, traffic.bytes / 1e9)


def in_own_process(program: str, arguments: Sequence[object]) -> dict[str, Any]:
    """Run one case of a benchmark by itself, so that its peak memory is its own.

    Args:
        program: a Python file whose last line of output is the JSON of a result.
        arguments: of its command line.

    Raises:
        SystemExit: with the program's exit code when it failed; it has said why itself.
    """
    command = [sys.executable, program, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def write_results(path: str | Path | None, results: Any) -> None:
    """As JSON; dataclasses become mappings. Nothing without a path."""
    if path is None:
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(results, indent=1, default=asdict) + "\n")
