"""LightningDataModule of analysis times: at each of them the truth and what is observed of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.networks import Network
from vaevar.data.observations.operator import require_representable
from vaevar.data.observations.points import Observations
from vaevar.data.observations.simulate import simulate
from vaevar.data.times import whole_hour
from vaevar.data.weather.climatology import load_climatological_std
from vaevar.data.weather.store import Source, WeatherStore
from vaevar.errors import UserError
from vaevar.mistakes.notices import notice
from vaevar.state import State, StateSpec

HOUR = np.timedelta64(1, "h")


@dataclass(frozen=True)
class AnalysisTime:
    """One analysis time: its observations, and the truth that the analysis is judged by.

    Attributes:
        index: 0 for the first analysis.
        time: valid time.
        truth: the nature run or reanalysis. For scores only: no assimilator sees it.
        observations: valid at ``time``.
    """

    index: int
    time: np.datetime64
    truth: State
    observations: Observations

    def to(self, device: torch.device | str, **_: object) -> AnalysisTime:
        """The same with the truth on ``device`` (Lightning moves every batch)."""
        return replace(self, truth=replace(self.truth, values=self.truth.values.to(device)))


@dataclass(frozen=True)
class MissingTime:
    """An analysis time whose truth cannot be read: nothing is observed, and nothing can be judged.

    Attributes:
        index: 0 for the first analysis.
        time: valid time.
        cause: why, in one line.
    """

    index: int
    time: np.datetime64
    cause: str

    def to(self, *_: object, **__: object) -> MissingTime:
        """Itself: Lightning moves every batch."""
        return self


class AnalysisTimes(L.LightningDataModule):
    """Analyses every ``step_hours`` of a twin experiment.

    The first background is a forecast from the truth ``lead_hours`` earlier, as in VAE-Var's
    protocol (Xiao et al., ICLR 2025: 48 h), so that it carries a forecast's error.

    Args:
        source: the truth.
        start: time of the first analysis. The truth must reach back ``lead_hours``, and one more step for
            each past state that the forecaster needs besides one.
        analyses: number of analyses.
        network: where observations are made.
        climatology: ``.npy`` file of the climatological std by channel, or an array of it; sets the humidity
            errors and divides the scores.
        errors: the observation errors R, which are also the size of the noise.
        seed: of the observation noise.
        step_hours: between analyses.
        lead_hours: age of the first background.
        spec: channels. None: FengWu's 69.

    Attributes:
        ended: no more times are needed.
        skip_missing: a time whose truth cannot be read is a :class:`MissingTime` of the cycle, not its end.

    Raises:
        UserError: for a count or an interval that is not positive, a start that is not on the hour, or a bad
            climatology file.

    Example:
        >>> data = vaevar.AnalysisTimes(
        ...     vaevar.StoreSource(store.path), start="2021-01-03T06", analyses=5, lead_hours=12,
        ...     network=vaevar.ColumnNetwork(count=20), climatology=climatology, spec=store.spec,
        ... )
        >>> data.times[-1]
        np.datetime64('2021-01-04T06','h')
    """

    may_grow: ClassVar = ("analyses",)
    not_settings: ClassVar = ("times", "store", "ended", "skip_missing")

    def __init__(
        self,
        source: Source,
        start: str,
        analyses: int,
        network: Network,
        climatology: str,
        errors: ObservationErrors | None = None,
        seed: int = 0,
        step_hours: int = 6,
        lead_hours: int = 48,
        spec: StateSpec | None = None,
    ) -> None:
        super().__init__()
        for name, number in {"analyses": analyses, "step_hours": step_hours}.items():
            if number < 1:
                raise UserError(f"data: {name} is {number}, must be positive")
        if lead_hours < step_hours or lead_hours % step_hours:
            raise UserError(
                f"data: lead_hours is {lead_hours}, must be a positive multiple of the step, {step_hours} h"
            )
        if seed < 0:
            raise UserError(f"data.seed: {seed} is not a seed of observation noise, must not be negative")
        self.start = whole_hour(start, "data.start")
        self.source, self.network, self.seed = source, network, seed
        self.step_hours, self.lead_hours, self.analyses = step_hours, lead_hours, analyses
        self.spec = spec or StateSpec()
        self.times = self.start + step_hours * HOUR * np.arange(analyses)
        self.climatological_std = load_climatological_std(climatology, self.spec)
        self.errors = (errors or ObservationErrors()).with_climatology(self.spec, self.climatological_std)
        self.store: WeatherStore
        self.skip_missing, self.ended = False, False

    def prepare_data(self) -> None:
        """Prepare the truth from the first state that the module's forecaster starts from."""
        # Without a trainer nobody knows the forecaster: as far back as FengWu's two states.
        module = None if self.trainer is None else self.trainer.lightning_module
        history = getattr(getattr(module, "forecaster", None), "history", 2)
        earliest = self.start - (self.lead_hours + (history - 1) * self.step_hours) * HOUR
        self.source.prepare(earliest - self._reach(), self.times[-1] + self._reach())

    def _reach(self) -> np.timedelta64:
        """How far from the analysis times the truth is observed, in whole steps."""
        return math.ceil(self.network.reach_hours / self.step_hours) * self.step_hours * HOUR

    def setup(self, stage: str) -> None:
        """Open the truth, and look at what the network observes of it at the first time.

        Raises:
            UserError: for a bad store, or observations that cannot be made of its states.
        """
        self.store = self.source.open(self.spec)
        self._look_at_network()

    def _look_at_network(self) -> None:
        points = self.network.points(self.spec, self.times[0])
        require_representable(self.spec, points)
        self.errors.error_std(points)
        rows, columns = self.store.grid.shape
        if len(points) <= rows * columns:  # nor are there as many places
            return
        places = len(np.unique(np.stack([points.latitude, points.longitude]), axis=1).T)
        if places > rows * columns:
            notice(
                f"data.network observes {places} places, more than the {rows} × {columns} points of the "
                "grid, and takes their errors as independent; is the number meant?"
            )

    def initial_states(self, history: int, index: int = 0) -> torch.Tensor:
        """The true states from which a forecast of ``lead_hours`` reaches analysis number ``index``.

        Returns:
            [history, C, H, W], physical units.
        """
        return torch.from_numpy(self.store.read(self.initial_times(history, index)))

    def predict_dataloader(self) -> DataLoader:
        # Lightning's samplers leave an iterable dataset alone: every rank sees every time, since ranks
        # share the arms, not the times.
        return DataLoader(_AnalysisStream(self), batch_size=None)

    def initial_times(self, history: int, index: int = 0) -> np.ndarray:
        """The times of :meth:`initial_states`, [history]."""
        latest = self.times[index] - self.lead_hours * HOUR
        return latest - self.step_hours * HOUR * np.arange(history)[::-1]

    def time_or_gap(self, index: int) -> AnalysisTime | MissingTime:
        """One analysis; a missing one if its truth cannot be read and that is allowed.

        Raises:
            UserError: when the truth cannot be read and ``skip_missing`` is not set.
        """
        try:
            return self.analysis_time(index)
        except UserError:
            # Only a truth that cannot be read is a gap, not what fails while it is observed.
            if not self.skip_missing or not (cause := self._gap(index)):
                raise
            return MissingTime(index, self.times[index], cause)

    def analysis_time(self, index: int) -> AnalysisTime:
        """Truth and observations of one analysis, the same on every call."""
        time = self.times[index]
        truth = self.store.state(time)
        step = self.step_hours * HOUR
        observations = simulate(
            truth,
            self.network,
            self.errors,
            time,
            self.seed,
            around=lambda: (self.store.state(time - step), self.store.state(time + step)),
            step_hours=self.step_hours,
        )
        return AnalysisTime(index, time, truth, observations)

    def window(self, index: int, length: int) -> list[AnalysisTime | MissingTime]:
        """The analysis times of an assimilation window.

        Args:
            index: number of the first.
            length: K, the number of times.
        """
        return [self.time_or_gap(number) for number in range(index, index + length)]

    def _gap(self, index: int) -> str:
        """Why the truth of an analysis cannot be read; empty if it can."""
        try:
            self.store.state(self.times[index])
        except UserError as error:
            return str(error)
        return ""


class _AnalysisStream(IterableDataset[AnalysisTime | MissingTime]):
    def __init__(self, data: AnalysisTimes) -> None:
        self.data = data

    def __len__(self) -> int:
        return self.data.times.size

    def __iter__(self) -> Iterator[AnalysisTime | MissingTime]:
        for index in range(self.data.times.size):
            if self.data.ended:
                return
            yield self.data.time_or_gap(index)
