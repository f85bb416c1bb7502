"""Numbers of the single-observation experiment: a row per case and arm, and tables of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vaevar.experiments.single_observation.data import Place, SingleObservation
from vaevar.experiments.single_observation.geostrophy import geostrophic_wind, neighbourhood, wind_correlation
from vaevar.experiments.single_observation.module import Response
from vaevar.sphere.grid import Grid

EQUAL = 1e-5  # relative difference below which increments count as equal (float32 minimisation)


@dataclass(frozen=True)
class Case:
    """The part of one arm's response to one observation that figures and tables need.

    Attributes:
        arm: its name.
        time: of the background.
        place: of the observation.
        departure: of the observation from the background.
        z, u, v: [H, W] increments on one pressure level, float64, physical units.
        row: the case's line of ``cases.csv`` (:func:`case_row`).
    """

    arm: str
    time: np.datetime64
    place: Place
    departure: float
    z: np.ndarray
    u: np.ndarray
    v: np.ndarray
    row: dict[str, Any]

    @property
    def speed(self) -> np.ndarray:
        """[H, W] of the wind increment, m/s."""
        return np.hypot(self.u, self.v)


def make_case(arm: str, batch: SingleObservation, response: Response, level: int, radius_km: float) -> Case:
    """Keep the necessary part of a response.

    Args:
        arm: its name.
        batch: the background and the observation.
        response: of the arm.
        level: of wind and geopotential, hPa; the state must have z, u and v at this level.
        radius_km: within which wind and geostrophic wind are compared.
    """
    spec = batch.background.spec
    z, u, v = (
        response.increment[spec.index(f"{name}{level}")].double().cpu().numpy() for name in ("z", "u", "v")
    )
    row = case_row(arm, batch, response, (z, u, v), radius_km)
    return Case(arm, batch.time, batch.place, batch.departure, z, u, v, row)


def case_row(
    arm: str,
    batch: SingleObservation,
    response: Response,
    level_fields: tuple[np.ndarray, np.ndarray, np.ndarray],
    radius_km: float,
) -> dict[str, Any]:
    """One line of ``cases.csv``.

    ``increment`` and ``optimal`` are at the observation, in its units; ``optimal`` is the scalar analysis
    d · HBHᵀ/(HBHᵀ + R). ``background_std`` is √(HBHᵀ). ``correlation`` is the correlation of the wind
    increment with the geostrophic wind of the height increment, around the observation.
    """
    z, u, v = level_fields
    grid, place = batch.background.grid, batch.place
    around = neighbourhood(grid, place.latitude, place.longitude, radius_km)
    variance = np.nan if response.background_variance is None else response.background_variance
    error_variance = float(batch.observations.error_std[0]) ** 2
    return {
        "arm": arm,
        "place": place.label,
        "latitude": place.latitude,
        "longitude": place.longitude,
        "time": str(batch.time.astype("datetime64[s]")),
        "departure": batch.departure,
        "increment": response.at_point,
        "optimal": batch.departure * variance / (variance + error_variance),
        "background_std": np.sqrt(variance),
        "wind_max": float(np.hypot(u, v).max()),
        "correlation": wind_correlation((u, v), geostrophic_wind(z, grid), grid, around),
    }


def main_table(cases: list[Case]) -> pd.DataFrame:
    """A row per arm and place, for the main date and departure (those of the first case)."""
    chosen = [case for case in cases if (case.time, case.departure) == (cases[0].time, cases[0].departure)]
    rows = []
    for case in by_place(chosen):
        row, d = case.row, case.departure
        rows.append(
            {
                "arm": case.arm,
                "place": case.place.label,
                "increment / departure": row["increment"] / d,
                "B/(B+R)": row["optimal"] / d,
                "√B": row["background_std"],
                "wind max, m/s": row["wind_max"],
                "correlation": row["correlation"],
                "rotation": _rotation(row["correlation"]),
            }
        )
    return pd.DataFrame(rows)


def date_table(cases: list[Case]) -> pd.DataFrame:
    """A row per arm and place: largest differences of the increments on other dates from the first date."""
    rows = []
    for case in by_place([case for case in cases if case.departure == cases[0].departure]):
        if case.time != cases[0].time:
            continue
        by_date = [
            candidate
            for candidate in cases
            if (candidate.arm, candidate.place, candidate.departure) == (case.arm, case.place, case.departure)
        ]
        z = max(float(np.abs(dated.z - case.z).max()) for dated in by_date)
        wind = max(float(np.hypot(dated.u - case.u, dated.v - case.v).max()) for dated in by_date)
        scales = ((z, float(np.abs(case.z).max())), (wind, float(case.speed.max())))
        relative = max(difference / scale if scale > 0 else difference for difference, scale in scales)
        depends = "–" if len(by_date) < 2 else "yes" if relative > EQUAL else "no"
        rows.append(
            {
                "arm": case.arm,
                "place": case.place.label,
                "dates": str(len(by_date)),
                "z difference, m²/s²": z,
                "wind difference, m/s": wind,
                "relative": relative,
                "depends on the background": depends,
            }
        )
    return pd.DataFrame(rows)


def departure_table(cases: list[Case], grid: Grid) -> pd.DataFrame:
    """A row per arm, place and departure on the first date: the increment per unit departure.

    ``nonlinearity`` is ‖D(d)/d − D(d₀)/d₀‖ / ‖D(d₀)/d₀‖ over the sphere, with the smallest departure d₀ (of
    two, the positive one); it is 0 for a linear method.
    """
    rows = []
    for case in by_place([case for case in cases if case.time == cases[0].time]):
        base = smallest_departure(cases, case.arm, case.place)
        rows.append(
            {
                "arm": case.arm,
                "place": case.place.label,
                "departure": case.departure,
                "increment / departure": case.row["increment"] / case.departure,
                "nonlinearity of z": nonlinearity([(case.z, base.z)], case.departure, base.departure, grid),
                "nonlinearity of wind": nonlinearity(
                    [(case.u, base.u), (case.v, base.v)], case.departure, base.departure, grid
                ),
            }
        )
    return pd.DataFrame(rows)


def smallest_departure(cases: list[Case], arm: str, place: Place) -> Case:
    """The case of an arm and place with the smallest departure; of two, the positive one."""
    departures = [case for case in cases if (case.arm, case.place, case.time) == (arm, place, cases[0].time)]
    return min(departures, key=lambda case: (abs(case.departure), case.departure < 0))


def nonlinearity(
    fields: list[tuple[np.ndarray, np.ndarray]], departure: float, base_departure: float, grid: Grid
) -> float:
    """‖x/d − x₀/d₀‖ / ‖x₀/d₀‖, area-weighted.

    Args:
        fields: pairs (x, x₀), each [H, W]: one pair, or one for each component of a vector.
        departure, base_departure: d and d₀.
        grid: of the fields.

    Returns:
        The ratio; NaN when x₀ is zero.
    """
    area = grid.area_weights.numpy()[:, None]
    difference = sum(float((area * (x / departure - y / base_departure) ** 2).sum()) for x, y in fields)
    size = sum(float((area * (y / base_departure) ** 2).sum()) for _, y in fields)
    return float(np.sqrt(difference / size)) if size > 0 else float("nan")


def by_place(cases: list[Case]) -> list[Case]:
    """Sorted by place, then by arm, both in the order of first appearance."""
    places = list(dict.fromkeys(case.place for case in cases))
    arms = list(dict.fromkeys(case.arm for case in cases))
    return sorted(cases, key=lambda case: (places.index(case.place), arms.index(case.arm)))


def _rotation(correlation: float) -> str:
    if not np.isfinite(correlation):
        return "–"
    return "geostrophic" if correlation > 0 else "reversed"
