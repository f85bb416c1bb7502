"""The runs of a comparison: one arm of one case at a time."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import traceback
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import Timeout
from jsonargparse import ArgumentParser

from vaevar.cli import main as run
from vaevar.data.analysis_times import AnalysisTimes
from vaevar.errors import UserError
from vaevar.experiments.comparison.record import (
    MEAN,
    Case,
    callback_settings,
    current,
    fingerprints,
    measure,
    read,
    record,
    recorded,
    windows,
)
from vaevar.experiments.comparison.truth import require_one_truth, truth_number
from vaevar.files import file_lock


@dataclass(frozen=True)
class Sweep:
    """What to run, and where the results go.

    Attributes:
        config: the resolved config of a cycle. Each case replaces its network and seeds.
        cases: in the order of their runs.
        arms: names of arms in ``config``.
        runs: directory of the run directories, ``<case>/<arm>-<fingerprint>``.
        results: directory of the records, ``<case>.csv``.
    """

    config: dict[str, Any]
    cases: list[Case]
    arms: list[str]
    runs: Path
    results: Path

    def __post_init__(self) -> None:
        configured = self.config["model"]["init_args"]["arms"]
        unknown = [name for name in self.arms if name not in configured]
        if unknown:
            raise UserError(f"no arms {', '.join(unknown)} in the config; it has {', '.join(configured)}")

    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the arms, by name."""
        of_all = fingerprints(self.config)
        return {name: of_all[name] for name in self.arms}

    def path(self, case: Case) -> Path:
        """The record of a case."""
        return self.results / f"{case.name}.csv"

    def missing(self) -> list[tuple[Case, str]]:
        """The runs that are not recorded, in their order."""
        known = self.fingerprints()
        return [
            (case, arm)
            for case in self.cases
            for arm in self.arms
            if not recorded(self.path(case), arm, known[arm])
        ]

    def require_truth(self, data: AnalysisTimes) -> None:
        """Make the truth, and look whether the records beside this one are of the same.

        Raises:
            UserError: when they are not.
        """
        data.source.prepare(data.times[0], data.times[-1])
        of_all = fingerprints(self.config)
        files = [current(read(path), of_all) for path in sorted(self.results.glob("*_seed*.csv"))]
        if files:
            require_one_truth(pd.concat(files), self.results, truth_number(data))

    def skip(self) -> int:
        """Analyses left out at the beginning of every run."""
        return int(callback_settings(self.config, "Scores")["skip"])

    def data(self, case: Case, arm: str) -> AnalysisTimes:
        """The data module of a run."""
        parser = ArgumentParser()
        parser.add_subclass_arguments(AnalysisTimes, "data")
        settings = parser.parse_object({"data": case.config(self.config, arm)["data"]})
        return parser.instantiate(settings).data


def work(sweep: Sweep) -> bool:
    """Run what is missing and no other process is running, one after the other. True when none failed."""
    fine = True
    for case in sweep.cases:
        for arm in sweep.arms:
            fine &= attempt(sweep, case, arm)
    return fine


def attempt(sweep: Sweep, case: Case, arm: str) -> bool:
    """Run one arm of one case, unless it is recorded or another process is at it.

    Returns:
        False when it failed, which has been reported.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        _claim_and_run(sweep, case, arm)
    except (Exception, SystemExit) as error:
        # Exit code 2 is a user's mistake that has been printed; any other exit interrupts the sweep.
        if isinstance(error, SystemExit) and error.code != 2:
            raise
        if isinstance(error, UserError):
            print(f"error: {error}", file=sys.stderr)
        elif not isinstance(error, SystemExit):
            traceback.print_exc()
        say(f"{case.name} {arm}: failed")
        return False
    return True


def _claim_and_run(sweep: Sweep, case: Case, arm: str) -> None:
    """One arm of one case, unless it is recorded or another process works on it."""
    # Computed for every run: a sweep may take days, and the weights may change meanwhile.
    fingerprint = sweep.fingerprints()[arm]
    path, directory = sweep.path(case), sweep.runs / case.name / f"{arm}-{fingerprint}"
    if recorded(path, arm, fingerprint):
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        # The lock is released when its process ends, so a killed process leaves no claim.
        with file_lock(Path(f"{directory}.lock")).acquire(timeout=0):
            if recorded(path, arm, fingerprint):
                return
            say(f"{case.name} {arm}: begins")
            data = sweep.data(case, arm)
            sweep.require_truth(data)
            config = case.config(sweep.config, arm)
            config["name"] = directory.name
            config["trainer"]["logger"]["init_args"] |= {"save_dir": str(directory.parent), "version": ""}
            # Ranks divide the arms among them, and there is one arm.
            config["trainer"] |= {"devices": 1, "strategy": "auto"}
            config_file = Path(f"{directory}.yaml")
            config_file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
            with (
                open(
                    f"{directory}.log", "a", encoding="utf-8", buffering=1
                ) as log,  # a kill leaves its lines
                contextlib.redirect_stdout(log),
            ):
                run(["predict", "--config", str(config_file)])
            if sweep.fingerprints()[arm] != fingerprint:
                raise UserError(f"{case.name} {arm}: its weights changed during the run; run it again")
            every = int(callback_settings(sweep.config, "Forecasts")["every"])
            others = windows(sweep.config).values()
            rows = measure(directory, arm, data, sweep.skip(), every, others)
            commit = json.loads((directory / "provenance.json").read_text(encoding="utf-8"))["commit"] or ""
            with file_lock(directory.parent / "record.lock"):
                record(path, case, arm, rows, fingerprint, commit)
            score = rows[(rows["quantity"] == "analysis") & (rows["channel"] == MEAN)]["value"].item()
            say(f"{case.name} {arm}: analysis rmse / std {score:.4g}")
    except Timeout:
        return


def say(text: str) -> None:
    """Print a line with the time of day."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)
