"""The observation errors R of the twin experiments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from vaevar.constants import GAS_CONSTANT, SEA_LEVEL_PRESSURE, SEA_LEVEL_TEMPERATURE
from vaevar.data.observations.operator import quantity
from vaevar.data.observations.points import Points
from vaevar.errors import UserError
from vaevar.state import StateSpec

_LARGEST_FRACTION = 3.0


@dataclass(frozen=True)
class ObservationErrors:
    """The observation errors of the twin experiments: the square root of R's diagonal.

    The error of geopotential follows from those of pressure and temperature by hydrostatic balance. At
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
        others: standard deviations of other quantities, in their own units, such as ``{ws10: 1.5}``.

    Raises:
        UserError: for an error that is not positive and finite, or one in ``others`` that nothing would use.

    Example:
        >>> points = vaevar.ColumnNetwork(count=1, quantities=["t500", "msl"]).points(StateSpec(), time)
        >>> vaevar.ObservationErrors(temperature=0.8).error_std(points)
        array([  0.8, 100. ])
    """

    wind: float = 1.0
    temperature: float = 1.0
    pressure: float = 1.0
    humidity: float = 0.15
    layer_depth: float = 0.25
    humidity_std: Mapping[int, float] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("wind", "temperature", "pressure", "humidity", "layer_depth"):
            if not 0 < getattr(self, name) < np.inf:
                raise UserError(f"ObservationErrors: {name} is {getattr(self, name)}, must be positive")
        if self.humidity > _LARGEST_FRACTION:
            raise UserError(
                f"ObservationErrors: humidity is {self.humidity}, a fraction of the climatological std: at "
                f"most {_LARGEST_FRACTION:g}; 15 % is 0.15"
            )
        for name in ("humidity_std", "others"):
            for key, std in getattr(self, name).items():
                if not 0 < std < np.inf:
                    raise UserError(f"ObservationErrors: {name} has {std} for {key}, must be positive")
        for name in self.others:
            self._require_effect(str(name))

    @staticmethod
    def _require_effect(name: str) -> None:
        """Check that an error in ``others`` is of something, and not overruled.

        Raises:
            UserError: when it is not.
        """
        try:
            quantity(name)
        except ValueError as error:
            raise UserError(f"ObservationErrors: others: {error}") from None
        if name in ("z", "q"):
            of_what = "pressure and temperature" if name == "z" else "humidity"
            raise UserError(
                f"ObservationErrors: others: that of {name} follows from {of_what}; set these, and leave it "
                "out"
            )

    def with_climatology(self, spec: StateSpec, std: np.ndarray | Tensor) -> ObservationErrors:
        """The same errors with the climatological std of each channel, [C] in physical units."""
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
        ground = GAS_CONSTANT * SEA_LEVEL_TEMPERATURE * self.pressure / SEA_LEVEL_PRESSURE
        depth = np.clip(np.log(SEA_LEVEL_PRESSURE / np.asarray(pressure)), 0.0, None)
        thickness = (GAS_CONSTANT * self.temperature) ** 2 * self.layer_depth * depth
        return np.asarray(np.sqrt(ground**2 + thickness))

    def error_std(self, points: Points) -> np.ndarray:
        """[P] standard deviations in the units of the observed quantities.

        Raises:
            ValueError: for humidity while its climatology is unknown.
            UserError: for a quantity without an error.
        """
        by_variable = {"t": self.temperature, "t2m": self.temperature, "msl": 100.0 * self.pressure}
        by_variable |= dict.fromkeys(("u", "v", "u10", "v10"), self.wind)
        by_variable |= self.others
        std = np.array([by_variable.get(str(name), np.nan) for name in points.variable])
        z, q = points.variable == "z", points.variable == "q"
        std[z] = self.geopotential(points.pressure[z])
        if q.any():
            if not self.humidity_std:
                raise ValueError("the climatological std of q is unknown: call with_climatology first")
            levels = sorted(self.humidity_std)
            climatology = [self.humidity_std[level] for level in levels]
            std[q] = self.humidity * np.interp(np.log(points.pressure[q]), np.log(levels), climatology)
        lacking = np.unique(points.variable[np.isnan(std)]).tolist()
        if lacking:
            raise UserError(
                f"ObservationErrors: no error is known for {', '.join(lacking)}; give it in `others`, in the "
                f"units of the quantity, such as {{{lacking[0]}: 1.5}}"
            )
        return std
