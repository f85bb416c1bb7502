"""Observations as points, the networks that place them, their errors, and simulated values.

A :class:`Points` says where and what is observed; an :class:`Observations` adds the values and
their error standard deviations. Real reports and simulated ones are the same thing, so nothing
downstream asks where they came from. The linear interpolation from a state to points lives here,
because simulating observations needs it as well as the assimilation (which wraps it in
:class:`vaevar.assim.observation_operator.ObservationOperator`).

Units are those of the state (m/s, K, Pa, kg/kg, m² s⁻²), with pressure coordinates in hPa.
Shapes: P observations, C channel, H latitude, W longitude, K corners of an interpolation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from vaevar.errors import UserError
from vaevar.sphere import Grid, bilinear_weights
from vaevar.state import SURFACE_VARIABLES, UPPER_VARIABLES, VARIABLES, State, StateSpec

GAS_CONSTANT = 287.05  # dry air, J kg⁻¹ K⁻¹
REFERENCE_PRESSURE = 1013.25  # hPa
REFERENCE_TEMPERATURE = 288.15  # K
# Streams keep the positions and the noise independent even when a user gives both one seed.
_POSITIONS, _NOISE = 1, 2


@dataclass(frozen=True, eq=False, kw_only=True)
class Points:
    """What is observed, and where. A scalar given for a field is repeated for every point.

    Attributes:
        variable: [P] short names: ``u10 v10 t2m msl z q u v t``.
        latitude, longitude: [P] degrees; longitudes are wrapped to [0, 360).
        pressure: [P] hPa; NaN for surface variables.
        time_offset: [P] hours from the analysis time.
        platform: [P] what made the observation; free text.

    Raises:
        ValueError: for an unknown variable, a position off the sphere, or a pressure that is
            missing where it is needed or given where it means nothing.
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
            kind: Any = np.str_ if entry.name in ("variable", "platform") else np.float64
            arrays[entry.name] = np.asarray(getattr(self, entry.name), dtype=kind)
        count = max((array.size for array in arrays.values() if array.ndim), default=1)
        if any(array.ndim and array.size == 0 for array in arrays.values()):
            count = 0
        for name, array in arrays.items():
            if array.ndim and array.shape != (count,):
                raise ValueError(f"{name} has shape {array.shape}, expected ({count},)")
            object.__setattr__(self, name, np.broadcast_to(array, (count,)))
        self._validate()
        object.__setattr__(self, "longitude", np.mod(self.longitude, 360.0))

    def _validate(self) -> None:
        unknown = sorted(set(self.variable.tolist()) - set(VARIABLES))
        if unknown:
            raise ValueError(f"unknown variables {unknown}; known here: {list(VARIABLES)}")
        if not np.all(np.abs(self.latitude) <= 90.0) or not np.all(np.isfinite(self.longitude)):
            raise ValueError("latitudes must lie in [-90, 90] and longitudes must be finite")
        upper = np.isin(self.variable, list(UPPER_VARIABLES))
        with np.errstate(invalid="ignore"):
            if not np.all(np.isfinite(self.pressure[upper]) & (self.pressure[upper] > 0)):
                raise ValueError("upper-air observations need a positive pressure in hPa")
        if not np.all(np.isnan(self.pressure[~upper])):
            raise ValueError("surface observations have no pressure coordinate: give NaN")
        if not np.all(np.isfinite(self.time_offset)):
            raise ValueError("time_offset must be finite")

    def __len__(self) -> int:
        return self.variable.size

    def select(self, which: np.ndarray) -> Self:
        """The points that a boolean mask or an index array picks."""
        return replace(self, **{entry.name: getattr(self, entry.name)[which] for entry in fields(self)})

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """All points of ``parts``, in order; none at all for an empty sequence."""
        names = [entry.name for entry in fields(cls)]
        if not parts:
            return cls(**{name: np.zeros(0) for name in names})
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def to(self, *_: object, **__: object) -> Self:
        """Itself: points stay on the host, and Lightning's batch transfer asks every batch to move."""
        return self


@dataclass(frozen=True, eq=False, kw_only=True)
class Observations(Points):
    """Observed values at points, with errors that are uncorrelated with one another.

    Attributes:
        value: [P] in the variable's units.
        error_std: [P] standard deviation of the observation error: R = diag(error_std²).

    Raises:
        ValueError: as :class:`Points`, and for a value that is not finite or an error that is not
            positive.
    """

    value: np.ndarray
    error_std: np.ndarray

    def _validate(self) -> None:
        super()._validate()
        if not np.all(np.isfinite(self.value)):
            raise ValueError("observed values must be finite")
        if not np.all(np.isfinite(self.error_std) & (self.error_std > 0)):
            raise ValueError("error_std must be positive and finite")


def representable(spec: StateSpec, points: Points) -> np.ndarray:
    """[P] bool: the state has the variable and, aloft, levels that enclose the pressure."""
    surface = np.isin(points.variable, list(spec.surface))
    upper = np.isin(points.variable, list(spec.upper))
    if not spec.levels:
        return surface
    with np.errstate(invalid="ignore"):
        inside = (points.pressure >= spec.levels[0]) & (points.pressure <= spec.levels[-1])
    return surface | (upper & inside)


def interpolation(spec: StateSpec, grid: Grid, points: Points) -> tuple[Tensor, Tensor]:
    """Corners and weights that take a state to points: value = Σ_k weight · state.flatten()[index].

    Bilinear on the sphere (a wind component continued across a pole changes sign) and linear in
    the logarithm of pressure between the two levels around a point. K is 4 where every point lies
    on a level or at the surface, and 8 otherwise.

    Args:
        spec, grid: of the [C, H, W] state.
        points: P points.

    Returns:
        index: [P, K] int64 positions in the flattened [C·H·W] state.
        weight: [P, K] float64; for a scalar they are non-negative and sum to 1.

    Raises:
        UserError: for a variable that the state lacks or a pressure outside its levels (nothing
            is extrapolated; :func:`representable` tells which points can be kept).
    """
    outside = ~representable(spec, points)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        name, pressure = points.variable[first], points.pressure[first]
        place = "" if np.isnan(pressure) else f" at {pressure:g} hPa"
        held = sorted(set(spec.surface) | set(spec.upper))
        levels = f" from {spec.levels[0]} to {spec.levels[-1]} hPa" if spec.levels else ""
        raise UserError(
            f"{int(outside.sum())} of {len(points)} observations cannot be compared with the state, "
            f"such as {name}{place}: it holds {', '.join(held)}{levels}; drop them first"
        )
    upper_channel = np.zeros(len(points), dtype=np.int64)
    lower_channel = np.zeros(len(points), dtype=np.int64)
    toward_lower = np.zeros(len(points))
    log_levels = np.log(np.array(spec.levels, dtype=np.float64))
    for name in np.unique(points.variable):
        here = points.variable == name
        first = spec.variable_slice(str(name)).start
        if name in SURFACE_VARIABLES:
            upper_channel[here] = lower_channel[here] = first
            continue
        log_pressure = np.log(points.pressure[here])
        above = np.clip(np.searchsorted(log_levels, log_pressure, side="right") - 1, 0, None)
        below = np.minimum(above + 1, len(spec.levels) - 1)
        depth = log_levels[below] - log_levels[above]
        # On the lowest level the two coincide and the whole weight stays above.
        toward_lower[here] = (log_pressure - log_levels[above]) / np.where(depth > 0, depth, 1.0)
        upper_channel[here], lower_channel[here] = first + above, first + below

    horizontal = bilinear_weights(grid, points.latitude, points.longitude)
    winds = [name for name, known in VARIABLES.items() if known.is_wind]
    is_wind = torch.from_numpy(np.isin(points.variable, winds))[:, None]
    weight = torch.where(horizontal.across_pole & is_wind, -horizontal.weight, horizontal.weight)
    size = grid.shape[0] * grid.shape[1]
    index = horizontal.index + torch.from_numpy(upper_channel * size)[:, None]
    if not toward_lower.any():
        return index, weight
    fraction = torch.from_numpy(toward_lower)[:, None]
    below_index = horizontal.index + torch.from_numpy(lower_channel * size)[:, None]
    return (
        torch.cat([index, below_index], dim=1),
        torch.cat([weight * (1 - fraction), weight * fraction], dim=1),
    )


class Network(ABC):
    """Where simulated observations are made; chosen by ``class_path`` in a config."""

    @abstractmethod
    def points(self, spec: StateSpec, time: np.datetime64) -> Points:
        """The points observed at a time: the same ones whenever and in whatever order it is asked."""


class ColumnNetwork(Network):
    """Whole columns, uniformly at random on the sphere: every channel of the state in each.

    Args:
        count: number of columns (the paper's networks have 1000 to 8000).
        seed: of the positions.
        moving: redraw the positions for each time, as aircraft and satellites would.

    Raises:
        UserError: when ``count`` is not positive or ``seed`` is negative.
    """

    def __init__(self, count: int, seed: int = 0, moving: bool = False) -> None:
        if count < 1 or seed < 0:
            raise UserError(f"ColumnNetwork: count {count} must be positive and seed {seed} not negative")
        self.count, self.seed, self.moving = count, seed, moving

    def positions(self, time: np.datetime64) -> tuple[np.ndarray, np.ndarray]:
        """Latitude and longitude of the columns at a time, each [count] in degrees."""
        random = _generator(_POSITIONS, self.seed, time if self.moving else None)
        # Equal areas of the sphere are equal steps of sin(latitude).
        latitude = np.degrees(np.arcsin(random.uniform(-1.0, 1.0, self.count)))
        return latitude, random.uniform(0.0, 360.0, self.count)

    def points(self, spec: StateSpec, time: np.datetime64) -> Points:
        """``count · C`` points, column by column, each in the state's channel order."""
        latitude, longitude = self.positions(time)
        channels = len(spec)
        levels = [np.nan if channel.level is None else channel.level for channel in spec.channels]
        return Points(
            variable=np.tile([channel.variable for channel in spec.channels], self.count),
            latitude=np.repeat(latitude, channels),
            longitude=np.repeat(longitude, channels),
            pressure=np.tile(np.array(levels, dtype=np.float64), self.count),
            platform=np.array("column"),
        )


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


@dataclass(frozen=True)
class ObservationErrors:
    """The observation errors of the twin experiments: the square root of R's diagonal.

    Geopotential has the hydrostatic counterpart of the errors of pressure and temperature. At
    pressure p it is the geopotential error at the ground plus that of the thickness above it,

        σ_z² = (R_d T₀ δp/p₀)² + (R_d σ_T)² Δ ln(p₀/p),

    T₀ = 288.15 K and p₀ = 1013.25 hPa: temperature errors are taken as independent between layers
    Δ deep in ln p, so that the variance of the thickness R_d ∫ T d ln p grows with the number of
    layers, n = ln(p₀/p)/Δ, as n (R_d σ_T Δ)². With the defaults this is 9 gpm at 1000 hPa, 15 at
    500 and 24 at 100, the size of the radiosonde errors that operational centres assume.

    Attributes:
        wind: m/s, for u, v, u10, v10.
        temperature: K, for t and t2m.
        pressure: hPa, for msl.
        humidity: for q, a fraction of the climatological std at that pressure.
        layer_depth: Δ above; 0.25 is about 1.9 km.
        humidity_std: climatological std of q in kg/kg by pressure level in hPa, linear in ln p
            between levels; usually set by :meth:`with_climatology`.

    Raises:
        UserError: for an error that is not positive.
    """

    wind: float = 1.0
    temperature: float = 1.0
    pressure: float = 1.0
    humidity: float = 0.15
    layer_depth: float = 0.25
    humidity_std: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("wind", "temperature", "pressure", "humidity", "layer_depth"):
            if not getattr(self, name) > 0:
                raise UserError(f"ObservationErrors: {name} is {getattr(self, name)}, must be positive")
        if not all(std > 0 for std in self.humidity_std.values()):
            raise UserError("ObservationErrors: every value of humidity_std must be positive")

    def with_climatology(self, spec: StateSpec, std: np.ndarray | Tensor) -> ObservationErrors:
        """The same errors, knowing the climatological std of each channel, [C] in physical units."""
        values = np.asarray(std, dtype=np.float64).reshape(-1)
        if values.size != len(spec):
            raise ValueError(f"{values.size} climatological stds for {len(spec)} channels")
        humidity = {
            channel.level: float(value)
            for channel, value in zip(spec.channels, values, strict=True)
            if channel.variable == "q" and channel.level is not None
        }
        return replace(self, humidity_std=humidity)

    def geopotential(self, pressure: np.ndarray) -> np.ndarray:
        """σ_z in m² s⁻² at pressures in hPa (at and below p₀: that of the ground)."""
        ground = GAS_CONSTANT * REFERENCE_TEMPERATURE * self.pressure / REFERENCE_PRESSURE
        depth = np.clip(np.log(REFERENCE_PRESSURE / np.asarray(pressure)), 0.0, None)
        thickness = (GAS_CONSTANT * self.temperature) ** 2 * self.layer_depth * depth
        return np.asarray(np.sqrt(ground**2 + thickness))

    def error_std(self, points: Points) -> np.ndarray:
        """[P] standard deviations in the units of the state.

        Raises:
            ValueError: for humidity while its climatology is unknown.
        """
        by_variable = {"t": self.temperature, "t2m": self.temperature, "msl": 100.0 * self.pressure}
        by_variable |= dict.fromkeys(("u", "v", "u10", "v10"), self.wind)
        std = np.array([by_variable.get(str(name), np.nan) for name in points.variable])
        z, q = points.variable == "z", points.variable == "q"
        std[z] = self.geopotential(points.pressure[z])
        if q.any():
            if not self.humidity_std:
                raise ValueError("the climatological std of q is unknown: call with_climatology first")
            levels = sorted(self.humidity_std)
            climatology = [self.humidity_std[level] for level in levels]
            std[q] = self.humidity * np.interp(np.log(points.pressure[q]), np.log(levels), climatology)
        return std


def simulate(
    truth: State, network: Network, errors: ObservationErrors, time: np.datetime64, seed: int
) -> Observations:
    """Observe the truth: H(truth) plus Gaussian noise whose std is exactly ``error_std``.

    The noise depends on ``seed`` and ``time`` alone, so that every experiment arm, and a resumed
    run, sees the same observations. Noise may take humidity below zero; cutting it there would
    bias the observations.

    Args:
        truth: [C, H, W].
        network: where to observe.
        errors: how well.
        time: of the analysis.
        seed: of the noise, not negative.

    Raises:
        ValueError: when the truth has a batch axis.
        UserError: when the state lacks what the network observes, or the seed is negative.
    """
    if truth.values.ndim != 3:
        raise ValueError(f"one state [C, H, W] is observed at a time, not {tuple(truth.values.shape)}")
    if seed < 0:
        raise UserError(f"the seed of the observation noise is {seed}, must not be negative")
    points = network.points(truth.spec, time)
    index, weight = interpolation(truth.spec, truth.grid, points)
    corners = truth.values.detach().flatten()[index.to(truth.values.device)].cpu().double()
    std = errors.error_std(points)
    noise = _generator(_NOISE, seed, time).standard_normal(len(points))
    placed = {entry.name: getattr(points, entry.name) for entry in fields(points)}
    return Observations(**placed, value=(corners * weight).sum(-1).numpy() + std * noise, error_std=std)


def _generator(stream: int, seed: int, time: np.datetime64 | None) -> np.random.Generator:
    key = [stream, seed]
    if time is not None:
        # Times before 1970 are negative, which a seed must not be.
        key.append(int(time.astype("datetime64[ns]").astype(np.int64)) % 2**64)
    return np.random.default_rng(np.random.SeedSequence(key))
