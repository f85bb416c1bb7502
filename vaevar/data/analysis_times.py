"""LightningDataModule of analysis times: at each of them the truth and what is observed of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.networks import Network
from vaevar.data.observations.points import Observations
from vaevar.data.observations.simulate import simulate
from vaevar.data.weather.climatology import load_climatological_std
from vaevar.data.weather.store import Source, WeatherStore
from vaevar.errors import UserError
from vaevar.state import State, StateSpec

HOUR = np.timedelta64(1, "h")


@dataclass(frozen=True)
class AnalysisTime:
    """What an analysis is made and judged with.

    Attributes:
        index: 0 for the first analysis.
        time: valid time.
        truth: the nature run or reanalysis; for scores only, no assimilator sees it.
        observations: valid at ``time``.
    """

    index: int
    time: np.datetime64
    truth: State
    observations: Observations

    def to(self, device: torch.device | str, **_: object) -> AnalysisTime:
        """The same with the truth on ``device`` (Lightning moves every batch)."""
        return replace(self, truth=replace(self.truth, values=self.truth.values.to(device)))


class AnalysisTimes(L.LightningDataModule):
    """Analyses every ``step_hours`` of a twin experiment.

    The first background is a forecast from the truth ``lead_hours`` earlier, as in VAE-Var's
    protocol (Xiao et al., ICLR 2025: 48 h), so that it carries a forecast's error.

    Args:
        source: the truth.
        start: time of the first analysis; ``lead_hours`` and one more step before it must exist.
        analyses: how many.
        network: where observations are made.
        climatology: ``.npy`` file of the climatological std by channel; sets the humidity errors
            and divides the scores.
        errors: the observation errors R; the noise has their size.
        seed: of the observation noise.
        step_hours: between analyses.
        lead_hours: age of the first background.
        spec: channels; default FengWu's 69.

    Raises:
        UserError: for a count or an interval that is not positive, or a bad climatology file.
    """

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
        if analyses < 1 or step_hours < 1 or lead_hours < step_hours or lead_hours % step_hours:
            raise UserError(
                f"data: analyses {analyses}, step_hours {step_hours} and lead_hours {lead_hours} must be "
                "positive, and the lead a multiple of the step"
            )
        try:
            self.start = np.datetime64(start, "h")
        except ValueError:
            raise UserError(f"data.start: {start!r} is no time; write 2022-01-03T06") from None
        self.source, self.network, self.seed = source, network, seed
        self.step_hours, self.lead_hours = step_hours, lead_hours
        self.spec = spec or StateSpec()
        self.times = self.start + step_hours * HOUR * np.arange(analyses)
        self.climatological_std = load_climatological_std(climatology, self.spec)
        self.errors = (errors or ObservationErrors()).with_climatology(self.spec, self.climatological_std)
        self.store: WeatherStore

    @property
    def _earliest(self) -> np.datetime64:
        return self.start - (self.lead_hours + self.step_hours) * HOUR

    def prepare_data(self) -> None:
        self.source.prepare(self._earliest, self.times[-1])

    def setup(self, stage: str) -> None:
        self.store = self.source.open(self.spec)

    def initial_states(self, history: int, index: int = 0) -> torch.Tensor:
        """The true states that a forecast for analysis number ``index`` starts from, [history, C, H, W].

        It is ``lead_hours`` old then, as the first background is.
        """
        latest = self.times[index] - self.lead_hours * HOUR
        times = latest - self.step_hours * HOUR * np.arange(history)[::-1]
        return torch.from_numpy(self.store.read(times))

    def predict_dataloader(self) -> DataLoader:
        # An iterable dataset is left alone by Lightning's samplers: every rank sees every time,
        # since ranks share out the arms, not the times.
        return DataLoader(_AnalysisStream(self), batch_size=None)

    def analysis_time(self, index: int) -> AnalysisTime:
        """Truth and observations of one analysis; the same whenever and by whomever it is asked."""
        time = self.times[index]
        truth = self.store.state(time)
        observations = simulate(truth, self.network, self.errors, time, self.seed)
        return AnalysisTime(index, time, truth, observations)


class _AnalysisStream(IterableDataset[AnalysisTime]):
    def __init__(self, data: AnalysisTimes) -> None:
        self.data = data

    def __len__(self) -> int:
        return self.data.times.size

    def __iter__(self) -> Iterator[AnalysisTime]:
        return (self.data.analysis_time(index) for index in range(self.data.times.size))
