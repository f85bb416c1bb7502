"""The results of a cycle, from its directory."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from vaevar.assim.cycle.writer import written
from vaevar.data.weather.leads import LEAD
from vaevar.data.weather.opening import open_zarr
from vaevar.errors import UserError, first_line
from vaevar.mistakes.notices import notice
from vaevar.runs.expansion import expand_path
from vaevar.runs.record import NAME, read_record

_SCORES, _DIAGNOSTICS, _FORECASTS = "scores.csv", "diagnostics.csv", "forecasts.csv"
_OF_SCORES = ("arm", "channel", "quantity", "rmse", "bias")


class RunResults:
    """What a cycle has written, whether the command line ran it or Python.

    Args:
        directory: of the run, such as ``runs/cycle_sparse``.

    Attributes:
        arms: names of the arms.

    Raises:
        UserError: when there is no run.

    Example:
        >>> results = vaevar.RunResults("runs/cycle_sparse")
        >>> results["threedvar"].analysis["geopotential"].sel(level=500).shape
        (5, 16, 32)
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(expand_path(str(directory)))
        found = sorted(self.directory.glob(f"*/{_DIAGNOSTICS}")) + sorted(self.directory.glob(f"*/{_SCORES}"))
        places = dict.fromkeys(path.parent for path in found)
        if runs := [place for place in places if (place / NAME).is_file()]:
            raise UserError(f"{self.directory}: holds runs; give the directory of one, such as {runs[0]}")
        self.arms = tuple(place.name for place in places)
        if not self.arms:
            raise UserError(f"{self.directory}: holds no results of a cycle; give the directory of a run")

    @property
    def scores(self) -> pd.DataFrame:
        """RMSE and bias of backgrounds and analyses by time, arm and channel."""
        gathered = self.directory / _SCORES
        if gathered.is_file():
            return _table(gathered, *_OF_SCORES)
        return pd.concat([self[arm].scores for arm in self.arms], ignore_index=True)

    @property
    def summary(self) -> str:
        """The table of the run, in Markdown; empty before its end."""
        path = self.directory / "summary.md"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @property
    def record(self) -> dict[str, Any]:
        """What the run was made of, by which program, and whether it has ended."""
        return read_record(self.directory) or {}

    def __getitem__(self, arm: str) -> ArmResults:
        """The results of one arm.

        Raises:
            UserError: when there is no such arm.
        """
        if arm not in self.arms:
            raise UserError(f"{self.directory}: has no arm {arm!r}; it has {', '.join(self.arms)}")
        return ArmResults(self.directory / arm)

    def __repr__(self) -> str:
        return f"RunResults({str(self.directory)!r}: {', '.join(self.arms)})"


class ArmResults:
    """What one arm of a cycle has written.

    Args:
        directory: of the arm.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def scores(self) -> pd.DataFrame:
        """RMSE and bias of backgrounds and analyses by time and channel."""
        return _table(self.directory / _SCORES, *_OF_SCORES)

    @property
    def diagnostics(self) -> pd.DataFrame:
        """Numbers about each analysis: J_b, J_o, iterations, 2J/p, seconds, whether it failed."""
        return _table(self.directory / _DIAGNOSTICS)

    @property
    def forecasts(self) -> pd.DataFrame:
        """RMSE and bias of the forecasts from the analyses, by time, lead and channel (``Forecasts``)."""
        return _table(self.directory / _FORECASTS)

    @property
    def analysis(self) -> xr.Dataset:
        """The analyses that are written by now; ``time`` is the time at which they are valid."""
        return self.states("analysis")

    @property
    def background(self) -> xr.Dataset:
        """The backgrounds that are written by now; ``time`` is the time at which they are valid,
        ``initial_time`` that from which they are forecast."""
        return self.states("background")

    def states(self, kind: str, quiet: bool = False) -> xr.Dataset:
        """The states that are written by now.

        Args:
            kind: ``background`` or ``analysis``.
            quiet: do not tell when there are to be more of them.

        Raises:
            UserError: when the run did not write them.
        """
        path = self.directory / f"{kind}.zarr"
        if not path.is_dir():
            raise UserError(f"{path}: is not there: the run did not write it (StateWriter's states)")
        dataset = open_zarr(str(path)).isel({LEAD: 0})
        names = [str(name) for name in dataset.data_vars]
        if (count := written(path, names)) < dataset.sizes["time"]:
            of = dataset.sizes["time"]
            if not quiet:
                notice(f"{path}: {count} of {of} times are written by now; the others are left out")
            dataset = dataset.isel(time=slice(count))
        initial = dataset["time"].values
        valid = initial + dataset[LEAD].values
        # A difference from the truth is taken by time: it has to be that of the truth.
        dataset = dataset.drop_vars([LEAD, "time"]).assign_coords(
            {"time": ("time", valid), "initial_time": ("time", initial)}
        )
        return dataset


def _table(path: Path, *columns: str) -> pd.DataFrame:
    """A table of a run.

    Args:
        path: of the file.
        columns: that it must have, besides ``time``.

    Raises:
        UserError: when it is not there, or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: is not there: the run has not come so far, or did not write it")
    # A run that is going on may be in the middle of a row.
    whole = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0]
    try:
        table = pd.read_csv(StringIO(whole), parse_dates=["time"])
        if lost := [name for name in columns if name not in table]:
            raise ValueError(f"it has no {', '.join(lost)}")
        return table.assign(time=pd.to_datetime(table["time"]))
    except ValueError as error:  # of pandas, for an empty or damaged file
        raise UserError(
            f"{path}: cannot be read as a table of a run ({first_line(error)}); going on with the run makes "
            "lost rows again"
        ) from None
