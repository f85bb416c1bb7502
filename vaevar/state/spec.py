"""Which channels a state has, in which order and units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vaevar.plausible.ranges import Range, at_points, of_means
from vaevar.sphere.difference import grid_difference
from vaevar.sphere.grid import Grid

HIGHEST_PRESSURE = 1100.0  # hPa, more than there is at the bottom of any valley
PRESSURE_LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)


@dataclass(frozen=True)
class Variable:
    """A physical quantity.

    Attributes:
        long_name, units: in a WeatherBench 2 store.
        is_wind: whether it is a component of a vector, which changes sign across a pole.
    """

    long_name: str
    units: str
    is_wind: bool = False


SURFACE_VARIABLES = {
    "u10": Variable("10m_u_component_of_wind", "m s**-1", is_wind=True),
    "v10": Variable("10m_v_component_of_wind", "m s**-1", is_wind=True),
    "t2m": Variable("2m_temperature", "K"),
    "msl": Variable("mean_sea_level_pressure", "Pa"),
}


UPPER_VARIABLES = {
    "z": Variable("geopotential", "m**2 s**-2"),
    "q": Variable("specific_humidity", "kg kg**-1"),
    "u": Variable("u_component_of_wind", "m s**-1", is_wind=True),
    "v": Variable("v_component_of_wind", "m s**-1", is_wind=True),
    "t": Variable("temperature", "K"),
}


VARIABLES = SURFACE_VARIABLES | UPPER_VARIABLES


@dataclass(frozen=True)
class Channel:
    """One field of the state: a variable and, in the upper air, its pressure level in hPa."""

    variable: str
    level: int | None = None

    @property
    def name(self) -> str:
        """Such as ``z500``; winds at 10 hPa are ``u10hPa`` and ``v10hPa``, as ``u10`` is that at 10 m."""
        if self.level is None:
            return self.variable
        name = f"{self.variable}{self.level}"
        return f"{name}hPa" if name in SURFACE_VARIABLES else name

    @property
    def is_wind(self) -> bool:
        return VARIABLES[self.variable].is_wind

    @property
    def units(self) -> str:
        return VARIABLES[self.variable].units

    @property
    def points(self) -> Range:
        """The range of values at points."""
        return at_points(self.variable, self.level)

    @property
    def means(self) -> Range:
        """The range of means over the sphere."""
        return of_means(self.variable, self.level)


class StateSpec:
    """The ordered channels of a state: surface variables, then each upper-air variable by level.

    Args:
        surface: surface variables, a selection of ``u10, v10, t2m, msl``.
        upper: upper-air variables, a selection of ``z, q, u, v, t``.
        levels: pressure levels in hPa, ascending (top of the atmosphere first).

    Raises:
        ValueError: for an unknown or repeated variable, or levels that do not ascend.

    Example:
        >>> len(StateSpec()), StateSpec().index("z500")
        (69, 11)
        >>> StateSpec(["t2m"], ["z"], [500, 850]).names
        ('t2m', 'z500', 'z850')
    """

    def __init__(
        self,
        surface: Sequence[str] = tuple(SURFACE_VARIABLES),
        upper: Sequence[str] = tuple(UPPER_VARIABLES),
        levels: Sequence[int] = PRESSURE_LEVELS,
    ) -> None:
        self.surface, self.upper = tuple(surface), tuple(upper)
        self.levels = tuple(int(level) for level in levels)
        if any(level != whole for level, whole in zip(levels, self.levels, strict=True)):
            raise ValueError(f"levels are whole numbers of hPa, not {list(levels)}")
        for names, allowed in ((self.surface, SURFACE_VARIABLES), (self.upper, UPPER_VARIABLES)):
            unknown = [name for name in names if name not in allowed]
            if unknown:
                raise ValueError(
                    f"unknown variables {unknown}; choose from {list(allowed)}. Others cannot be part of a "
                    "state; they can be observed, by an ObservationOperator"
                )
            if len(set(names)) != len(names):
                raise ValueError(f"variables repeat in {list(names)}")
        if any(low >= high for low, high in zip(self.levels, self.levels[1:], strict=False)):
            raise ValueError(f"levels must ascend from the top (50, 100, ...), not {self.levels}")
        if self.levels and self.levels[-1] > HIGHEST_PRESSURE:
            raise ValueError(f"levels are in hPa (50, 100, ...), not {self.levels}: are they in Pa?")
        if self.upper and (not self.levels or self.levels[0] <= 0):
            raise ValueError(f"upper-air variables need positive pressure levels, got {levels}")
        self.channels = tuple(
            [Channel(name) for name in self.surface]
            + [Channel(name, level) for name in self.upper for level in self.levels]
        )
        if not self.channels:
            raise ValueError("a state needs at least one channel")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Channel names in order, such as ``z500``."""
        return tuple(channel.name for channel in self.channels)

    @cached_property
    def points(self) -> Tensor:
        """The range of each channel's values at points, low and high, [2, C] float64."""
        return _limits([channel.points for channel in self.channels])

    @cached_property
    def means(self) -> Tensor:
        """The range of each channel's mean over the sphere, low and high, [2, C] float64."""
        return _limits([channel.means for channel in self.channels])

    def __len__(self) -> int:
        return len(self.channels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StateSpec) and self.channels == other.channels

    def __hash__(self) -> int:
        return hash(self.channels)

    def __repr__(self) -> str:
        return f"StateSpec({len(self)} channels: {', '.join(self.names)})"

    def index(self, name: str) -> int:
        """Position of a channel, such as ``index("z500") == 11`` in the full state.

        Raises:
            ValueError: when the state has no such channel.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise ValueError(f"no channel {name!r}; the state has {', '.join(self.names)}") from None

    def has(self, name: str) -> bool:
        return name in self.names

    def variable_slice(self, variable: str) -> slice:
        """The contiguous channels of one variable.

        Raises:
            ValueError: when the state has no such variable.
        """
        positions = [i for i, channel in enumerate(self.channels) if channel.variable == variable]
        if not positions:
            raise ValueError(f"no variable {variable!r} in {self}")
        return slice(positions[0], positions[-1] + 1)


def difference(spec: StateSpec, grid: Grid, other_spec: StateSpec, other_grid: Grid) -> str:
    """How channels and grid differ from others; empty if they do not.

    Args:
        spec, grid: those that are spoken of.
        other_spec, other_grid: what was expected.
    """
    if spec == other_spec:
        return grid_difference(grid, other_grid)
    lacking = [name for name in other_spec.names if not spec.has(name)]
    besides = [name for name in spec.names if not other_spec.has(name)]
    parts = [f"without {_some(lacking)}"] if lacking else []
    parts += [f"with {_some(besides)} besides"] if besides else []
    if not parts:
        pairs = zip(spec.names, other_spec.names, strict=True)
        number, (mine, theirs) = next(pair for pair in enumerate(pairs) if pair[1][0] != pair[1][1])
        parts = [f"with {mine} as channel {number}, not {theirs}"]
    return " and ".join([*parts, *filter(None, [grid_difference(grid, other_grid)])])


def _some(names: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more}"


def _limits(ranges: Sequence[Range]) -> Tensor:
    return torch.tensor([[limit.low, limit.high] for limit in ranges], dtype=torch.float64).T
