"""Puts a report together: sections, their figures, and the page around them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vaevar.data.analysis_times import AnalysisTimes
from vaevar.errors import UserError
from vaevar.files import replacing
from vaevar.mistakes.notices import notice
from vaevar.verification.page.figures import Arms
from vaevar.verification.page.render import Page, config_text, render
from vaevar.verification.page.sections import Section, figure_html, section
from vaevar.verification.page.units import units_of_channels
from vaevar.verification.report.curves import (
    error_curves,
    forecasts,
    mean_curves,
    profiles,
    thinning,
    windows,
)
from vaevar.verification.report.innovations import innovations
from vaevar.verification.report.maps import limits_of, map_figure
from vaevar.verification.report.minimisation import minimisation
from vaevar.verification.report.run import ReportedRun, open_run
from vaevar.verification.report.spectra import spectra
from vaevar.verification.report.states import Sample, sample_states
from vaevar.verification.report.words import about, facts, settings_of_arms
from vaevar.verification.tables import cell_text

NAME, BESIDE = "report.html", "report_without_truth.html"
_MARKED = "The best value of each column is marked. Errors are in the units of the variables."
_NO_STATES = "No states were kept, or the run's truth cannot be read: see “What is missing”."
_OTHER_TIMES = (
    "The runs are not scored over the same analyses, so their numbers cannot be compared: the best values "
    "are marked within each run."
)
# Which number of a column of the summary is the best. Of the others none is.
_LARGEST = ("improved",)
_NOT_JUDGED = (
    "arm", "drift %/day", "2J/p", "iterations", "failed analyses", "times without truth", "2J/p far off",
    "implausible backgrounds", "stopped at",
)  # fmt: skip


def write_report(
    directories: Sequence[Path], data: AnalysisTimes | None = None, skip: int | None = None
) -> Path:
    """Write ``report.html`` into the first of the directories.

    Where the truth of a run cannot be had and there is a report, it is ``report_without_truth.html`` instead.

    Args:
        directories: of runs; those of several are compared.
        data: truth and observations of a single run; None: as its config says.
        skip: analyses that its summary leaves out at the beginning; None: likewise.

    Returns:
        Where it is.

    Raises:
        UserError: where there is no run, it has no scores yet, or the runs have other channels.
    """
    several = len(directories) > 1
    names = prefixes(directories) if several else [""]
    runs = [open_run(path, prefix, data, skip) for path, prefix in zip(directories, names, strict=True)]
    for run in runs[1:]:
        if run.spec != runs[0].spec:
            raise UserError(
                f"{run.directory}: has other channels than {runs[0].directory}, so they cannot be compared; "
                "report on each by itself"
            )
    text = page(runs)
    path = directories[0] / NAME
    if path.is_file() and any(run.truth is None or run.truth_is_another for run in runs):
        path = path.with_name(BESIDE)  # the one that is there may have what this one lacks
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    if data is None:
        for fault in _faults(runs):
            notice(f"parts of the report are missing: {fault}")
    return path


def prefixes(directories: Sequence[Path]) -> list[str]:
    """What tells the arms of several runs apart: names of directories, longer where they are equal."""
    parts = [path.absolute().parts for path in directories]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(names):
            return [f"{name}/" for name in names]
    raise UserError(f"{directories[0]}: given twice; give each run once")


def page(runs: Sequence[ReportedRun]) -> str:
    """The page about some runs."""
    names = list(dict.fromkeys(arm for run in runs for arm in run.arms))
    arms = Arms(names, [run.prefix for run in runs])
    samples = [sample_states(run) for run in runs]
    known = [(run, sample) for run, sample in zip(runs, samples, strict=True) if sample is not None]
    sections = [*_of_scores(runs, arms), *_of_states(known, arms), *_of_rest(runs, arms)]
    head, table, notes = _summary(runs)
    return render(
        Page(
            title=", ".join(run.directory.absolute().name for run in runs),
            about=[about(run) for run in runs],
            runs=[(run.directory.absolute().name, facts(run), config_text(run.directory)) for run in runs],
            head=head,
            table=table,
            notes=[*notes, _MARKED],
            sections=sections,
            faults=_faults(runs),
            settings=[row for run in runs for row in settings_of_arms(run)],
        )
    )


def _faults(runs: Sequence[ReportedRun]) -> list[str]:
    """Why parts are missing, each reason once."""
    return list(dict.fromkeys(fault for run in runs for fault in run.faults))


def _of_scores(runs: Sequence[ReportedRun], arms: Arms) -> list[Section]:
    step = max(thinning(len(run.times(arm)), runs) for run in runs for arm in run.arms)
    shown = "" if step == 1 else f" Of long cycles some analyses are shown only, here every {step}th."
    at_places = windows(runs, arms)
    sections = [
        section(
            "errors", "Errors in time",
            "RMSE and bias against the truth, area-weighted. Solid lines are analyses, dotted ones the "
            "backgrounds they correct: the gap between them is what the observations gave. Choose a variable "
            "and a level; click an arm in the legend to hide it, double-click to see it alone. “All "
            f"channels” is the mean over channels of RMSE / climatological standard deviation.{shown}",
            mean_curves(runs, arms), error_curves(runs, arms),
        ),
        section(
            "profiles", "Errors by level",
            "RMSE over the analyses of the table above, from the top of the atmosphere down, and below it at "
            "the surface. Solid lines and full dots are analyses, dotted lines and open dots backgrounds.",
            profiles(runs, arms),
        ),
    ]  # fmt: skip
    if at_places is not None:
        sections.append(
            section(
                "windows", "Windows of time",
                "An arm that analyses a window has seen later observations in all of its times but the last. "
                "So arms are compared at the last time, and by the background that begins the next window. "
                "Arms without windows are the same everywhere.",
                at_places,
            )
        )  # fmt: skip
    return sections


def _of_states(known: Sequence[tuple[ReportedRun, Sample]], arms: Arms) -> list[Section]:
    runs, samples = [run for run, _ in known], [sample for _, sample in known]
    units = units_of_channels(runs[0].spec) if runs else {}
    limits = limits_of(samples)
    maps = tuple(
        (run.prefix.rstrip("/"), figure_html(map_figure(run, sample, units, limits), "maps", number))
        for number, (run, sample) in enumerate(known)
    )
    count = max((sample.times for sample in samples), default=0)
    return [
        Section(
            "maps", "Maps",
            "A row for each arm: the error of the background, what the analysis changed, and the error that "
            "is left. A good increment is the background's error with the other sign, so that the third map "
            "is paler than the first. In the error maps red is too much, blue too little; all errors "
            "and increments of a variable have the same colours. Dots are the observed places; the RMSE is "
            "that of scores.csv, of q in g kg⁻¹. Choose a variable and a time; drag to zoom into all maps, "
            "double-click to come back.",
            maps, "" if maps else _NO_STATES,
        ),
        section(
            "spectra", "Spectra",
            "Power by total wavenumber: large scales on the left of each panel, small ones on the right; the "
            "sum over wavenumbers is the mean square. Analyses should have the truth's power, grey: less is "
            "too smooth, more is noise, and in the middle 1 is right. An error that reaches the truth's "
            f"power knows nothing of that scale. Means over {count} times.",
            spectra(runs, samples, arms, units) if known else None,
            missing="The grid has no spectral transform." if known else _NO_STATES,
        ),
        section(
            "innovations", "Innovations",
            "d_b is observation minus background, d_a observation minus analysis; no truth is needed. The "
            "first ratio is 1 where B and R are consistent, above where analyses stay too far from the "
            "observations, below where they come too close. Means far from 0 are a bias of the background. "
            f"Over {count} times (Desroziers and others, 2005).",
            innovations(runs, samples, arms) if known else None,
            missing="Nothing was observed." if known else _NO_STATES,
        ),
    ]  # fmt: skip


def _of_rest(runs: Sequence[ReportedRun], arms: Arms) -> list[Section]:
    return [
        section(
            "minimisation", "Minimisation and cost",
            "For each analysis: the parts of the cost function J at the end, 2J/p (p is the number of "
            "observations; near 1 where B and R are right), iterations, gradient and seconds. Arms that "
            "minimise nothing have their seconds, and numbers of their own.",
            minimisation(runs, arms), missing="No diagnostics.csv can be read.",
        ),
        section(
            "forecasts", "Forecasts",
            "RMSE of forecasts from the analyses, by lead time: what an analysis is worth days later.",
            forecasts(runs, arms),
            missing="No forecasts were made. Add the callback Forecasts to trainer.callbacks, and run under "
            "another name; the truth must go on for its lead_hours (5 days) after the last analysis.",
        ),
    ]  # fmt: skip


def _summary(
    runs: Sequence[ReportedRun],
) -> tuple[list[str], list[list[tuple[str, bool]]], list[str]]:
    """Titles, cells with whether each is the best of its column, and notes."""
    tables, notes = [], []
    for run in runs:
        try:
            table, said = run.summary()
        except UserError as error:
            run.faults.append(f"{run.directory}: {error}")
            continue
        tables.append(table.assign(arm=[run.label(str(arm)) for arm in table["arm"]]))
        notes += [f"{run.prefix.rstrip('/')}: {text}" if run.prefix else text for text in said]
    if not tables:
        return [], [], []
    table = pd.concat(tables, ignore_index=True)
    judged = [table]
    if not all(np.array_equal(run.compared, runs[0].compared) for run in runs):
        judged = [one.reindex(columns=table.columns) for one in tables]
        notes.append(_OTHER_TIMES)
    rows = [row for one in judged for row in _cells(one)]
    return [str(name) for name in table.columns], rows, list(dict.fromkeys(notes))


def _cells(table: pd.DataFrame) -> list[list[tuple[str, bool]]]:
    best = {name: best_rows(str(name), table[name]) for name in table.columns}
    return [
        [(cell_text(row[name]), number in best[name]) for name in table.columns]
        for number, (_, row) in enumerate(table.iterrows())
    ]


def best_rows(name: str, column: pd.Series) -> set[Any]:
    """The rows of a column of the summary that hold its best number, as it is written; none where no number
    is better than another.

    Args:
        name: of the column.
        column: its cells, numbers or texts of numbers.
    """
    if name in _NOT_JUDGED:
        return set()
    values = pd.to_numeric(column.map(cell_text), errors="coerce")
    if values.nunique() < 2:
        return set()
    best = values.max() if name in _LARGEST else values.min()
    return set(np.flatnonzero(values == best).tolist())
