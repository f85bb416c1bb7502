"""Write the report of a cycle or a fit, or of several cycles side by side.

The run may be going on, or have been killed.

python -m vaevar.verification.report runs/cycle_sparse
python -m vaevar.verification.report runs/cycle_sparse runs/published
python -m vaevar.verification.report runs/vae
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vaevar.errors import UserError
from vaevar.mistakes.notices import warnings_kept
from vaevar.runs.expansion import expand_path
from vaevar.scripts import one_line_errors, use_utf8
from vaevar.verification.fits.page import write_fit_report
from vaevar.verification.fits.run import is_fit
from vaevar.verification.report.page import write_report


def main() -> None:
    """Read the directories from the command line."""
    use_utf8()
    parser = argparse.ArgumentParser(
        prog="python -m vaevar.verification.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directories", nargs="+", metavar="runs/NAME", help="directories of runs")
    asked = parser.parse_args()
    with warnings_kept(), one_line_errors():
        directories = [Path(expand_path(name)) for name in asked.directories]
        for path in directories:
            if path.is_file():
                raise UserError(f"{path}: is a file; give the directory of a run, such as runs/cycle_sparse")
        fits = [path for path in directories if is_fit(path)]
        if fits and len(directories) > 1:
            raise UserError(f"{fits[0]}: is a fit, and fits are not compared; report on each by itself")
        path = write_fit_report(fits[0]) if fits else write_report(directories)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser")


if __name__ == "__main__":
    main()
