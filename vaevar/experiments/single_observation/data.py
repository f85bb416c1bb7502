"""LightningDataModule of the single-observation experiment: one departure at one place at a time.

What one observation does to every variable around it is a column of the background-error
covariance that an assimilation method implies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from vaevar.data.observations.networks import SinglePoint
from vaevar.data.observations.operator import representable
from vaevar.data.observations.points import Observations, Points
from vaevar.data.times import whole_hour
from vaevar.data.weather.store import Source, WeatherStore
from vaevar.errors import UserError
from vaevar.experiments.cases import loader_of_cases
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec


@dataclass(frozen=True)
class Place:
    """Where the observation is made.

    Attributes:
        latitude, longitude: degrees north and east; any longitude.
    """

    latitude: float
    longitude: float

    @property
    def label(self) -> str:
        """Such as ``21N129E`` or ``45S90W``, for file names too."""
        east = (self.longitude + 180.0) % 360.0 - 180.0
        north_south = f"{abs(self.latitude):g}{'S' if self.latitude < 0 else 'N'}"
        return f"{north_south}{abs(east):g}{'W' if east < 0 else 'E'}"


@dataclass(frozen=True)
class SingleObservation:
    """One case: a background and one observation that departs from it by a given amount.

    Attributes:
        index: 0 for the first case.
        time: of the background.
        place: of the observation.
        departure: y − H(x_b), in the units of the variable.
        background: [C, H, W] float64, so that analysis − background keeps the digits of the increment.
        observations: the one observation.
    """

    index: int
    time: np.datetime64
    place: Place
    departure: float
    background: State
    observations: Observations

    def to(self, device: torch.device | str, **_: object) -> SingleObservation:
        """The same with the background on ``device`` (Lightning moves every batch)."""
        background = self.background
        return replace(self, background=replace(background, values=background.values.to(device)))


class SingleObservations(L.LightningDataModule):
    """Every date with every place with every departure, in this order.

    The backgrounds are states of ``source`` themselves, not forecasts from them. The observation is
    H(x_b) + departure, without noise. So the background matters only to a nonlinear H and to a control
    transform that depends on the day.

    The first of each list is the experiment's main case: its increments are mapped and tabled, and the
    others are compared with it.

    Args:
        source: where the backgrounds come from.
        dates: of the backgrounds, such as ``2022-01-05T00``.
        places: of the observation.
        departures: y − H(x_b), in the variable's units, not zero.
        error_std: standard deviation of the observation error, in the variable's units.
        variable: the observed quantity, such as ``z``.
        pressure: hPa. None: a surface variable.
        spec: channels. None: FengWu's 69.

    Raises:
        UserError: for an empty or repeating list, a malformed date, a zero departure, an error
            that is not positive, a place off the sphere, or a variable or pressure that the state
            lacks.
    """

    def __init__(
        self,
        source: Source,
        dates: list[str],
        places: list[Place],
        departures: list[float],
        error_std: float,
        variable: str = "z",
        pressure: float | None = 500.0,
        spec: StateSpec | None = None,
    ) -> None:
        super().__init__()
        for name, values in (("dates", dates), ("places", places), ("departures", departures)):
            if not values:
                raise UserError(f"data.{name}: name at least one")
            if any(value in values[:i] for i, value in enumerate(values)):
                raise UserError(f"data.{name}: {values} repeats itself")
        if not (np.isfinite(departures).all() and np.all(departures)):
            raise UserError(f"data.departures: {departures} must be finite and not zero")
        if not (error_std > 0 and np.isfinite(error_std)):
            raise UserError(f"data.error_std: {error_std} must be positive")
        self.source, self.spec = source, spec or StateSpec()
        self.variable, self.pressure, self.error_std = variable, pressure, float(error_std)
        self.times = np.array([whole_hour(date, "data.dates") for date in dates])
        self.places, self.departures = list(places), [float(departure) for departure in departures]
        self._points = {place: self._observed(place) for place in self.places}
        self.store: WeatherStore

    def _observed(self, place: Place) -> Points:
        network = SinglePoint(self.variable, place.latitude, place.longitude, self.pressure)
        points = network.points(self.spec, self.times[0])
        if not representable(self.spec, points).all():
            raise UserError(
                f"data.variable, data.pressure: the state has no {self.observed}; it holds "
                f"{', '.join(self.spec.surface + self.spec.upper)} at {self.spec.levels} hPa"
            )
        return points

    @property
    def observed(self) -> str:
        """The observed quantity, such as ``z500``."""
        return self.variable if self.pressure is None else f"{self.variable}{self.pressure:g}"

    @property
    def grid(self) -> Grid:
        return self.store.grid

    def prepare_data(self) -> None:
        self.source.prepare(self.times.min(), self.times.max())

    def setup(self, stage: str) -> None:
        self.store = self.source.open(self.spec)

    def __len__(self) -> int:
        return self.times.size * len(self.places) * len(self.departures)

    def predict_dataloader(self) -> DataLoader[SingleObservation]:
        return loader_of_cases(self)

    def cases(self) -> Iterator[SingleObservation]:
        """Every case in order.

        Raises:
            UserError: for a date that the source does not hold.
        """
        index = 0
        for time in self.times:
            state = self.store.state(time)
            background = replace(state, values=state.values.double())
            for place in self.places:
                points = self._points[place]
                at_background = points.operator(self.spec, background.grid)(background.values).numpy()
                for departure in self.departures:
                    observations = points.with_values(at_background + departure, np.array([self.error_std]))
                    yield SingleObservation(index, time, place, departure, background, observations)
                    index += 1
