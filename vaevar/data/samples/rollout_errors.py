"""What errors are made of when they come from forecasts over a period of known states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.data.times import period_of
from vaevar.data.weather.store import Source, WeatherStore
from vaevar.errors import UserError
from vaevar.forecast import Forecaster, rollout
from vaevar.sphere.coarsening import coarsening_to
from vaevar.sphere.difference import family_hint

HOUR = np.timedelta64(1, "h")


class RolloutErrors(ABC):
    """Errors made from roll-outs of a forecaster; subclasses say which forecasts make a sample.

    Args:
        source: states that the forecasts start from.
        forecaster: rolled out from each initial time; its channels are those of the samples.
        start, end: first and last state used, such as ``2019-12-01T00``.
        leads: ages of the forecasts that samples stand for, in hours.
        every_hours: hours between initial times.
        rollout_batch_size: initial times rolled out together.
        coarsen_to: rows and columns of the Gaussian grid that samples are kept on, as means over its cells.
            None: keep the forecaster's grid.
        samples_per_file: from 2 on, the store is zarr v3 and each file (a shard) holds this many samples,
            which are held in memory until the file is written.

    Attributes:
        scheme: how the errors arise, in words.
        fields: the arrays of a sample.
        leads: hours, ascending.
        initial: [M] datetime64[h], initial times of the roll-outs.
        times: [N] datetime64[h], initial times of the samples.
        grid: the points of the samples.
        recipe: everything the samples depend on; kept among the store's attributes.
        reduce: applied to each forecast on its device before the forecast is kept.

    Raises:
        UserError: for a setting out of range.
    """

    scheme: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]
    initial: np.ndarray
    times: np.ndarray

    def __init__(
        self,
        source: Source,
        forecaster: Forecaster,
        start: str,
        end: str,
        leads: tuple[int, ...],
        every_hours: int,
        rollout_batch_size: int,
        coarsen_to: tuple[int, int] | None,
        samples_per_file: int,
    ) -> None:
        if every_hours < 1 or rollout_batch_size < 1 or samples_per_file < 1:
            raise UserError(
                "every_hours, rollout_batch_size and samples_per_file must be positive, got "
                f"{every_hours}, {rollout_batch_size} and {samples_per_file}"
            )
        self.start, self.end = period_of(start, end)
        self.source, self.forecaster, self.leads = source, forecaster, leads
        self.every_hours, self.rollout_batch_size = every_hours, rollout_batch_size
        self.samples_per_file = samples_per_file
        self.spec, self.grid = forecaster.spec, forecaster.grid
        self.reduce: nn.Module = nn.Identity()
        self.recipe: dict[str, str | int] = {
            "scheme": self.scheme,
            "source": source.description,
            "forecaster": str(getattr(forecaster, "description", type(forecaster).__name__)),
            "start": str(self.start),
            "end": str(self.end),
            "every_hours": every_hours,
            "leads": ", ".join(map(str, leads)),
            "channels": ", ".join(self.spec.names),
        }
        try:
            coarsening = coarsening_to(self.grid, coarsen_to)
        except ValueError as error:
            raise UserError(f"coarsen_to: {error}") from None
        if coarsening is not None:
            self.reduce, self.grid = coarsening, coarsening.target
            self.recipe["coarsened_to"] = repr(self.grid)

    def initial_times(self, last: np.datetime64) -> np.ndarray:
        """Initial times [M] from the first that has enough past states up to ``last``, datetime64[h]."""
        first = self.start + (self.forecaster.history - 1) * self.forecaster.step_hours * HOUR
        return np.arange(first, last + HOUR, self.every_hours * HOUR).astype("datetime64[h]")

    @abstractmethod
    def parts(self, sample: int) -> list[tuple[int, int]]:
        """The forecasts that a sample is made of: number of the initial time, age in hours."""

    @abstractmethod
    def combine(self, sample: int, forecasts: list[Tensor]) -> dict[str, np.ndarray]:
        """A sample.

        Args:
            sample: its number.
            forecasts: [C, H, W] each, physical units, in the order of :meth:`parts`.

        Returns:
            each of ``fields``, [lead, C, H, W] float32, physical units.
        """

    def open_source(self) -> WeatherStore:
        """The states.

        Raises:
            UserError: when they are on another grid than the forecaster's.
        """
        store = self.source.open(self.spec)
        if store.grid != self.forecaster.grid:
            raise UserError(
                f"the forecaster runs on {self.forecaster.grid}, but {store.path} is on {store.grid}; "
                f"{self.forecaster.grid.difference(store.grid)}"
                f"{family_hint(self.forecaster.grid, store.grid)}"
            )
        return store

    def forecasts(self, states: Tensor, hours: list[int]) -> dict[int, Tensor]:
        """Forecasts by age.

        Args:
            states: [B, history, C, H, W], physical units.
            hours: the ages to keep.

        Returns:
            [B, C, H', W'] for each age, physical units, on the grid of the samples.
        """
        step, kept = self.forecaster.step_hours, {}
        with torch.no_grad():
            for number, forecast in enumerate(rollout(self.forecaster, states, max(hours) // step), 1):
                if number * step in hours:
                    kept[number * step] = self.reduce(forecast)
                # Not held during the next step.
                del forecast
        return kept
