"""Figures of the single-observation experiment, with one row per arm.

Each column of a figure has one colour scale and one scale of arrows for all arms. Local maps and sections are
centred on the observation, which is marked by a cross.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaevar.constants import EARTH_RADIUS_KM
from vaevar.experiments.single_observation.data import Place
from vaevar.experiments.single_observation.scores import Case, nonlinearity, smallest_departure
from vaevar.sphere.grid import Grid
from vaevar.state import UPPER_VARIABLES, StateSpec
from vaevar.verification.maps import draw_map

ARROWS = 14  # across a local map


@dataclass(frozen=True)
class Arrows:
    """A wind field, drawn on a scale that the panels of a figure share.

    Attributes:
        u, v: [H, W].
        strongest: the wind speed of the longest arrow.
    """

    u: np.ndarray
    v: np.ndarray
    strongest: float


def increment_maps(cases: Sequence[Case], grid: Grid, level: int, radius_km: float) -> Figure:
    """A row per arm: z with wind arrows, u and v around the observation, and z on the whole sphere."""
    figure = Figure(figsize=(19, 4.2 * len(cases) + 0.6), layout="constrained")
    panels = figure.subplots(len(cases), 4, squeeze=False, width_ratios=[1, 1, 1, 1.5])
    strongest = largest([case.speed for case in cases])
    for column, (name, units) in enumerate((("z", "m²/s²"), ("u", "m/s"), ("v", "m/s"))):
        limit = largest([getattr(case, name) for case in cases])
        for row, case in enumerate(cases):
            title = f"{case.arm}: {name}{level} ({units})"
            arrows = Arrows(case.u, case.v, strongest) if name == "z" else None
            local_map(
                panels[row, column], getattr(case, name), grid, case.place, radius_km, limit, title, arrows
            )
            if name == "z":
                draw_map(panels[row, 3], case.z, grid, title, "RdBu_r", vmin=-limit, vmax=limit)
                panels[row, 3].plot(case.place.longitude % 360, case.place.latitude, "k+", markersize=8)
    figure.suptitle(_title(cases[0]))
    return figure


def sections(
    cases: Sequence[Case], fields: Mapping[str, np.ndarray], spec: StateSpec, grid: Grid, half_width: float
) -> Figure:
    """Pressure × longitude at the observation's latitude: a row per arm, a column per variable.

    Args:
        cases: one per arm.
        fields: by arm, [C, W] increments along the latitude (:func:`along_latitude`).
        spec, grid: of the increments.
        half_width: degrees of longitude on either side.
    """
    shown = [name for name in ("z", "u", "v", "t") if name in spec.upper]
    figure = Figure(figsize=(4.6 * len(shown), 3.6 * len(cases) + 0.6), layout="constrained")
    panels = figure.subplots(len(cases), len(shown), squeeze=False)
    for column, name in enumerate(shown):
        levels = spec.variable_slice(name)
        limit = largest([fields[case.arm][levels] for case in cases])
        for row, case in enumerate(cases):
            axis: Axes = panels[row, column]
            order, longitude = centred(grid.longitude, case.place.longitude)
            image = axis.pcolormesh(
                longitude,
                spec.levels,
                fields[case.arm][levels][:, order],
                cmap="RdBu_r",
                vmin=-limit,
                vmax=limit,
                shading="nearest",
            )
            axis.set_yscale("log")
            axis.set_yticks(spec.levels, [str(level) for level in spec.levels], fontsize=7)
            axis.minorticks_off()
            axis.set_ylim(spec.levels[-1], spec.levels[0])
            axis.set_xlim(case.place.longitude - half_width, case.place.longitude + half_width)
            axis.axvline(case.place.longitude, color="k", linewidth=0.5)
            axis.set_title(f"{case.arm}: {name} ({UPPER_VARIABLES[name].units})", fontsize=9)
            axis.set_xlabel("longitude")
            if column == 0:
                axis.set_ylabel("pressure, hPa")
            figure.colorbar(image, ax=axis)
    figure.suptitle(f"{_title(cases[0])}: section at {cases[0].place.latitude:g}°")
    return figure


def date_maps(cases: Sequence[Case], grid: Grid, level: int, radius_km: float) -> Figure:
    """Arms × background dates: z with wind arrows, and its largest difference from the first date."""
    arms, times = _unique(case.arm for case in cases), _unique(case.time for case in cases)
    by_date = {(case.arm, case.time): case for case in cases}
    figure = Figure(figsize=(4.6 * len(times), 4.0 * len(arms) + 0.6), layout="constrained")
    panels = figure.subplots(len(arms), len(times), squeeze=False)
    limit = largest([case.z for case in cases])
    strongest = largest([case.speed for case in cases])
    for row, arm in enumerate(arms):
        first = by_date[arm, times[0]]
        for column, time in enumerate(times):
            case = by_date[arm, time]
            difference = float(np.abs(case.z - first.z).max())
            title = f"{arm}: {time.astype('datetime64[h]')}, at most {difference:.2g} from the first"
            wind = Arrows(case.u, case.v, strongest)
            local_map(panels[row, column], case.z, grid, case.place, radius_km, limit, title, wind)
    figure.suptitle(f"z{level} increment (m²/s²) by background date: {_title(cases[0], dated=False)}")
    return figure


def departure_maps(cases: Sequence[Case], grid: Grid, level: int, radius_km: float) -> Figure:
    """Arms × departures: z and wind per unit departure, and profiles of z along the latitude."""
    arms = _unique(case.arm for case in cases)
    departures = sorted(_unique(case.departure for case in cases))
    by_departure = {(case.arm, case.departure): case for case in cases}
    figure = Figure(figsize=(4.4 * (len(departures) + 1), 4.0 * len(arms) + 0.6), layout="constrained")
    panels = figure.subplots(len(arms), len(departures) + 1, squeeze=False)
    limit = largest([case.z / case.departure for case in cases])
    strongest = largest([case.speed / case.departure for case in cases])
    half_width = view(cases[0].place, radius_km)[0]
    for row, arm in enumerate(arms):
        base = smallest_departure(list(cases), arm, cases[0].place)
        profile: Axes = panels[row, -1]
        for column, departure in enumerate(departures):
            case = by_departure[arm, departure]
            unit = case.z / departure
            number = nonlinearity([(case.z, base.z)], departure, base.departure, grid)
            title = f"{arm}: {departure:+g}, nonlinearity {number:.2g}"
            wind = Arrows(case.u / departure, case.v / departure, strongest)
            local_map(panels[row, column], unit, grid, case.place, radius_km, limit, title, wind)
            order, longitude = centred(grid.longitude, case.place.longitude)
            line = along_latitude(unit, grid, case.place.latitude)
            profile.plot(longitude, line[order], label=f"{departure:+g}")
        profile.set_xlim(cases[0].place.longitude - half_width, cases[0].place.longitude + half_width)
        profile.axvline(cases[0].place.longitude, color="k", linewidth=0.5)
        profile.axhline(0.0, color="k", linewidth=0.5)
        profile.set_title(f"{arm}: along the latitude", fontsize=9)
        profile.set_xlabel("longitude")
        profile.legend(fontsize=8)
    figure.suptitle(f"z{level} increment per unit departure: {_title(cases[0], departing=False)}")
    return figure


def local_map(
    axis: Axes,
    values: np.ndarray,
    grid: Grid,
    place: Place,
    radius_km: float,
    limit: float,
    title: str,
    wind: Arrows | None = None,
) -> None:
    """Draw a field [H, W] around the observation, with arrows for ``wind``."""
    order, longitude = centred(grid.longitude, place.longitude)
    half_width, half_height = view(place, radius_km)
    image = axis.pcolormesh(
        longitude,
        grid.latitude,
        values[:, order],
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        shading="nearest",
    )
    if wind is not None:
        rows = np.flatnonzero(np.abs(grid.latitude - place.latitude) <= half_height)
        columns = np.flatnonzero(np.abs(longitude - place.longitude) <= half_width)
        rows, columns = (part[:: max(1, part.size // ARROWS)] for part in (rows, columns))
        u, v = (part[:, order][np.ix_(rows, columns)] for part in (wind.u, wind.v))
        scale = ARROWS / 1.5 * wind.strongest
        axis.quiver(longitude[columns], grid.latitude[rows], u, v, angles="uv", scale=scale, width=0.004)
    axis.plot(place.longitude, place.latitude, "k+", markersize=10)
    axis.set_xlim(place.longitude - half_width, place.longitude + half_width)
    axis.set_ylim(max(place.latitude - half_height, -90), min(place.latitude + half_height, 90))
    axis.set_title(title, fontsize=9)
    axis.figure.colorbar(image, ax=axis, shrink=0.8)


def view(place: Place, radius_km: float) -> tuple[float, float]:
    """Half width and half height of a local map in degrees: slightly more than ``radius_km``."""
    half_height = 1.2 * np.degrees(radius_km / EARTH_RADIUS_KM)
    return min(half_height / max(np.cos(np.radians(place.latitude)), 0.1), 180.0), min(half_height, 90.0)


def centred(longitude: np.ndarray, middle: float) -> tuple[np.ndarray, np.ndarray]:
    """Order of columns that centres ``middle``, and their longitudes [W], ascending, within ±180° of it."""
    shifted = (longitude - middle + 180.0) % 360.0 - 180.0 + middle
    order = np.argsort(shifted)
    return order, shifted[order]


def along_latitude(values: np.ndarray, grid: Grid, latitude: float) -> np.ndarray:
    """Linear interpolation to a latitude, [..., H, W] -> [..., W]; constant beyond the first and last row."""
    south = int(np.clip(np.searchsorted(-grid.latitude, -latitude), 1, grid.shape[0] - 1))
    upper, lower = grid.latitude[south - 1], grid.latitude[south]
    weight = float(np.clip((upper - latitude) / (upper - lower), 0.0, 1.0))
    return np.asarray((1 - weight) * values[..., south - 1, :] + weight * values[..., south, :])


def largest(fields: Sequence[np.ndarray]) -> float:
    """The largest absolute value, or 1 when all are zero: the end of a colour scale."""
    return max(float(np.abs(field).max()) for field in fields) or 1.0


def _unique(values: Any) -> list:
    return list(dict.fromkeys(values))


def _title(case: Case, dated: bool = True, departing: bool = True) -> str:
    parts = [f"one observation at {case.place.label}"]
    if departing:
        parts.append(f"departure {case.departure:+g}")
    if dated:
        parts.append(f"background of {case.time.astype('datetime64[h]')}")
    return ", ".join(parts)
