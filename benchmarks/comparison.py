"""Compares the arms of the cycle on networks of several sizes, fixed and moving, and with several seeds.

    python benchmarks/comparison.py --processes 2

A case is a network and a seed, for the positions and for the observation noise. Each arm of a case is a
`predict` run under runs/comparison. Results are recorded in benchmarks/results/comparison, a small CSV file
per case. A recorded run is not repeated, not even in a fresh clone, unless the arm's settings or weights have
changed. A killed run is resumed, and several of these commands can run side by side. Table and figure
(benchmarks/results/comparison.md, .csv and .png) are made from the records; --table-only makes them without
running anything. The runs can be spread over a cluster of dask:

    dask scheduler
    OMP_NUM_THREADS=8 dask worker tcp://HOST:8786 --nthreads 1 --nworkers 4     (on each machine)
    python benchmarks/comparison.py --scheduler tcp://HOST:8786
"""

from __future__ import annotations

from vaevar.runs.stopping import install

if __name__ in ("__main__", "__mp_main__"):  # the program, and its workers
    install(importing=True)  # which takes seconds

import shlex
import sys
from datetime import date
from pathlib import Path

import pandas as pd
from jsonargparse import ArgumentParser

from vaevar.errors import UserError
from vaevar.experiments.comparison.configs import resolve
from vaevar.experiments.comparison.figure import comparison_figure
from vaevar.experiments.comparison.record import (
    NETWORKS,
    Case,
    callback_settings,
    current,
    read,
    windows,
)
from vaevar.experiments.comparison.sweep import Sweep, work
from vaevar.experiments.comparison.table import report, summary, wide
from vaevar.experiments.comparison.truth import require_one_truth
from vaevar.files import replacing, require_writable, save_text
from vaevar.scripts import one_line_errors


def main(
    columns: list[int],
    networks: list[str],
    seeds: list[int],
    config: list[str],
    arms: list[str] | None = None,
    processes: int = 1,
    scheduler: str | None = None,
    dashboard: int | None = None,
    table_only: bool = False,
    runs: str = "runs/comparison",
    results: str = "benchmarks/results/comparison",
) -> None:
    """Run what is missing of the comparison, then make its table and figure.

    Args:
        columns: sizes of the networks.
        networks: fixed, moving.
        seeds: for network and noise.
        config: of the cycle; later files win. Of several cycles, all arms are compared.
        arms: only these; default all arms of the config.
        processes: number of processes that share the work and the CPU's cores.
        scheduler: address of a running scheduler of dask, whose workers share the work instead.
        dashboard: port on this machine for dask's dashboard, with several processes; default none.
        table_only: run nothing.
        runs: directory of the run directories.
        results: directory of the records; table and figure are beside it.
    """
    resolved = resolve(config)
    # Seeds outermost: a sweep that is stopped has complete rounds, whose table is useful.
    cases = [Case(network, size, seed) for seed in seeds for size in columns for network in networks]
    arms = arms or list(resolved["model"]["init_args"]["arms"])
    sweep = Sweep(resolved, cases, arms, Path(runs), Path(results))
    for path in paths_of_report(sweep):
        require_writable(path)
    fine = table_only or execute(sweep, processes, scheduler, dashboard)
    write_report(sweep)
    if not fine:
        raise SystemExit("some runs failed: see above")


def execute(sweep: Sweep, processes: int, scheduler: str | None, dashboard: int | None) -> bool:
    """Run what is missing, in this process or in others. True when nothing failed.

    Raises:
        UserError: for options that exclude each other, or records of another truth than is here.
    """
    several = processes > 1
    if scheduler is not None and (several or dashboard is not None):
        raise UserError(
            "--scheduler has workers and a dashboard of its own; leave out --processes and --dashboard"
        )
    if scheduler is None and not several and dashboard is not None:
        raise UserError("--dashboard shows several processes; add --processes 2 or more")
    if missing := sweep.missing():
        sweep.require_truth(sweep.data(*missing[0]))
    if scheduler is None and not several:
        return work(sweep)
    from vaevar.experiments.comparison.spreading import spread  # dask.distributed takes a second

    return spread(sweep, processes, scheduler, dashboard)


def write_report(sweep: Sweep) -> None:
    """Write the tables and the figure of the records.

    Raises:
        UserError: when there are no records with these settings, or they are of several truths.
    """
    fingerprints = sweep.fingerprints()
    recorded, valid = [], []
    for case in sweep.cases:
        rows = read(sweep.path(case))
        recorded.append(rows[rows["arm"].isin(sweep.arms)])
        valid.append(current(rows, fingerprints))
    results = pd.concat(valid, ignore_index=True)
    stale = count_runs(pd.concat(recorded)) - count_runs(results)
    if results.empty:
        raise UserError(f"{sweep.results}: no results of these cases, arms and settings; run the comparison")
    require_one_truth(results, sweep.results)
    table_path, numbers_path, figure_path = paths_of_report(sweep)
    table = wide(results)
    lengths = windows(sweep.config)
    save_text(table_path, report(table, sweep.arms, note_on(sweep, results, stale), lengths))
    save_text(numbers_path, summary(table, sweep.arms).to_csv(index=False, float_format="%.6g"))
    with replacing(figure_path) as partial:
        comparison_figure(table, sweep.arms, lengths).savefig(partial, dpi=110, format="png")
    print(f"wrote {table_path}, {numbers_path} and {figure_path}")


def paths_of_report(sweep: Sweep) -> tuple[Path, Path, Path]:
    """The table for people, the one for programs, and the figure."""
    markdown, numbers, figure = (sweep.results.with_suffix(suffix) for suffix in (".md", ".csv", ".png"))
    return markdown, numbers, figure


def note_on(sweep: Sweep, results: pd.DataFrame, stale: int) -> str:
    """The note above the tables."""
    data = sweep.data(sweep.cases[0], sweep.arms[0])
    skip = sweep.skip() if sweep.skip() < data.times.size else 0
    arguments = [word for word in sys.argv[1:] if word != "--table-only"]
    command = shlex.join(["python", "benchmarks/comparison.py", *arguments])
    done, whole = count_runs(results), len(sweep.cases) * len(sweep.arms)
    lacking = f" {done} of {whole} runs are in it." if done < whole else ""
    lacking += f" {stale} of other settings or weights are left out." if stale else ""
    every = callback_settings(sweep.config, "Forecasts")["every"]
    return (
        f"Command: `{command}`, {date.today()}.{lacking}\n\n"
        f"Analyses {data.times[skip]} to {data.times[-1]}, the last {data.times.size - skip} of "
        f"{data.times.size}; truth: {data.source.description}. Mean ± standard deviation over "
        f"{results['seed'].nunique()} seeds of network and noise. RMSE is area-weighted, its root after "
        "the mean over time; `rmse / std` is the mean over channels of RMSE / climatological std. Forecasts "
        f"start from one analysis in {every}, those of arms with windows from the last time of the window it "
        "is in; differences are of forecasts from the same times. `evaluations` are those of the cost and "
        "its gradient (of the decoder or the linear transform), or of the denoiser. Differences are paired "
        "by seed, bold where they exceed their spread over seeds; `both` is the mean over fixed and moving "
        "networks."
    )


def count_runs(results: pd.DataFrame) -> int:
    """Number of runs (an arm of a case) in rows of records."""
    return len(results[["case", "arm"]].drop_duplicates())


def command_line() -> None:
    """Run what the command line says."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, nargs="+", default=[100, 250, 500, 1000], help="sizes")
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="kinds of networks"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of network and noise")
    parser.add_argument("--arms", type=str, nargs="+", default=None, help="only these arms of the config")
    parser.add_argument(
        "--config",
        nargs="+",
        default=[f"configs/{name}.yaml" for name in ("cycle_sparse", "published", "cycle_4d", "comparison")],
        help="of the cycle; later files win; of several cycles, all arms are compared",
    )
    parser.add_argument("--table-only", action="store_true", help="run nothing")
    lists: set[str | int] = {"columns", "networks", "seeds", "arms", "config", "table_only"}
    parser.add_function_arguments(main, skip=lists)
    with one_line_errors():
        main(**parser.instantiate(parser.parse_args()))


if __name__ == "__main__":
    install()
    command_line()
