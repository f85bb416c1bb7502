"""Figures from the tables of scores: errors in time, by level, in windows and by lead time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vaevar.errors import UserError
from vaevar.state import StateSpec
from vaevar.verification.metrics import matrix, normalised_series, time_mean_rmse
from vaevar.verification.page.channels import Line, channel_figure
from vaevar.verification.page.figures import Arms, Figure
from vaevar.verification.page.levels import Profile, level_figure
from vaevar.verification.page.units import in_units
from vaevar.verification.report.run import ReportedRun

QUANTITIES = ("analysis", "background")
# A longer cycle is thinned: more points than pixels show nothing.
POINTS, ALL_POINTS = 240, 4000
_DATES = {"type": "date"}


def mean_curves(runs: Sequence[ReportedRun], arms: Arms) -> Figure | None:
    """The mean over channels of RMSE / climatological std in time; None where the latter is not known."""
    lines = []
    for run in runs:
        for arm in run.arms:
            times, label = run.times(arm), run.label(arm)
            kept = slice(None, None, thinning(len(times), runs))
            for quantity in QUANTITIES:
                mean = _mean_series(run, label, quantity)
                if mean is not None:
                    lines.append(Line(label, quantity, 0, along(times[kept]), None, mean[kept]))
    if not lines:
        return None
    return channel_figure(None, lines, arms, ["All channels: mean of RMSE / climatological std"], _DATES)


def error_curves(runs: Sequence[ReportedRun], arms: Arms) -> Figure:
    """RMSE and bias of analyses and backgrounds in time, by arm."""
    lines = []
    for run in runs:
        for arm in run.arms:
            times, label = run.times(arm), run.label(arm)
            kept = slice(None, None, thinning(len(times), runs))
            for quantity in QUANTITIES:
                for panel, column in enumerate(("rmse", "bias")):
                    values = matrix(run.scores, label, quantity, run.spec, column)[kept]
                    shown = in_units(run.spec, values)
                    lines.append(Line(label, quantity, panel, along(times[kept]), shown))
    return channel_figure(runs[0].spec, lines, arms, ["RMSE", "Bias"], _DATES)


def thinning(count: int, runs: Sequence[ReportedRun]) -> int:
    """Of how many analyses of an arm one is shown."""
    arms = sum(len(run.arms) for run in runs)
    return max(1, math.ceil(count / max(30, min(POINTS, ALL_POINTS // arms))))


def along(times: np.ndarray) -> dict[str, Any]:
    """Times for Plotly: first and step where they are evenly spaced."""
    steps = np.unique(np.diff(times))
    first = np.datetime_as_string(times[0], "m")
    if len(steps) == 1:
        return {"x0": first, "dx": float(steps[0] / np.timedelta64(1, "ms"))}
    return {"x": np.datetime_as_string(times, "m").tolist()}


def profiles(runs: Sequence[ReportedRun], arms: Arms) -> Figure:
    """RMSE over the time that is compared, by level and at the surface."""
    spec = runs[0].spec
    found = [
        Profile(label, quantity, time_mean_rmse(run.settled, label, quantity, spec, 0))
        for run in runs
        for label in map(run.label, run.arms)
        for quantity in QUANTITIES
    ]
    return level_figure(spec, found, arms)


def windows(runs: Sequence[ReportedRun], arms: Arms) -> Figure | None:
    """RMSE of analyses by their place in the window; None where no arm has windows of several times."""
    lines = []
    for run in runs:
        scores = run.settled
        longest = int(scores["window"].max()) if "window" in scores else 1
        if longest < 2:
            continue
        hours = 0.0
        if len(run.compared) > 1:
            hours = float((run.compared[1] - run.compared[0]) / np.timedelta64(1, "h"))
        for arm in run.arms:
            label = run.label(arm)
            of_arm = scores[scores["arm"] == label]
            length = int(of_arm["window"].max())
            # An arm without windows is the same everywhere: a level line to compare with.
            places = [
                of_arm[of_arm["position"] == place] if length > 1 else of_arm for place in range(longest)
            ]
            places = places[: length if length > 1 else longest]
            lines += [
                _line(run, label, quantity, places, {"x": [hours * place for place in range(len(places))]})
                for quantity in QUANTITIES
            ]
    if not lines:
        return None
    title = "hours after the first time of the window"
    return channel_figure(runs[0].spec, lines, arms, ["RMSE by place in the window"], {"title": title})


def forecasts(runs: Sequence[ReportedRun], arms: Arms) -> Figure | None:
    """RMSE of forecasts from the analyses, by lead time; None where no run has any.

    Within a run they are those from the times that all arms have, where there are any.
    """
    lines = []
    for run in runs:
        by_arm = {arm: rows for arm in run.arms if (rows := _forecasts_of(run, arm)) is not None}
        common = set.intersection(*(set(rows["time"]) for rows in by_arm.values())) if by_arm else set()
        if by_arm and not common:
            run.faults.append(
                f"{run.directory}: the arms' forecasts start from different times, so their errors are of "
                "different days; with `beside` of the callback Forecasts they have days in common"
            )
        for arm, rows in by_arm.items():
            label, leads = run.label(arm), sorted(rows["lead_hours"].unique())
            chosen = rows[rows["time"].isin(common)] if common else rows
            chosen = chosen.assign(arm=label, quantity="forecast")
            at_leads = [chosen[chosen["lead_hours"] == lead] for lead in leads]
            lines.append(_line(run, label, "forecast", at_leads, {"x": [float(lead) for lead in leads]}))
    if not lines:
        return None
    return channel_figure(
        runs[0].spec, lines, arms, ["RMSE of forecasts"], {"title": "lead time, hours"}, False
    )


def _forecasts_of(run: ReportedRun, arm: str) -> pd.DataFrame | None:
    """The rows of the forecasts of an arm that are there whole; None where there are none."""
    try:
        rows = run.results[arm].forecasts
    except UserError as error:
        if (run.directory / arm / "forecasts.csv").is_file():
            run.faults.append(str(error))
        return None
    count = rows.groupby("time")["channel"].transform("size")
    rows = rows[count == rows["lead_hours"].nunique() * len(run.spec)]
    return None if rows.empty else rows


def _line(
    run: ReportedRun, label: str, quantity: str, rows: Sequence[pd.DataFrame], x: dict[str, Any]
) -> Line:
    """RMSE over time of several sets of rows, one for each place along a line."""
    values = np.stack([time_mean_rmse(one, label, quantity, run.spec, 0) for one in rows])
    std = climatological_std(run, run.spec)
    mean = None if std is None else (values / std).mean(1)
    return Line(label, quantity, 0, x, in_units(run.spec, values), mean)


def _mean_series(run: ReportedRun, label: str, quantity: str) -> np.ndarray | None:
    std = climatological_std(run, run.spec)
    return None if std is None else normalised_series(run.scores, label, quantity, run.spec, std)


def climatological_std(run: ReportedRun, spec: StateSpec) -> np.ndarray | None:
    """[C], if the run's data are known."""
    if run.data is None:
        return None
    return np.asarray(run.data.climatological_std)[[run.data.spec.index(name) for name in spec.names]]
