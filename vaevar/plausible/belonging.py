"""Do the fields of one state belong together?

Weather is known by its relations (:mod:`vaevar.plausible.relations`). Where two of them hold, the state is of
an atmosphere, and then the others must hold too: a field that does not is upside down, turned, of another
time, level or variable. Made-up fields, of which none follows another, are left alone.

It cannot tell what all fields share, such as a turn of the whole sphere; a field of a time so near that it
follows the others nearly as well (most of 6 h before; temperature at 2 m of days before); humidity of a
neighbouring level; or t2m that is t at 1000 hPa.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vaevar.constants import SEA_LEVEL_PRESSURE
from vaevar.mistakes.notices import notice
from vaevar.plausible.atmosphere import standard_temperature
from vaevar.plausible.geostrophic import contradiction
from vaevar.plausible.hydrostatic import imbalance
from vaevar.plausible.moisture import oversaturated
from vaevar.plausible.patterns import area, every
from vaevar.plausible.ranges import Range
from vaevar.plausible.relations import Relation, is_atmosphere, relations
from vaevar.sphere.grid import Grid

if TYPE_CHECKING:
    from vaevar.state.spec import StateSpec

# Strength relative to what drives it, by variable. On 16 rows slopes are too flat: up to 1.45 there. In knots
# wind is 1.94 times as strong, and 0.51 times if it was converted twice.
_STRENGTHS = {"u": Range(0.6, 1.6), "v": Range(0.6, 1.6), "u10": Range(0.0, 1.25), "v10": Range(0.0, 1.25)}
# Of u10 relative to v10, each relative to the wind above: 0.86 to 1.02 in GFS and SPEEDY where that is near,
# 0.57 to 0.94 where it is at 850 hPa.
_NEAR, _U10_TO_V10, _U10_TO_V10_FARTHER = 900, Range(0.6, 1.5), Range(0.45, 1.6)
# K: how much t2m may differ from the lowest level's temperature, beyond the standard atmosphere's lapse. It
# differs by up to 2.5, and by 16 and more if it is that of a level above.
_T2M_BEYOND, _LOWEST = 8.0, 700

# How much more may be unexplained than up to 12 h before or after: 1.2 times in SPEEDY, and 1.2 to 140 times
# if one field is that of 6 h before, 2.5 and more if of 24 h. Little that is unexplained may differ by more.
_UNEXPLAINED, _NOTHING = 2.5, 0.01


def disagreement(
    found: list[Relation],
    values: np.ndarray,
    spec: StateSpec,
    latitude: np.ndarray,
    forecast: bool = False,
) -> str:
    """Which field of an atmosphere does not belong to the others; empty if all do.

    Args:
        found: the relations of its fields.
        values: [C, H, W], physical units; some rows and columns are enough.
        spec: the C channels.
        latitude: [H], degrees, from north to south.
        forecast: whether they are of a forecast, which may be poor: half of each correlation is enough, and
            nothing else is asked.
    """
    part = 0.5 if forecast else 1.0
    if failing := [relation for relation in found if relation.correlation < part * relation.least]:
        return _described(failing, found)
    if forecast:
        return ""
    return (
        _out_of_scale(found, spec)
        or oversaturated(values, spec, latitude)
        or _another_ground(values, spec, latitude)
    )


def fault_of_state(values: Tensor, spec: StateSpec, grid: Grid) -> str:
    """Why the fields of a state of any origin, a forecast perhaps, cannot be of one atmosphere; empty if they
    can. It tells a state that is upside down.

    Args:
        values: [C, H, W], physical units.
        spec, grid: of the values.
    """
    stride = every(grid)
    # Cut before it leaves its device: a state of 0.25° takes long to copy.
    piece = values[:, ::stride, ::stride].detach().cpu().numpy()
    latitude = grid.latitude[::stride]
    found = relations(piece, spec, latitude)
    wrong = imbalance(piece, spec, grid.area_weights.numpy()[::stride]) or contradiction(
        piece, spec, latitude
    )
    if not wrong and is_atmosphere(found):
        wrong = disagreement(found, piece, spec, latitude, forecast=True)
    return wrong


def tell_faults(what: str, values: Tensor, spec: StateSpec, grid: Grid, instance: str = "") -> bool:
    """Say once per cause what :func:`fault_of_state` finds, such as a state that is upside down.

    Args:
        what: the state is.
        values, spec, grid: of the state.
        instance: where it is so, such as the time of an analysis.

    Returns:
        whether there is something to say.
    """
    if found := fault_of_state(values, spec, grid):
        notice(f"{what}: {found}", instance)
    return bool(found)


def other_than_before(before: dict[tuple[str, str], float], now: dict[tuple[str, str], float]) -> str:
    """Which variables followed each other much better or worse up to 12 h before; empty if none did.

    Args:
        before, now: the shares that they do not explain of each other, by variables
            (:func:`vaevar.plausible.relations.unexplained`).
    """
    for (first, second), share in now.items():
        less, more = sorted((share, before.get((first, second), share)))
        if more > _UNEXPLAINED * less + _NOTHING:
            return (
                f"{first} follows from {second} but for {before[first, second]:.1%} and {share:.1%} of its "
                f"variance, expected about the same: {first} or {second} is of another time at one of them, "
                "or damaged"
            )
    return ""


def _described(failing: list[Relation], found: list[Relation]) -> str:
    """The variable that most relations which fail have in common, and the worst of these."""

    def failures(variable: str) -> tuple[int, float]:
        mine, bad = ([r for r in some if variable in (r.first, r.second)] for some in (found, failing))
        return len(bad), len(bad) / len(mine)

    names = sorted({name for relation in failing for name in (relation.first, relation.second)})
    wrong = max(names, key=failures)
    mine = [relation for relation in failing if wrong in (relation.first, relation.second)]
    worst = min(mine, key=lambda relation: relation.correlation - relation.least)
    others = sorted({r.second if r.first == wrong else r.first for r in mine})
    return (
        f"{wrong} does not belong to {', '.join(others)} (the correlation of {worst.first} with what follows "
        f"from {worst.second} {worst.where} is {worst.correlation:.2f}, expected {worst.usual:g} or more): "
        "it is upside down, turned, or of another time, level or variable"
    )


def _out_of_scale(found: list[Relation], spec: StateSpec) -> str:
    strengths = {}
    for relation in found:
        limits = _STRENGTHS.get(relation.first)
        if limits is None or relation.strength is None:
            continue
        strengths[relation.first] = relation.strength
        if relation.strength not in limits:
            return (
                f"{relation.first} is {relation.strength:.2g} times as strong as {relation.second} "
                f"{relation.where} makes it, expected {limits}: it is in other units (a knot is 0.514 m/s), "
                "or of another level"
            )
    if {"u10", "v10"} <= set(strengths):
        ratio = strengths["u10"] / strengths["v10"]
        limits = _U10_TO_V10 if spec.levels[-1] >= _NEAR else _U10_TO_V10_FARTHER
        if ratio not in limits:
            return (
                f"u10 is {ratio:.2g} times as strong as v10, each relative to the wind above, expected "
                f"{limits}: one of them is in other units (a knot is 0.514 m/s)"
            )
    return ""


def _another_ground(values: np.ndarray, spec: StateSpec, latitude: np.ndarray) -> str:
    if "t2m" not in spec.surface or "t" not in spec.upper or spec.levels[-1] < _LOWEST:
        return ""
    low = spec.levels[-1]
    weight = area(latitude) / (area(latitude).sum() * values.shape[-1])
    warmer = float((weight * (values[spec.index("t2m")] - values[spec.index(f"t{low}")])).sum())
    expected = standard_temperature(SEA_LEVEL_PRESSURE) - standard_temperature(float(low))
    if abs(warmer - expected) <= _T2M_BEYOND:
        return ""
    return (
        f"the mean of t2m is {warmer:.1f} K above that of t at {low} hPa, expected {expected:.1f} within "
        f"{_T2M_BEYOND:g}: one of them is of another level or variable"
    )
