"""A year of a cycle by months: scores, minimisation, time and memory. Is anything lost on a long way?

    python benchmarks/year.py
    python benchmarks/year.py --moving true

Runs the cycle of `configs/year.yaml` in `runs/year` or `runs/year_moving`, or goes on with one that was
killed, and writes the table. Seconds that are compared are processor time, which other jobs on the machine
hardly affect.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from measuring import machine

from vaevar import scripts
from vaevar.cli import main as run
from vaevar.data.analysis_times import AnalysisTimes
from vaevar.errors import UserError
from vaevar.experiments.comparison.configs import resolve
from vaevar.files import require_writable, save_text
from vaevar.runs.record import read_record
from vaevar.scripts import instantiate
from vaevar.verification.metrics import normalised_series, time_mean_rmse
from vaevar.verification.tables import gather_rows, to_markdown

SETTLED = 50  # analyses after which memory and time are to stay level
LAST = 50  # analyses that are compared with those
SHOWN = ("z500", "t850", "q700", "msl")


def main(
    config: str = "configs/year.yaml",
    moving: bool = False,
    arms: list[str] | None = None,
    name: str | None = None,
    output: str | None = None,
    table_only: bool = False,
) -> None:
    """Run the cycle and write the table.

    Args:
        config: of the cycle.
        moving: the columns are elsewhere at each analysis.
        arms: only these of the config; default all.
        name: of the run directory; default year, or year_moving.
        output: the table, in Markdown; default benchmarks/results/<name>.md.
        table_only: make the table of a run that has ended.

    Raises:
        UserError: for an arm that the config lacks.
    """
    name = name or ("year_moving" if moving else "year")
    output = output or f"benchmarks/results/{name}.md"
    require_writable(Path(output))
    settings = resolve([config])
    of_config = settings["model"]["init_args"]["arms"]
    unknown = [arm for arm in arms or () if arm not in of_config]
    if unknown:
        raise UserError(f"{config}: no arms {', '.join(unknown)}; it has {', '.join(of_config)}")
    arms = arms or list(of_config)
    settings["model"]["init_args"]["arms"] = {arm: of_config[arm] for arm in arms}
    settings["data"]["init_args"]["network"]["init_args"]["moving"] = moving
    directory = Path("runs") / name
    if not table_only:
        resolved = directory.with_suffix(".yaml")
        save_text(resolved, yaml.safe_dump(settings, sort_keys=False))
        words = ["--config", str(resolved), "--name", name]
        run(["predict", *words, "--trainer.callbacks+", "cycle_resources.CycleResources"])
    data = instantiate([settings], data=AnalysisTimes).data
    data.setup("predict")
    months, level = by_month(directory, arms, data), levelness(directory / arms[0] / "resources.csv")
    commit = (read_record(directory) or {}).get("commit")
    columns = "moving" if moving else "fixed"
    text = (
        f"`python benchmarks/year.py`, {columns} columns: {data.times.size} analyses from {data.times[0]} to "
        f"{data.times[-1]}; truth: {data.source.description}. Commit {commit}; {machine('cpu')['threads']} "
        f"thread(s).\n\n{to_markdown(months)}\n\n{level}\n"
    )
    save_text(Path(output), f"# A year of the cycle, by months\n\n{text}")
    print(text)


def by_month(directory: Path, arms: list[str], data: AnalysisTimes) -> pd.DataFrame:
    """A row per month and arm.

    Args:
        directory: of the run.
        arms: names.
        data: of the run.
    """
    scores = gather_rows(directory, arms, "scores.csv")
    rows = []
    std = data.climatological_std
    for month, of_month in scores.groupby(scores["time"].astype(str).str[:7]):
        for arm in arms:
            diagnostics = pd.read_csv(directory / arm / "diagnostics.csv")
            diagnostics = diagnostics[diagnostics["time"].astype(str).str[:7] == month]
            rmse = time_mean_rmse(of_month, arm, "analysis", data.spec, 0)
            background = time_mean_rmse(of_month, arm, "background", data.spec, 0)
            series = normalised_series(of_month, arm, "analysis", data.spec, std)
            rows.append(
                {
                    "month": month,
                    "arm": arm,
                    "analyses": series.size,
                    "analysis rmse / std": f"{(rmse / std).mean():.4f}",
                    "largest": f"{series.max():.4f}",
                    "background rmse / std": f"{(background / std).mean():.4f}",
                    **{name: f"{rmse[data.spec.index(name)]:.4g}" for name in SHOWN if data.spec.has(name)},
                    "2J/p": f"{diagnostics['chi2'].mean():.3f}",
                    "iterations": f"{diagnostics['iterations'].mean():.1f}",
                    "seconds": f"{diagnostics['seconds'].mean():.2f}",
                }
            )
    return pd.DataFrame(rows)


def levelness(path: Path) -> str:
    """One sentence: memory and processor time at the end beside those after the first analyses.

    Args:
        path: what :class:`cycle_resources.CycleResources` wrote.

    Raises:
        UserError: for a run that is too short.
    """
    table = pd.read_csv(path)
    if len(table) < SETTLED + 2 * LAST:
        raise UserError(f"{path}: {len(table)} analyses are too few to compare the first with the last ones")
    first, last = table.iloc[SETTLED : SETTLED + LAST], table.iloc[-LAST:]
    parts = []
    for column, what, unit in (
        ("resident_gb", "memory", "GB"),
        ("busy_seconds", "processor time an analysis time", "s"),
    ):
        before, after = float(np.median(first[column])), float(np.median(last[column]))
        parts.append(f"{what} {before:.3f} {unit} and {after:.3f} {unit} ({after / before - 1:+.1%})")
    return (
        f"Median of {LAST} analyses after the first {SETTLED}, and of the last {LAST}: "
        f"{'; '.join(parts)}. Largest memory {table['resident_gb'].max():.3f} GB."
    )


if __name__ == "__main__":
    scripts.run(main)
