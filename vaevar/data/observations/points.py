"""Observations as points: what is observed, where, and with which error.

A :class:`Points` says where and what is observed; an :class:`Observations` adds the values and
their error standard deviations. Real reports and simulated ones are the same thing, so nothing
downstream asks where they came from.

Units are those of the state (m/s, K, Pa, kg/kg, m² s⁻²), with pressure coordinates in hPa.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd

from vaevar.data.observations.operator import ObservationOperator, observation_operator, quantity
from vaevar.plausible.ranges import at_points, of_stds
from vaevar.sphere.grid import Grid
from vaevar.state import VARIABLES, StateSpec

_WIDEST_LONGITUDE = 720.0
# Of the std of weather; no instrument is as good.
_LEAST_ERROR = 1e-7
# The highest pressure at sea level is 1085 hPa, and some stations lie below it.
_HIGHEST_PRESSURE = 1200.0  # hPa
# An observation may leave the range of its variable by noise.
_STDS_BEYOND = 6.0


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Points:
    """What is observed, and where. A scalar given for a field is repeated for every point.

    The arrays are copies, and read-only: other points are made with ``dataclasses.replace``, or of a table.

    Attributes:
        variable: [P] the observed quantity: ``u10 v10 t2m msl z q u v t`` of the state, or another that an
            observation operator observes, such as ``ws10`` (:mod:`vaevar.data.observations.operator`).
        latitude, longitude: [P] degrees; longitudes are wrapped to [0, 360).
        pressure: [P] hPa; NaN for surface variables.
        time_offset: [P] hours from the analysis time.
        platform: [P] what made the observation; free text.

    Raises:
        ValueError: for an unknown variable, a position off the sphere, or a pressure that is
            missing where it is needed or given where it means nothing.

    Example:
        >>> vaevar.Points(variable="z", latitude=[52.2], longitude=[-14.1], pressure=500.0).longitude
        array([345.9])
    """

    variable: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    pressure: np.ndarray
    time_offset: np.ndarray = field(default_factory=lambda: np.zeros(()))
    platform: np.ndarray = field(default_factory=lambda: np.array(""))

    def __post_init__(self) -> None:
        arrays = {}
        for entry in fields(self):
            arrays[entry.name] = _array(entry.name, getattr(self, entry.name))
        count = max((array.size for array in arrays.values() if array.ndim), default=1)
        if any(array.ndim and array.size == 0 for array in arrays.values()):
            count = 0
        for name, array in arrays.items():
            if array.ndim and array.shape != (count,):
                raise ValueError(f"{name} has shape {array.shape}, expected ({count},)")
            object.__setattr__(self, name, np.broadcast_to(array, (count,)))
        self._validate()
        object.__setattr__(self, "longitude", _fixed(np.mod(self.longitude, 360.0)))

    def _validate(self) -> None:
        outside = ~((np.abs(self.latitude) <= 90.0) & (np.abs(self.longitude) <= _WIDEST_LONGITUDE))
        self._refuse(outside, "latitudes must lie in [-90, 90] and longitudes must be finite, up to 720")
        names = np.unique(self.variable).tolist()
        upper = np.isin(self.variable, [name for name in names if quantity(name).upper])
        with np.errstate(invalid="ignore"):
            positive = np.isfinite(self.pressure) & (self.pressure > 0)
            high = self.pressure > _HIGHEST_PRESSURE
        self._refuse(upper & ~positive, "upper-air observations need a positive pressure in hPa")
        self._refuse(upper & high, f"pressures are at most {_HIGHEST_PRESSURE:g} hPa: this one looks like Pa")
        self._refuse(
            ~upper & ~np.isnan(self.pressure),
            "surface observations have no pressure coordinate: give NaN (null in a config)",
        )
        self._refuse(~np.isfinite(self.time_offset), "time_offset must be finite")

    def _refuse(self, wrong: np.ndarray, why: str) -> None:
        """Raise for the points that are wrong, and name the first.

        Raises:
            ValueError: when there is one.
        """
        if not wrong.any():
            return
        point = int(wrong.argmax())
        more = f" (and {int(wrong.sum()) - 1} more)" if wrong.sum() > 1 else ""
        values = ((entry.name, str(getattr(self, entry.name)[point])) for entry in fields(self))
        said = ", ".join(f"{name} {value}" for name, value in values if value)
        raise ValueError(f"{why}; observation {point}{more}: {said}")

    def __len__(self) -> int:
        return self.variable.size

    def __repr__(self) -> str:
        names, counts = np.unique(self.variable, return_counts=True)
        shown = ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True))
        hours = self.time_offset
        span = f"; {hours.min():g} to {hours.max():g} h" if hours.any() else ""
        return f"{type(self).__name__}({len(self)}{f': {shown}' if shown else ''}{span})"

    def select(self, which: np.ndarray) -> Self:
        """The points that a boolean mask or an index array picks."""
        return replace(self, **{entry.name: getattr(self, entry.name)[which] for entry in fields(self)})

    def operator(self, spec: StateSpec, grid: Grid) -> ObservationOperator:
        """H: from states [..., C, H, W] of these channels and this grid to [..., P].

        Raises:
            UserError: for a variable that the state lacks, or a pressure outside its levels.
        """
        return observation_operator(spec, grid, self)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """All points of ``parts``, in order; none at all for an empty sequence."""
        names = [entry.name for entry in fields(cls)]
        if not parts:
            return cls(**{name: np.zeros(0) for name in names})
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def with_values(self, value: np.ndarray, error_std: np.ndarray) -> Observations:
        """Observations at these points, [P] each."""
        return Observations(**self._located(), value=value, error_std=error_std)

    @classmethod
    def from_dataframe(cls, frame: pd.DataFrame) -> Self:
        """The points in the rows of a table; its columns are named as the attributes.

        ``pressure``, ``time_offset`` and ``platform`` may be left out; other columns are not looked at.

        Raises:
            ValueError: when a column is missing, and as for the class itself.
        """
        optional = {"pressure": np.nan, "time_offset": 0.0, "platform": ""}
        names = [entry.name for entry in fields(cls)]
        missing = [name for name in names if name not in frame and name not in optional]
        if missing:
            raise ValueError(
                f"the table lacks the columns {', '.join(missing)}; it has {', '.join(map(str, frame))}"
            )
        given = {name: frame[name].to_numpy() for name in names if name in frame}
        return cls(**{name: np.full(len(frame), optional.get(name)) for name in names} | given)

    def to_dataframe(self) -> pd.DataFrame:
        """A table with a row for each point; :meth:`from_dataframe` gives the same points."""
        return pd.DataFrame({entry.name: getattr(self, entry.name) for entry in fields(self)})

    def _located(self) -> dict[str, Any]:
        return {entry.name: getattr(self, entry.name) for entry in fields(Points)}

    def to(self, *_: object, **__: object) -> Self:
        """Itself: points stay on the host, and Lightning's batch transfer asks every batch to move."""
        return self


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Observations(Points):
    """Observed values at points, with errors that are uncorrelated with one another.

    Attributes:
        value: [P] in the variable's units.
        error_std: [P] standard deviation of the observation error: R = diag(error_std²).

    Raises:
        ValueError: as :class:`Points`; for a value that is not finite, or that its variable cannot have; and
            for an error that is not positive, or larger than the climate varies.

    Example:
        >>> one = vaevar.Observations(
        ...     variable="t", latitude=[52.2], longitude=[14.1], pressure=500.0, value=255.0, error_std=1.0
        ... )
        >>> len(vaevar.Observations.from_dataframe(one.to_dataframe()))
        1
    """

    value: np.ndarray
    error_std: np.ndarray

    def operator(self, spec: StateSpec, grid: Grid) -> ObservationOperator:
        """H, which depends on the places alone; as of :class:`Points`."""
        return self._places.operator(spec, grid)

    @cached_property
    def _places(self) -> Points:
        return Points(**self._located())

    def _validate(self) -> None:
        super()._validate()
        self._refuse(~np.isfinite(self.value), "observed values must be finite")
        positive = np.isfinite(self.error_std) & (self.error_std > 0)
        self._refuse(~positive, "error_std must be positive and finite")
        if len(self):
            self._judge()

    def _judge(self) -> None:
        low, high, largest, least = self._limits()
        wrong = self.error_std < least
        at = int(wrong.argmax())
        self._refuse(wrong, f"error_std of {self.variable[at]} is at least {least[at]:.4g}")
        wrong = self.error_std > largest
        at = int(wrong.argmax())
        self._refuse(wrong, f"error_std of {self.variable[at]} is at most {largest[at]:.4g}")
        wrong = np.maximum(low - self.value, self.value - high) > _STDS_BEYOND * self.error_std
        at = int(wrong.argmax())
        units = quantity(str(self.variable[at])).units
        self._refuse(wrong, f"{self.variable[at]} is from {low[at]:.4g} to {high[at]:.4g} {units}")

    def _limits(self) -> np.ndarray:
        """The least and the greatest value, and the largest and the least error of each point, [4, P]."""
        limits = np.repeat([[-np.inf], [np.inf], [np.inf], [0.0]], len(self), axis=1)
        for name in set(self.variable.tolist()) - set(VARIABLES):
            limits[0, self.variable == name] = quantity(name).least
        for name in VARIABLES:
            chosen = np.flatnonzero(self.variable == name)
            pressures, number = np.unique(self.pressure[chosen], return_inverse=True)
            for position, pressure in enumerate(pressures.tolist()):
                level = None if np.isnan(pressure) else pressure
                values, stds = at_points(name, level), of_stds(name, level)
                allowed = [values.low, values.high, stds.high, _LEAST_ERROR * stds.low]
                limits[:, chosen[number == position]] = np.array(allowed)[:, None]
        return limits


def _array(name: str, given: Any) -> np.ndarray:
    """A copy of what is given for a field, which nobody changes: the caller may use its buffer again.

    Raises:
        ValueError: for values that are masked, or that are no numbers where these are needed.
    """
    if np.ma.is_masked(given):
        raise ValueError(
            f"{name} has {np.ma.count_masked(given)} masked values: leave these observations out"
        )
    if name in ("variable", "platform"):
        return _fixed(np.array(given, dtype=np.str_))
    kind = np.asarray(given).dtype.kind
    if kind in "mMcSU":
        what = {"m": "durations", "M": "times", "c": "complex numbers"}.get(kind, "text")
        raise ValueError(f"{name} holds {what}, expected numbers" + (" of hours" if "time" in name else ""))
    return _fixed(np.array(given, dtype=np.float64))


def _fixed(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
