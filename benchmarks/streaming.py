r"""The speed of streaming a store of background errors, compared with reading its files.

    python benchmarks/streaming.py --path data/background_errors.zarr --json_path streaming.json

Rates are of compressed bytes on the disk: the median of several passes, which alternate between plain reading
and streaming. Before a cold pass the files are dropped from the page cache (the host of a virtual machine may
have another cache); a warm pass only decompresses and copies. The samples and their order must not depend on
the number of workers. This makes a store at 0.25°:

    python main.py predict --config configs/background_errors.yaml --config configs/era5_errors.yaml \
        --data.init_args.path data/background_errors_native.zarr \
        --data.init_args.making '{init_args: {coarsen_to: null, samples_per_file: 4}}'
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import torch
from measuring import try_results, write_results
from rich.console import Console
from rich.table import Table
from torch.utils.data import DistributedSampler

from vaevar.data.samples.loader import SampleLoader
from vaevar.data.samples.store import SampleStore
from vaevar.scripts import run


def main(
    path: str = "data/background_errors.zarr",
    workers: tuple[int, ...] = (0, 1, 2),
    batch_size: int = 1,
    passes: int = 3,
    json_path: str | None = None,
) -> None:
    """Print a table of rates.

    Args:
        path: a store of background errors.
        workers: numbers of reading threads; 0: read in the main thread.
        batch_size: samples in a batch.
        passes: number of passes over the store, of each kind.
        json_path: of the results.
    """
    try_results(json_path)
    store = SampleStore(path)
    files = sorted(file for file in (Path(path) / "error").rglob("*") if file.is_file())
    size, samples = sum(file.stat().st_size for file in files), len(store)
    sample_bytes = np.prod(store[0][0].shape) * 2
    rows: list[dict] = []
    orders = set()
    for cold in (True, False):
        seconds: dict[str, list[float]] = {}
        for _ in range(passes):
            seconds.setdefault("plain files", []).append(_plain(files, cold))
            for count in workers:
                elapsed, order = _streamed(store, files, cold, count, batch_size)
                seconds.setdefault(f"{count} workers", []).append(elapsed)
                orders.add(tuple(order))
        rows += [
            {"reader": reader, "cold": cold, "seconds": float(np.median(times)), "all_seconds": times}
            for reader, times in seconds.items()
        ]
    assert len(orders) == 1, "samples or their order depend on the workers"
    table = Table("reader", "page cache", "seconds", "MB/s on disk", "samples/s", "of plain")
    for row in rows:
        plain = next(r["seconds"] for r in rows if r["reader"] == "plain files" and r["cold"] == row["cold"])
        row |= {"mb_per_s": size / row["seconds"] / 1e6, "samples_per_s": samples / row["seconds"]}
        row["of_plain"] = plain / row["seconds"]
        table.add_row(
            row["reader"],
            "cold" if row["cold"] else "warm",
            f"{row['seconds']:.2f}",
            f"{row['mb_per_s']:.0f}",
            f"{row['samples_per_s']:.1f}",
            f"{row['of_plain']:.0%}",
        )
    Console(width=100).print(table)
    decode = _decompression(store, samples)
    counts = ", ".join(map(str, workers))
    print(
        f"{samples} samples of {sample_bytes / 1e6:.1f} MB, {size / samples / 1e6:.1f} MB each on disk; "
        f"order and values are the same for {counts} workers.\nThe limit, cold: the disk. Warm: "
        f"decompression, {decode * size / samples / 1e6:.0f} MB/s of stored bytes in one thread."
    )
    write_results(json_path, {"store": path, "samples": samples, "stored_bytes": size, "rows": rows})


def _forget(files: list[Path]) -> None:
    """Drop the files from the page cache."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _plain(files: list[Path], cold: bool) -> float:
    if cold:
        _forget(files)
    began = time.perf_counter()
    for file in files:
        file.read_bytes()
    return time.perf_counter() - began


def _streamed(
    store: SampleStore, files: list[Path], cold: bool, workers: int, batch_size: int
) -> tuple[float, list[float]]:
    """Seconds of an epoch, and a number of each sample that identifies it."""
    sampler: DistributedSampler = DistributedSampler(store, 1, 0, seed=0)
    loader = SampleLoader(store, batch_size, sampler=sampler, threads=workers)
    if cold:
        _forget(files)
    began, order = time.perf_counter(), []
    for (errors,) in loader:
        order += errors[:, 0, 0, 0].tolist()
    return time.perf_counter() - began, order


def _decompression(store: SampleStore, samples: int) -> float:
    """Samples per second decompressed by one thread, with the files in the page cache."""
    began = time.perf_counter()
    for number in range(samples):
        store[number]
    return samples / (time.perf_counter() - began)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(main)
