"""Measurements for benchmarks: a clock that waits for the device, peak memory, and the limits of a device.

Times on a shared machine vary: compare ratios within one run, and on a CPU processor time.
"""

from __future__ import annotations

import json
import math
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

from vaevar.files import require_writable, save_text

_SECONDS = 0.3  # duration of the measurement of a limit


def wait(device: torch.device | str) -> None:
    """Wait until the device has finished its work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


class Timer:
    """``with Timer(device) as timer``: the time of the block, including the device's work.

    Attributes:
        seconds: wall-clock time.
        busy_seconds: on a CPU, processor time summed over threads, which other jobs hardly affect; on a GPU,
            wall-clock time.
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
    """Reset the peak memory of a GPU; that of a process cannot be reset."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)  # initialises a device that has not been used
        torch.cuda.reset_peak_memory_stats(device)


def resident_gb() -> float:
    """Memory that this process holds now, in GB; NaN where there is no ``/proc``."""
    return _status_gb("VmRSS:")


def _status_gb(entry: str) -> float:
    status = Path("/proc/self/status")
    if not status.is_file():
        return math.nan
    return int(status.read_text(encoding="utf-8").partition(entry)[2].split()[0]) / 1e6


def peak_gb() -> float:
    """Peak memory of this process so far, in GB."""
    peak = _status_gb("VmHWM:")
    if not math.isnan(peak):
        # In a child process, getrusage includes the memory of its parent at the start.
        return peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # in bytes on macOS


def device_peak_gb(device: torch.device | str) -> float | None:
    """Peak GPU memory allocated by torch since :func:`forget_peak`, in GB; None on a CPU."""
    if torch.device(device).type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / 1e9


def machine(device: torch.device | str) -> dict[str, Any]:
    """Name of the device, and number of threads and version of torch."""
    gpu = torch.device(device).type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def matmul_gflops(device: torch.device | str, dtype: torch.dtype = torch.float32) -> float:
    """Speed of a large matrix product, in GFLOP per busy second."""
    size = 8192 if torch.device(device).type == "cuda" else 2048
    a = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / _busy_seconds(lambda: torch.mm(a, a), device) / 1e9


def bandwidth_gb_per_s(device: torch.device | str) -> float:
    """Bytes read and written by a copy larger than any cache, in GB per busy second."""
    a = torch.ones(2**26, device=device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / _busy_seconds(lambda: b.copy_(a), device) / 1e9


def _busy_seconds(work: Callable[[], object], device: torch.device | str) -> float:
    """Busy seconds of one call, averaged over many; the first call, which sets things up, is left out."""
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
    """The work of a computation.

    Attributes:
        gflop: floating-point operations of matrix products and convolutions, in 1e9.
        gb: bytes that all operations read and write when nothing is compiled, in 1e9.
    """

    gflop: float
    gb: float

    def shares(self, busy_seconds: float, matmul_gflops: float, bandwidth: float) -> dict[str, float]:
        """Minimum times for the arithmetic and for moving the bytes, as fractions of the busy time."""
        return {
            "of_matmul": self.gflop / matmul_gflops / busy_seconds,
            "of_bandwidth": self.gb / bandwidth / busy_seconds,
        }


class _Traffic(TorchDispatchMode):
    """Sums the bytes of inputs and results of all operations; views move none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func is not torch.ops.aten._unsafe_view.default:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def work_of(computation: Callable[[], object]) -> Work:
    """Count the work of ``computation``; on the device "meta" this takes no time and no memory."""
    with FlopCounterMode(display=False) as flops, _Traffic() as traffic:
        computation()
    return Work(flops.get_total_flops() / 1e9, traffic.bytes / 1e9)


def in_own_process(program: str, arguments: Sequence[object]) -> dict[str, Any]:
    """Run one case of a benchmark in its own process, to get its own peak memory.

    Args:
        program: a Python file whose last line of output is a result as JSON.
        arguments: of its command line.

    Raises:
        SystemExit: with the program's exit code when it fails; its own message explains why.
    """
    command = [sys.executable, program, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def try_results(path: str | Path | None) -> None:
    """Check before the work that :func:`write_results` can write there.

    Raises:
        UserError: when it cannot.
    """
    if path is not None:
        require_writable(Path(path))


def write_results(path: str | Path | None, results: Any) -> None:
    """Write JSON, with dataclasses as mappings; without a path, write nothing."""
    if path is None:
        return
    save_text(Path(path), json.dumps(results, indent=1, default=asdict) + "\n")
