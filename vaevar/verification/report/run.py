"""A run as a report sees it: its rows that are whole, its summary, and the data that it was made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jsonargparse import ArgumentError

from vaevar.assim.cycle.stopped import Stop, stop_of
from vaevar.data.analysis_times import AnalysisTimes
from vaevar.errors import UserError, first_line
from vaevar.runs.record import readable_record
from vaevar.runs.settings import FROM_PYTHON
from vaevar.scripts import instantiate, mistake_of, read_contents
from vaevar.state import StateSpec
from vaevar.state.spec import SURFACE_VARIABLES, UPPER_VARIABLES
from vaevar.verification.arms import earlier_arms
from vaevar.verification.results import RunResults
from vaevar.verification.scores import Scores, score_keys

_OF_PYTHON = (
    "of a run from Python, whose data only that program has; the report at the end of the run has all "
    "its parts"
)
_CHANNEL = re.compile(rf"({'|'.join(UPPER_VARIABLES)})(\d+)(hPa)?")


@dataclass
class ReportedRun:
    """One of the runs that a report is about.

    Attributes:
        results: its files.
        prefix: of the names of its arms, where a report has several runs; else empty.
        data: truth and observations; None where they cannot be had.
        skip: analyses that its summary leaves out at the beginning.
        faults: what could not be read or had, in a line each.
        truth_is_another: the states were not scored with the truth of ``data``.
    """

    results: RunResults
    prefix: str = ""
    data: AnalysisTimes | None = None
    skip: int = Scores().skip
    faults: list[str] = field(default_factory=list)
    truth_is_another: bool = False

    @property
    def directory(self) -> Path:
        return self.results.directory

    @property
    def truth(self) -> AnalysisTimes | None:
        """Its data, where the truth can be read too."""
        return self.data if hasattr(self.data, "store") else None

    def label(self, arm: str) -> str:
        """The name of an arm in the report."""
        return f"{self.prefix}{arm}"

    @cached_property
    def spec(self) -> StateSpec:
        """The channels that were scored."""
        names = list(dict.fromkeys(self._rows["channel"]))
        matches = [match for name in names if (match := _CHANNEL.fullmatch(name))]
        matches = [match for match in matches if match[0] not in SURFACE_VARIABLES]
        return StateSpec(
            [name for name in names if name in SURFACE_VARIABLES],
            list(dict.fromkeys(match[1] for match in matches)),
            sorted({int(match[2]) for match in matches}),
        )

    @cached_property
    def _rows(self) -> pd.DataFrame:
        parts = []
        for arm in self.results.arms:
            try:
                table = self.results[arm].scores
            except UserError as error:
                self.faults.append(str(error))
                continue
            if len(table):
                parts.append(table)
        if not parts:
            cause = f" ({self.faults[-1]})" if self.faults else ""
            raise UserError(f"{self.directory}: holds no scores yet, so there is nothing to report{cause}")
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The rows of ``scores.csv`` of the analyses that have all of them, with the report's names of arms.

        A run that is going on, or was killed, may be in the middle of an analysis.
        """
        rows = self._rows
        count = rows.groupby(["arm", "time"])["channel"].transform("size")
        whole = rows[count == 2 * len(self.spec)]
        return whole.assign(arm=self.prefix + whole["arm"].astype(str))

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """The arms that have an analysis, by their names in the run."""
        there = set(self.scores["arm"])
        # In the order of the config.
        named = [name.split(".")[1] for name in self.settings if name.startswith("arms.")]
        ordered = dict.fromkeys([*(arm for arm in named if arm in self.results.arms), *self.results.arms])
        return tuple(arm for arm in ordered if self.label(arm) in there)

    def times(self, arm: str) -> np.ndarray:
        """The times of the analyses of an arm, ascending."""
        of_arm = self.scores.loc[self.scores["arm"] == self.label(arm), "time"]
        return np.sort(of_arm.unique())

    @cached_property
    def stops(self) -> dict[str, Stop]:
        """The arms that had to stop, by their names in the run."""
        return {arm: stop for arm in self.arms if (stop := stop_of(self.directory / arm))}

    @cached_property
    def shared(self) -> np.ndarray:
        """The times that all arms have. An arm that had to stop does not make them fewer."""
        going = [arm for arm in self.arms if arm not in self.stops] or list(self.arms)
        counts = {arm: len(self.times(arm)) for arm in going}
        most = max(counts.values())
        self.faults += [
            f"{self.directory / arm / 'scores.csv'}: has {count} whole analyses where others have {most}: "
            "the run has not come so far, or the file is damaged; going on with the run makes it whole"
            for arm, count in counts.items()
            if count < most
        ]
        return self.times(min(counts, key=counts.__getitem__))

    @property
    def compared(self) -> np.ndarray:
        """The times over which arms are averaged: those that all of them have, without the beginning."""
        return self.shared[self.skip if self.skip < len(self.shared) else 0 :]

    @cached_property
    def settled(self) -> pd.DataFrame:
        """The rows of the times over which arms are averaged."""
        return self.scores[self.scores["time"].isin(self.compared)]

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the run was made of, by which program; empty where that cannot be told."""
        record, damage = readable_record(self.directory)
        if damage:
            self.faults.append(damage)
        return record

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the run was made of, by names such as ``arms.threedvar.lambda_``; files by their paths."""
        found = settings_of_record(self.record)
        return {name.removeprefix("model."): value for name, value in found.items()}

    def summary(self) -> tuple[pd.DataFrame, list[str]]:
        """The table of the run, a row per arm, and what is to be known of it.

        It is that of ``summary.md``. Where the run has gone on since, or was killed, it is made as at its
        end.

        Raises:
            UserError: when there is none and none can be made.
        """
        path = self.directory / "summary.md"
        rows = [self.directory / arm / "scores.csv" for arm in self.arms]
        if path.is_file() and all(path.stat().st_mtime >= file.stat().st_mtime for file in rows):
            return _of_markdown(self.results.summary)
        if self.data is None:
            raise UserError("the run has not come to its end, and its table cannot be made without its data")
        scorer, times = Scores(self.skip), self.data.times
        whole = earlier_arms(self.directory, (), times, score_keys(self.data.spec))
        if not whole:
            raise UserError("no arm has a whole analysis yet")
        table = scorer.table(self.directory, [], self.data, whole)
        table = table.set_index("arm").loc[[arm for arm in self.arms if arm in whole]].reset_index()
        going = [arm for arm in whole if arm not in self.stops] or list(whole)
        over = min(len(whole[arm]) for arm in going)
        return table, [scorer.note(over, self.data, "last time" in table)]


def settings_of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was made of, by names such as ``data.network.count``; files by their paths."""
    return {
        name.replace("init_args.", "").replace("class_path", "class"): value["file"]
        if isinstance(value, Mapping) and "file" in value
        else value
        for name, value in record.get("settings", {}).items()
    }


def open_run(
    directory: Path, prefix: str = "", data: AnalysisTimes | None = None, skip: int | None = None
) -> ReportedRun:
    """A run from its directory.

    Args:
        directory: of the run.
        prefix: of the names of its arms.
        data: truth and observations; None: those of its config, as far as they can be had.
        skip: analyses that its summary leaves out at the beginning; None: as its config says.

    Raises:
        UserError: when there is no run.
    """
    run = ReportedRun(RunResults(directory), prefix)
    config = directory / "config.yaml"
    if data is None and config.is_file():
        data = _data_of(config, run)
    elif data is None:
        run.faults.append(f"{config}: is not there, so truth and observations are not known; {_made_by(run)}")
    run.data, run.skip = data, _skip_of(config) if skip is None else skip
    return run


def _made_by(run: ReportedRun) -> str:
    """Where the command of a run is found."""
    if run.settings.get("command"):
        return "provenance.json has the command of the run"
    return "nor is the command of the run, without a provenance.json that can be read"


def _data_of(config: Path, run: ReportedRun) -> AnalysisTimes | None:
    """Truth and observations of a config. Nothing is prepared: that might make a whole world."""
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or "data" not in content:
            of_python = run.settings.get("command") == FROM_PYTHON
            damaged = f"damaged or cut short, it has no section data; {_made_by(run)}"
            run.faults.append(f"{config}: {_OF_PYTHON if of_python else damaged}")
            return None
        data: AnalysisTimes = instantiate(read_contents([config]), data=AnalysisTimes).data
    except (UserError, ArgumentError, OSError, ValueError, TypeError, yaml.YAMLError) as error:
        line = first_line(mistake_of(error) or error)
        run.faults.append(f"{config}: truth and observations cannot be made from it ({line})")
        return None
    try:
        data.setup("predict")
    except UserError as error:
        run.faults.append(
            f"the truth cannot be read, so there are no maps, spectra and innovations ({error}); run the "
            "command in the directory in which the run was made, with its VAEVAR_DATA"
        )
    return data


def _skip_of(config: Path) -> int:
    """How many analyses the summary of a run leaves out."""
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        callbacks = content["trainer"]["callbacks"]
        found = [one["init_args"]["skip"] for one in callbacks if one["class_path"].endswith(".Scores")]
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        found = []
    return int(found[0]) if found else Scores().skip


def _of_markdown(text: str) -> tuple[pd.DataFrame, list[str]]:
    """Table and paragraphs of a ``summary.md``."""
    paragraphs = [part.strip() for part in text.split("\n\n") if not part.startswith("#")]
    lines = [part for part in paragraphs if part.startswith("|")]
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")] for line in "\n".join(lines).split("\n")
    ]
    table = pd.DataFrame(rows[2:], columns=rows[0])
    notes = [part for part in paragraphs if not part.startswith(("|", "Made ")) and part]
    return table, notes
