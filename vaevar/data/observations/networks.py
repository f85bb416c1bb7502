"""Observation networks: where simulated observations are made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from vaevar.data.observations.operator import quantity
from vaevar.data.observations.points import Points
from vaevar.errors import UserError
from vaevar.state import StateSpec

# Streams keep the positions and the noise independent even when a user gives both one seed.
POSITIONS, NOISE = 1, 2
_EPOCH = np.datetime64("1959-01-01T00", "h")


class Network(ABC):
    """Where simulated observations are made.

    Example:
        >>> class Equator(vaevar.Network):
        ...     def points(self, spec, time):
        ...         return vaevar.Points(
        ...             variable="u", latitude=np.zeros(12), longitude=30.0 * np.arange(12), pressure=500.0
        ...         )
        >>> len(Equator().points(StateSpec(), time))
        12

    Attributes:
        reach_hours: how far from the analysis time an observation may be made.
    """

    reach_hours: float = 0.0

    @abstractmethod
    def points(self, spec: StateSpec, time: np.datetime64) -> Points:
        """The points observed at a time, the same on every call and in any order of calls."""


class ColumnNetwork(Network):
    """Columns, uniformly at random on the sphere, each with the same quantities.

    Args:
        count: number of columns (the paper's networks have 1000 to 8000).
        seed: of the positions.
        moving: redraw the positions for each time, as aircraft and satellites would.
        quantities: what each column observes: channels (``z500``), variables (``t``, on all levels of the
            state), or any other quantity that an observation operator observes (``ws10``; one of your own
            with levels is observed on all levels of the state, or on the one that ends its name). None: every
            channel of the state.

    Raises:
        UserError: when ``count`` is not positive, ``seed`` is negative or ``quantities`` is empty.

    Example:
        >>> len(vaevar.ColumnNetwork(count=100, quantities=["t", "msl"]).points(StateSpec(), time))
        1400
    """

    def __init__(
        self, count: int, seed: int = 0, moving: bool = False, quantities: list[str] | None = None
    ) -> None:
        if count < 1 or seed < 0:
            raise UserError(f"ColumnNetwork: count {count} must be positive and seed {seed} not negative")
        if quantities is not None and not quantities:
            raise UserError("ColumnNetwork: quantities is empty; name at least one, or leave it out")
        self.count, self.seed, self.moving, self.quantities = count, seed, moving, quantities

    def positions(self, time: np.datetime64) -> tuple[np.ndarray, np.ndarray]:
        """Latitude and longitude of the columns at a time, each [count] in degrees."""
        random = random_stream(POSITIONS, self.seed, time if self.moving else None)
        # Equal areas of the sphere are equal steps of sin(latitude).
        latitude = np.degrees(np.arcsin(random.uniform(-1.0, 1.0, self.count)))
        return latitude, random.uniform(0.0, 360.0, self.count)

    def points(self, spec: StateSpec, time: np.datetime64) -> Points:
        """Column by column, each in the state's channel order or in that of ``quantities``."""
        latitude, longitude = self.positions(time)
        variables, pressures = zip(*self._column(spec), strict=True)
        return Points(
            variable=np.tile(variables, self.count),
            latitude=np.repeat(latitude, len(variables)),
            longitude=np.repeat(longitude, len(variables)),
            pressure=np.tile(np.array(pressures, dtype=np.float64), self.count),
            platform=np.array("column"),
        )

    def _column(self, spec: StateSpec) -> list[tuple[str, float]]:
        """Variable and pressure of everything that one column observes."""
        channels = [(c.variable, np.nan if c.level is None else float(c.level)) for c in spec.channels]
        if self.quantities is None:
            return channels
        column = []
        for name in self.quantities:
            if spec.has(name):
                column.append(channels[spec.index(name)])
                continue
            variable, levels = _levels_of(name, spec)
            column += [(variable, float(level)) for level in levels]
        names = [variable if np.isnan(level) else f"{variable}{level:g}" for variable, level in column]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise UserError(
                f"ColumnNetwork.quantities: {', '.join(repeated)} would be observed more than once at each "
                "place; name a channel, or its variable with all its levels, once"
            )
        return column


def _levels_of(name: str, spec: StateSpec) -> tuple[str, Sequence[float]]:
    """A quantity of that name with all its levels, or with the one level that ends the name (``rh500``).

    Raises:
        UserError: for a quantity that no operator observes.
    """
    stem = name.rstrip("0123456789")
    try:
        return name, (spec.levels if quantity(name).upper else [np.nan])
    except ValueError as error:
        with suppress(ValueError):
            if stem != name and quantity(stem).upper:
                return stem, [float(name[len(stem) :])]
        raise UserError(f"ColumnNetwork.quantities: {error}; or a channel, such as z500") from None


class SinglePoint(Network):
    """One observation of one variable at one place: its analysis increment shows B's structure.

    Args:
        variable: short name, such as ``t``.
        latitude, longitude: degrees.
        pressure: hPa; leave out for a surface variable.

    Raises:
        UserError: for an unknown variable, a position off the sphere, or a pressure missing or
            superfluous.
    """

    def __init__(
        self, variable: str, latitude: float, longitude: float, pressure: float | None = None
    ) -> None:
        try:
            self._point = Points(
                variable=np.array([variable]),
                latitude=np.array([latitude]),
                longitude=np.array([longitude]),
                pressure=np.array([np.nan if pressure is None else pressure]),
                platform=np.array("single"),
            )
        except ValueError as error:
            raise UserError(f"SinglePoint: {error}") from None

    def points(self, spec: StateSpec, time: np.datetime64) -> Points:
        """The one point, whatever the time."""
        return self._point


class ChangingColumns(Network):
    """A network of whole columns (:class:`ColumnNetwork`) that is replaced at regular intervals.

    The sizes follow one another in a circle, and every second network of a size moves. The errors of a
    cycle's backgrounds depend on its network; those of a cycle over many networks are samples for methods
    that serve them all.

    Args:
        counts: numbers of columns, in turn.
        hours: how long a network stays.
        seed: of the positions.

    Raises:
        UserError: when there are no counts, or a setting is not positive.
    """

    def __init__(self, counts: Sequence[int], hours: int, seed: int = 0) -> None:
        if not counts or hours < 1 or seed < 0:
            raise UserError(
                f"ChangingColumns: give counts (got {list(counts)}), positive hours (got {hours}) and a seed "
                f"that is not negative (got {seed})"
            )
        for count in counts:
            ColumnNetwork(count)  # refuses a count that is not positive
        self.counts, self.hours, self.seed = list(counts), hours, seed

    def at(self, time: np.datetime64) -> ColumnNetwork:
        """The network that observes at a time."""
        turn = int((time - _EPOCH) / np.timedelta64(self.hours, "h"))
        size, pass_ = turn % len(self.counts), turn // len(self.counts)
        # Seeds far from those that people choose: no experiment uses one of these networks.
        return ColumnNetwork(
            self.counts[size], seed=10_000 * (self.seed + 1) + turn % 10_000, moving=bool(pass_ % 2)
        )

    def points(self, spec: StateSpec, time: np.datetime64) -> Points:
        """``count · C`` points of the network that observes at that time."""
        return self.at(time).points(spec, time)


def random_stream(stream: int, seed: int, time: np.datetime64 | None) -> np.random.Generator:
    """Random numbers that depend on these three alone.

    Args:
        stream: tells apart what is drawn with one seed, such as ``POSITIONS`` and ``NOISE``.
        seed: not negative.
        time: None for the same numbers at all times.
    """
    key = [stream, seed]
    if time is not None:
        # Times before 1970 are negative, and a seed must not be.
        key.append(int(time.astype("datetime64[ns]").astype(np.int64)) % 2**64)
    return np.random.default_rng(np.random.SeedSequence(key))
