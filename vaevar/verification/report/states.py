"""What a report takes from states: fields for maps, spectra, and departures from the observations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from vaevar.data.analysis_times import AnalysisTime
from vaevar.data.observations.points import Observations
from vaevar.data.times import moment
from vaevar.errors import UserError, first_line
from vaevar.sphere.coarsening import coarsening_for_pictures
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics, largest_truncation
from vaevar.state import State
from vaevar.verification.consistency import departures
from vaevar.verification.metrics import rmse
from vaevar.verification.report.run import ReportedRun
from vaevar.verification.scores import HEADLINE_CHANNELS

STATISTICS_TIMES, MAP_TIMES = 20, 8
# Bytes of states that are read for a report. A state at 0.25° is 287 MB.
_READ = 4e9
# Relative; states may be stored with fewer digits than they were scored with.
_SAME_SCORE = 0.02
# Bytes of all maps of a run, a byte for each point.
_MAPS = 4.5e6
TRUTH = ""
QUANTITIES = ("analysis", "background error", "increment", "analysis error")


@dataclass
class MapTime:
    """Fields of one time.

    Attributes:
        time: of the analyses.
        longitude, latitude: of the places that were observed, [P] degrees.
        truth: [C, H, W].
        arms: by name, the four ``QUANTITIES``, each [C, H, W].
    """

    time: np.datetime64
    longitude: np.ndarray
    latitude: np.ndarray
    truth: np.ndarray
    arms: dict[str, np.ndarray]


@dataclass
class Departures:
    """Departures of one arm from the observations of several times.

    Attributes:
        before, after: of backgrounds and analyses, [P] at each time.
        observations: at each time.
    """

    before: list[np.ndarray] = field(default_factory=list)
    after: list[np.ndarray] = field(default_factory=list)
    observations: list[Observations] = field(default_factory=list)


@dataclass
class Sample:
    """What was taken from the states of a run.

    Attributes:
        channels: C names of those that have maps and spectra.
        grid: of the maps.
        maps: by time.
        spectra: power of the truth (under ``TRUTH``, [C, L]) and by arm of the four ``QUANTITIES``, a [C, L]
            for each time; empty where the grid has no transform.
        departures: by arm.
    """

    channels: list[str]
    grid: Grid
    maps: list[MapTime] = field(default_factory=list)
    spectra: dict[str, list[np.ndarray]] = field(default_factory=dict)
    departures: dict[str, Departures] = field(default_factory=dict)

    @property
    def times(self) -> int:
        return max((len(found.before) for found in self.departures.values()), default=0)


def sample_states(run: ReportedRun) -> Sample | None:
    """Read states of a run at some of its times; None where there are none, as the run's faults say."""
    data = run.truth
    if data is None:
        return None
    stores = _stores(run)
    if not stores:
        return None
    grid = data.store.grid
    coarsening = coarsening_for_pictures(grid)
    channels = [name for name in HEADLINE_CHANNELS if run.spec.has(name)] or list(run.spec.names[:4])
    sample = Sample(channels, grid if coarsening is None else coarsening.target)
    power = _power(sample.grid)
    indices = [data.spec.index(name) for name in channels]

    def chosen(state: State) -> Tensor:
        values = state.values[indices].double()
        return values if coarsening is None else coarsening(values)

    times = _times(run, len(stores))
    lost: dict[str, list[tuple[np.datetime64, str]]] = {}
    mapped = set(_spread(times, _map_count(sample, len(stores))).tolist())
    for time in times:
        try:
            now = data.analysis_time(int(np.searchsorted(data.times, time)))
        except UserError as error:
            run.faults.append(f"{time}: not in the maps and statistics of states ({error})")
            continue
        truth = chosen(now.truth)
        fields = {}
        for arm, of_arm in stores.items():
            try:
                background, analysis = (
                    State.from_xarray(store.sel(time=time), data.spec) for store in of_arm
                )
            except KeyError:
                lost.setdefault(arm, []).append((time, "not there"))
                continue
            except Exception as error:  # zarr raises many kinds for a damaged file
                lost.setdefault(arm, []).append((time, first_line(error)))
                continue
            if reason := _other_truth(run, arm, now, analysis):
                run.faults.append(reason)
                run.truth_is_another = True
                return None
            b, a = chosen(background), chosen(analysis)
            fields[arm] = torch.stack([a, b - truth, a - b, a - truth])
            _depart(sample, arm, now, background, analysis)
        if power is not None and fields:
            for name, values in {TRUTH: truth, **fields}.items():
                sample.spectra.setdefault(name, []).append(power(values).numpy())
        if time.item() in mapped and fields:
            sample.maps.append(_map_time(now, truth, fields))
    for arm, at in lost.items():
        run.faults.append(
            f"{run.directory / arm}: the states of {len(at)} of {len(times)} times are damaged or missing, "
            f"so they are left out (the first, {moment(at[0][0])}: {at[0][1]})"
        )
    return sample if sample.times else None


def _other_truth(run: ReportedRun, arm: str, now: AnalysisTime, analysis: State) -> str:
    """Why the truth that is here is not the run's; empty if it is. Generated weather differs by machine."""
    channel = analysis.spec.names[0]
    rows = run.scores[
        (run.scores["arm"] == run.label(arm)) & (run.scores["time"] == now.time)
        & (run.scores["quantity"] == "analysis") & (run.scores["channel"] == channel)
    ]  # fmt: skip
    told = float(rows["rmse"].iloc[0])
    found = float(rmse(analysis.values[:1] - now.truth.values[:1], analysis.grid)[0])
    missing_then = math.isnan(told)
    if missing_then or math.isclose(found, told, rel_tol=_SAME_SCORE):
        return ""
    return (
        f"{run.directory / arm}: by scores.csv the analysis of {moment(now.time)} has an error of {channel} "
        f"of {told:.4g}, but against the truth that is here it is {found:.4g}, so this truth is another; for "
        "maps, spectra and innovations bring the data along that the run was made with"
    )


def _stores(run: ReportedRun) -> dict[str, tuple[xr.Dataset, xr.Dataset]]:
    """Backgrounds and analyses of the arms that kept both."""
    stores = {}
    for arm in run.arms:
        try:
            stores[arm] = (
                run.results[arm].states("background", quiet=True),
                run.results[arm].states("analysis", quiet=True),
            )
        except UserError as error:
            run.faults.append(f"{arm} has no maps, spectra and innovations ({error})")
    return stores


def _times(run: ReportedRun, arms: int) -> np.ndarray:
    """The times at which states are read, spread over those that all arms have."""
    assert run.data is not None
    rows, columns = run.data.store.grid.shape
    size = 4 * len(run.data.spec) * rows * columns * (1 + 2 * arms)
    return _spread(run.shared, min(STATISTICS_TIMES, max(1, int(_READ / size))))


def _map_count(sample: Sample, arms: int) -> int:
    size = sample.grid.shape[0] * sample.grid.shape[1] * len(sample.channels) * (2 + 3 * arms)
    return min(MAP_TIMES, max(1, int(_MAPS / size)))


def _spread(times: np.ndarray, count: int) -> np.ndarray:
    """At most so many of the times, with the first and the last."""
    chosen = np.linspace(0, len(times) - 1, min(count, len(times)))
    return times[np.unique(np.rint(chosen).astype(int))]


def _depart(sample: Sample, arm: str, now: AnalysisTime, background: State, analysis: State) -> None:
    found = sample.departures.setdefault(arm, Departures())
    operator = now.observations.operator(background.spec, background.grid)
    found.before.append(departures(operator, background, now.observations))
    found.after.append(departures(operator, analysis, now.observations))
    found.observations.append(now.observations)


def _map_time(now: AnalysisTime, truth: Tensor, fields: dict[str, Tensor]) -> MapTime:
    places = np.stack([now.observations.longitude % 360.0, now.observations.latitude])
    places = np.unique(places, axis=1) if places.size else places
    arms = {arm: values.float().numpy() for arm, values in fields.items()}
    return MapTime(now.time, places[0], places[1], truth.float().numpy(), arms)


def _power(grid: Grid) -> Callable[[Tensor], Tensor] | None:
    """Power by total wavenumber, [..., H, W] -> [..., L]; None for a grid without a transform."""
    try:
        return SphericalHarmonics(grid, largest_truncation(grid), torch.float64).power
    except ValueError:
        return None
