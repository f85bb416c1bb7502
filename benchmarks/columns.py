"""The cycle of configs/cycle_sparse.yaml with networks of several sizes, and one table of them all.

python benchmarks/columns.py --columns 100 250 500 1000

Runs that are there already are not repeated, and a killed one goes on where it was.
"""

from __future__ import annotations

import re
from pathlib import Path

from jsonargparse import ArgumentParser

from vaevar.cli import main as run


def main(
    columns: list[int],
    config: str = "configs/cycle_sparse.yaml",
    directory: str = "runs",
) -> None:
    """Run the cycle for each number of columns and print a row for each arm."""
    table: list[str] = []
    for count in columns:
        name = f"columns_{count}"
        overrides = {"data.init_args.network.init_args.count": count, "trainer.logger.init_args.name": name}
        arguments = [f"--{key}={value}" for key, value in overrides.items()]
        run(["predict", "--config", config, *arguments, f"--trainer.logger.init_args.save_dir={directory}"])
        summary = (Path(directory) / name / "summary.md").read_text()
        head, rule, *rows = [line for line in summary.splitlines() if line.startswith("|")]
        if not table:
            table += [f"| columns {head}", f"| ---: {rule}"]
        table += [f"| {count} {row}" for row in rows]
    print(re.sub(r" +", " ", "\n".join(table)))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--columns", type=int, nargs="+", default=[100, 250, 500, 1000], help="sizes of the networks"
    )
    parser.add_function_arguments(main, skip={"columns"})
    arguments = parser.parse_args()
    main(**parser.instantiate(arguments))
