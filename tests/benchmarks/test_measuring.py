"""Clocks, peaks and counted work, compared with values by hand."""

from __future__ import annotations

import json
import time
from pathlib import Path

import measuring
import pytest
import torch
from measuring import (
    Timer,
    Work,
    bandwidth_gb_per_s,
    in_own_process,
    matmul_gflops,
    peak_gb,
    work_of,
    write_results,
)
from torch import nn


def test_work_is_counted_without_a_device() -> None:
    a, b = torch.empty(3, 5, device="meta"), torch.empty(7, 5, device="meta")
    work = work_of(lambda: (a @ b.T).relu())
    assert work.gflop == pytest.approx(2 * 3 * 5 * 7 / 1e9)
    # Two factors are read and a product written; then that is read and written. The transpose moves nothing.
    assert work.gb == pytest.approx(4 * (15 + 35 + 21 + 21 + 21) / 1e9)


def test_backward_takes_twice_the_products_of_forward() -> None:
    layer, x = nn.Linear(11, 13, device="meta"), torch.empty(17, 11, device="meta", requires_grad=True)
    forward = work_of(lambda: layer(x))
    assert work_of(lambda: layer(x).sum().backward()).gflop == pytest.approx(3 * forward.gflop)


def test_shares_are_of_the_least_time() -> None:
    shares = Work(gflop=50.0, gb=6.0).shares(busy_seconds=2.0, matmul_gflops=100.0, bandwidth=30.0)
    assert shares == pytest.approx({"of_matmul": 0.25, "of_bandwidth": 0.1})


def test_waiting_is_not_busy() -> None:
    with Timer("cpu") as timer:
        time.sleep(0.3)
    assert timer.seconds >= 0.3
    assert timer.busy_seconds < 0.2


def test_limits_are_of_the_right_size() -> None:
    # From the slowest machines to the fastest.
    assert 0.5 < matmul_gflops("cpu") < 1e5
    assert 0.2 < bandwidth_gb_per_s("cpu") < 1e4


def test_a_case_has_a_peak_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(measuring.__file__).parent))
    kept = torch.ones(300_000_000)  # 1.2 GB here, which the other process does not have
    program = tmp_path / "program.py"
    program.write_text(
        "import json, sys\n"
        f"sys.path.insert(0, {str(Path(measuring.__file__).parent)!r})\n"
        "from measuring import peak_gb\n"
        "print('noise')\n"
        "print(json.dumps({'words': sys.argv[1:], 'peak': peak_gb()}))\n"
    )
    found = in_own_process(str(program), ["--rows", 3, True])
    assert found["words"] == ["--rows", "3", "True"]
    assert peak_gb() > kept.nbytes / 1e9 > found["peak"] > 0.1
    program.write_text("raise SystemExit(2)")
    with pytest.raises(SystemExit) as stop:
        in_own_process(str(program), [])
    assert stop.value.code == 2


def test_results_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    write_results(None, {"a": 1})
    write_results(tmp_path / "new" / "results.json", {"work": Work(1.0, 2.0)})
    assert json.loads((tmp_path / "new" / "results.json").read_text()) == {"work": {"gflop": 1.0, "gb": 2.0}}
