"""The units of figures: those of the state, but grams where kilograms would be ten-thousandths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vaevar.state import VARIABLES, StateSpec


@dataclass(frozen=True)
class Units:
    """Of a variable in figures; tables have those of the state.

    Attributes:
        text: as people write them.
        factor: of values in the units of the state.
    """

    text: str
    factor: float = 1.0


def units_of(variable: str) -> Units:
    """The units in which figures have a variable."""
    units = VARIABLES[variable].units
    return Units("g kg⁻¹", 1000.0) if units == "kg kg**-1" else Units(_text(units))


def units_of_channels(spec: StateSpec) -> dict[str, Units]:
    """The units by channel."""
    return {channel.name: units_of(channel.variable) for channel in spec.channels}


def in_units(spec: StateSpec, values: np.ndarray, power: int = 1) -> np.ndarray:
    """Values as figures have them.

    Args:
        spec: the C channels.
        values: in the units of the state, [..., C].
        power: of the units: 2 for variances.
    """
    factors = np.array([units.factor for units in units_of_channels(spec).values()])
    return np.asarray(values * factors**power)


def _text(units: str) -> str:
    """``m**2 s**-2`` is m² s⁻²."""
    powers = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    parts = [part.split("**") for part in units.split(" ")]
    return " ".join(base + "".join(power).translate(powers) for base, *power in parts)
