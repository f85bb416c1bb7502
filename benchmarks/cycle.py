"""The cost of each part of an assimilation cycle: arms, forecaster, reading, writing, scores.

    python benchmarks/cycle.py --analyses 6

At 0.25° use `--config configs/cycle_sparse.yaml configs/era5_quarter_degree.yaml`. Runs a cycle as `predict`
does, from its beginning, in `runs/<name>`. The first analysis is left out. Shares are of one run; on a CPU
they are of processor time, which does not include waiting for a disk.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser
from measuring import device_peak_gb, forget_peak, machine, peak_gb, try_results, write_results
from rich.console import Console
from rich.table import Table

from vaevar.cli import main as run
from vaevar.runs.stopping import install
from vaevar.scripts import one_line_errors


def main(
    config: list[str],
    analyses: int = 6,
    name: str = "benchmark_cycle",
    device: Literal["cpu", "cuda"] = "cpu",
    json_path: str | None = None,
) -> None:
    """Run the cycle, and print the shares and the limit.

    Args:
        config: of a cycle; later files win.
        analyses: number of analyses; the first one is not counted.
        name: of the run directory.
        device: cpu or cuda.
        json_path: of the results.
    """
    try_results(json_path)
    words = [word for path in config for word in ("--config", path)]
    words += ["--data.init_args.analyses", str(analyses), "--trainer.logger.init_args.save_dir", "runs"]
    words += ["--trainer.logger.init_args.name", name, "--restart"]
    words += ["--trainer.accelerator", "gpu" if device == "cuda" else "cpu"]
    words += ["--trainer.callbacks+", "cycle_profile.CycleProfile"]
    forget_peak(device)
    run(["predict", *words])
    profile = json.loads((Path("runs") / name / "profile.json").read_text(encoding="utf-8"))
    result = {
        "config": config,
        **profile,
        "peak_gb": peak_gb(),
        "device_peak_gb": device_peak_gb(device),
        **machine(device),
    }
    report(result)
    write_results(json_path, result)


def report(result: dict[str, Any]) -> None:
    """Print the table of parts, and the largest part."""
    seconds, busy = result["seconds"], result["busy_seconds"]
    clock, total = "processor s" if result["device"] == "cpu" else "busy s", sum(busy.values())
    table = Table("part", "s an analysis time", clock, "share")
    for part, spent in busy.items():
        if spent > 0.001 * total:
            table.add_row(part, f"{seconds[part]:.3g}", f"{spent:.3g}", f"{spent / total:.1%}")
    Console(width=100).print(table)
    arms = sum(spent for part, spent in busy.items() if part.startswith("arm "))
    peak = result["peak_gb"] if result["device_peak_gb"] is None else result["device_peak_gb"]
    slowest = next(iter(busy))
    print(
        f"{result['analyses']} analysis times of {sum(seconds.values()):.3g} s; peak memory {peak:.2f} GB\n"
        f"the limit is {slowest}, {busy[slowest] / total:.0%}; all arms together are {arms / total:.0%}, "
        f"everything but arms and forecaster {1 - (arms + busy['forecaster']) / total:.0%}"
    )


if __name__ == "__main__":
    install()
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config", nargs="+", default=["configs/cycle_sparse.yaml"], help="of a cycle; later files win"
    )
    parser.add_function_arguments(main, skip={"config"})
    with one_line_errors():
        main(**parser.instantiate(parser.parse_args()))
