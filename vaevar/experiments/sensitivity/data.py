"""LightningDataModule of the sensitivity experiment: analyses up to a date, and the truth a day later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vaevar.data.analysis_times import HOUR, AnalysisTime, AnalysisTimes
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.networks import Network
from vaevar.data.times import steps_in, whole_hour
from vaevar.data.weather.store import Source
from vaevar.errors import UserError
from vaevar.experiments.cases import loader_of_cases
from vaevar.experiments.sensitivity.region import Region
from vaevar.experiments.sensitivity.score import ForecastError
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


@dataclass(frozen=True)
class SensitivityCase:
    """One forecast.

    Attributes:
        index: 0 for the first.
        time: at which it starts.
        start: [history, C, H, W], true states from which the first background is forecast.
        background_hours: of that forecast.
        analyses: the analysis times, the last of them ``time``.
        score: J_e.
    """

    index: int
    time: np.datetime64
    start: Tensor
    background_hours: int
    analyses: list[AnalysisTime]
    score: ForecastError

    def to(self, device: torch.device | str, **_: object) -> SensitivityCase:
        """The same with the states on ``device`` (Lightning moves every batch)."""
        truth = replace(self.score.truth, values=self.score.truth.values.to(device))
        return replace(
            self,
            start=self.start.to(device),
            analyses=[time.to(device) for time in self.analyses],
            score=replace(self.score, truth=truth),
        )


class SensitivityData(L.LightningDataModule):
    """Forecasts from the last of some analyses, whose error over a region is explained.

    Args:
        source: the truth.
        dates: when the forecasts start, such as ``2022-01-10T00``.
        network: where observations are made.
        climatology: ``.npy`` file of the climatological std by channel, or an array of it.
        region: where the forecasts are judged.
        lead_hours: of the forecasts.
        channels: that are judged, such as ``[z500, t850]``. None: all.
        analyses: how many, ``step_hours`` apart, every arm makes up to a date; only the last window of an
            arm is explained.
        background_hours: age of the first background, which is a forecast from the truth.
        errors: the observation errors R, which are also the size of the noise.
        seed: of the observation noise.
        step_hours: between analyses.
        spec: channels of the states. None: FengWu's 69.

    Raises:
        UserError: for no or repeating dates, a lead or a number that does not fit, unknown channels, or a
            bad climatology file; when it is set up, for a region without a point.
    """

    def __init__(
        self,
        source: Source,
        dates: list[str],
        network: Network,
        climatology: str,
        region: Region,
        lead_hours: int = 24,
        channels: list[str] | None = None,
        analyses: int = 8,
        background_hours: int = 48,
        errors: ObservationErrors | None = None,
        seed: int = 0,
        step_hours: int = 6,
        spec: StateSpec | None = None,
    ) -> None:
        super().__init__()
        self.times = np.array([whole_hour(date, "data.dates") for date in dates], dtype="datetime64[h]")
        if not self.times.size or np.unique(self.times).size < self.times.size:
            raise UserError(f"data.dates: {dates}, expected one or more, each once")
        if analyses < 1 or step_hours < 1:
            raise UserError(f"data: analyses {analyses} and step_hours {step_hours} must be at least 1")
        steps_in(lead_hours, "data.lead_hours", step_hours)
        steps_in(background_hours, "data.background_hours", step_hours)
        self.spec = spec or StateSpec()
        unknown = [name for name in channels or () if not self.spec.has(name)]
        if unknown or channels == []:
            raise UserError(
                f"data.channels: {', '.join(unknown) or 'none'}, expected channels of the state: "
                f"{', '.join(self.spec.names[:5])}, ...; leave it out for all"
            )
        self.source, self.region, self.lead_hours = source, region, lead_hours
        self.channels = list(channels or self.spec.names)
        self.step_hours = step_hours
        starts = self.times - (analyses - 1) * step_hours * HOUR
        self.windows = [
            AnalysisTimes(
                source,
                str(start),
                analyses,
                network,
                climatology,
                errors,
                seed,
                step_hours,
                background_hours,
                self.spec,
            )
            for start in starts
        ]

    @property
    def grid(self) -> Grid:
        return self.windows[0].store.grid

    @property
    def std(self) -> np.ndarray:
        """[C], climatological."""
        return self.windows[0].climatological_std

    def prepare_data(self) -> None:
        for window in self.windows:
            window.prepare_data()
        self.source.prepare(self.times.min(), self.times.max() + self.lead_hours * HOUR)

    def setup(self, stage: str) -> None:
        for window in self.windows:
            window.setup(stage)
        self.region.weights(self.grid)

    def predict_dataloader(self) -> DataLoader[SensitivityCase]:
        return loader_of_cases(self)

    def __len__(self) -> int:
        return self.times.size

    def cases(self) -> Iterator[SensitivityCase]:
        """Every case in order.

        Raises:
            UserError: for a time that the source does not hold.
        """
        module = None if self.trainer is None else self.trainer.lightning_module
        history = getattr(getattr(module, "forecaster", None), "history", 2)
        weights = self.region.weights(self.grid)
        judged = [self.spec.index(name) for name in self.channels]
        for index, (time, window) in enumerate(zip(self.times, self.windows, strict=True)):
            truth = window.store.state(time + self.lead_hours * HOUR)
            yield SensitivityCase(
                index,
                time,
                window.initial_states(history),
                window.lead_hours,
                [window.analysis_time(number) for number in range(window.analyses)],
                ForecastError(truth, weights, judged, self.std, self.lead_hours),
            )
