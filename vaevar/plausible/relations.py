"""How the fields of weather follow each other: which follows which, how closely, and how closely it must.

Patterns are compared, without zonal means where these would hide all else: the wind with the slope of
geopotential, the change of wind with height with the slope of temperature (thermal wind), the thickness of
layers with their temperature (hydrostatic), pressure at sea level with the height of the lowest level, and
what is near the ground with what is above. The least correlations of real weather are those of ERA5, GFS and
a year of SPEEDY, on grids of 16 rows and more; made-up fields that do not know each other stay below 0.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vaevar.constants import GAS_CONSTANT
from vaevar.plausible.geostrophic import usable_levels
from vaevar.plausible.hydrostatic import THICKEST
from vaevar.plausible.patterns import area, correlation, eddies, extratropics, geostrophic_wind, strength

if TYPE_CHECKING:
    from vaevar.state.spec import StateSpec

# A relation holds from here on; so many pairs of variables must have one for a state to be of an atmosphere.
_HOLDS, _PAIRS = 0.7, 2
_LOW, _NEAR_GROUND = 700, 850  # hPa: down to here the lowest level must reach


@dataclass(frozen=True)
class Relation:
    """One field and another that it follows.

    Attributes:
        first, second: variables.
        where: such as ``at 500 hPa``.
        correlation: of their patterns.
        least: what is refused below; real weather is well above.
        usual: the least in real weather.
        strength: of the first relative to what the second says; None if that says nothing.
        dynamic: whether only an atmosphere has it.
    """

    first: str
    second: str
    where: str
    correlation: float
    least: float
    usual: float
    strength: float | None = None
    dynamic: bool = False


def relations(values: np.ndarray, spec: StateSpec, latitude: np.ndarray) -> list[Relation]:
    """Those that a state has.

    Args:
        values: [C, H, W], physical units; some rows and columns are enough.
        spec: the C channels.
        latitude: [H], degrees, from north to south.
    """
    fields = dict(zip(spec.names, values, strict=True))
    return [
        *_of_wind(fields, spec, latitude),
        *_of_layers(fields, spec, latitude),
        *_of_pressure(fields, spec, latitude),
        *_near_ground(fields, spec, latitude),
    ]


def is_atmosphere(found: list[Relation]) -> bool:
    """Whether relations that only an atmosphere has hold between two pairs of variables."""
    pairs = {(r.first, r.second) for r in found if r.dynamic and r.correlation > _HOLDS}
    return len(pairs) >= _PAIRS


def unexplained(found: list[Relation]) -> dict[tuple[str, str], float]:
    """By first and second, the share of variance of one that the other does not explain, in the mean."""
    shares: dict[tuple[str, str], list[float]] = {}
    for relation in found:
        share = 1 - relation.correlation * abs(relation.correlation)
        shares.setdefault((relation.first, relation.second), []).append(share)
    return {pair: float(np.mean(some)) for pair, some in shares.items()}


_Fields = dict[str, np.ndarray]


def _of_wind(fields: _Fields, spec: StateSpec, latitude: np.ndarray) -> Iterator[Relation]:
    """Geostrophic and thermal wind."""
    levels = usable_levels(spec, latitude)
    rows = extratropics(latitude)
    weight = area(latitude)[rows]
    winds = [name for name in ("u", "v") if name in spec.upper]
    if "z" in spec.upper:
        for level in levels:
            driven = dict(zip(("u", "v"), geostrophic_wind(fields[f"z{level}"], latitude, rows), strict=True))
            for name in winds:
                pair = eddies(fields[f"{name}{level}"][rows]), eddies(driven[name])
                yield Relation(
                    name, "z", f"at {level} hPa", correlation(*pair, weight), 0.4, 0.75,
                    strength(*pair, weight), dynamic=True,
                )  # fmt: skip
    between = [level for level in spec.levels if levels and levels[0] <= level <= levels[-1]]
    depth = np.diff(np.log(np.array(between, dtype=np.float32)))
    if "t" not in spec.upper or not depth.size or depth.max() > THICKEST:
        return
    t = np.stack([fields[f"t{level}"] for level in between])
    thickness = GAS_CONSTANT * np.tensordot(depth, 0.5 * (t[1:] + t[:-1]), 1)
    driven = dict(zip(("u", "v"), geostrophic_wind(thickness, latitude, rows), strict=True))
    for name in winds:
        shear = (fields[f"{name}{between[0]}"] - fields[f"{name}{between[-1]}"])[rows]
        found = correlation(eddies(shear), eddies(driven[name]), weight)
        where = f"between {between[0]} and {between[-1]} hPa"
        yield Relation(name, "t", where, found, 0.25, 0.65, dynamic=True)


def _of_layers(fields: _Fields, spec: StateSpec, latitude: np.ndarray) -> Iterator[Relation]:
    """Thickness and temperature: each layer, and the one that agrees best, which tells another time."""
    if not {"z", "t"} <= set(spec.upper):
        return
    weight, found = area(latitude), []
    for upper, lower in zip(spec.levels[:-1], spec.levels[1:], strict=True):
        if np.log(lower / upper) <= THICKEST:
            thickness = fields[f"z{upper}"] - fields[f"z{lower}"]
            temperature = fields[f"t{upper}"] + fields[f"t{lower}"]
            agree = correlation(eddies(thickness), eddies(temperature), weight)
            found.append((agree, f"between {upper} and {lower} hPa"))
    for agree, where in found:
        yield Relation("t", "z", where, agree, 0.4, 0.75, dynamic=True)
    if found:
        agree, where = max(found)
        yield Relation("t", "z", f"at its best {where}", agree, 0.85, 0.94)


def _of_pressure(fields: _Fields, spec: StateSpec, latitude: np.ndarray) -> Iterator[Relation]:
    """Pressure at sea level, and the height of the lowest level."""
    if not {"z", "t"} <= set(spec.upper) or "msl" not in spec.surface or spec.levels[-1] < _LOW:
        return
    low = spec.levels[-1]
    z, t = fields[f"z{low}"], fields[f"t{low}"]
    height = GAS_CONSTANT * t * np.log(fields["msl"] / (100 * low))
    found = correlation(eddies(height), eddies(z), area(latitude))
    yield Relation("msl", "z", f"at {low} hPa", found, 0.5, 0.85, dynamic=True)


def _near_ground(fields: _Fields, spec: StateSpec, latitude: np.ndarray) -> Iterator[Relation]:
    """Wind at 10 m and temperature at 2 m, and those of the lowest level."""
    low = spec.levels[-1] if spec.levels else 0
    if low < _NEAR_GROUND:
        return
    weight = area(latitude)
    for first, second in (("u10", "u"), ("v10", "v")):
        if first in spec.surface and second in spec.upper:
            pair = eddies(fields[first]), eddies(fields[f"{second}{low}"])
            yield Relation(
                first, second, f"at {low} hPa", correlation(*pair, weight), 0.45, 0.7, strength(*pair, weight)
            )
    if "t2m" in spec.surface and "t" in spec.upper:
        found = correlation(eddies(fields["t2m"]), eddies(fields[f"t{low}"]), weight)
        yield Relation("t2m", "t", f"at {low} hPa", found, 0.2, 0.4)
