"""Write the report of a run, or of several side by side, also of one that is going on or was killed.

python -m vaevar.verification.report runs/cycle_sparse
python -m vaevar.verification.report runs/cycle_sparse runs/published
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vaevar.runs.expansion import expand_path
from vaevar.scripts import one_line_errors, use_utf8
from vaevar.verification.report.page import write_report


def main() -> None:
    """Read the directories from the command line."""
    use_utf8()
    parser = argparse.ArgumentParser(prog="python -m vaevar.verification.report", description=__doc__)
    parser.add_argument("directories", nargs="+", metavar="runs/NAME", help="directories of runs")
    asked = parser.parse_args()
    with one_line_errors():
        path = write_report([Path(expand_path(name)) for name in asked.directories])
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser")


if __name__ == "__main__":
    main()
