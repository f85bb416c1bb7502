"""Forecasts and their errors: truth minus forecast, at one or several lead times.

The training data of DiffDA (Huang et al., ICML 2024) are forecasts of one lead time, 48 h or 6 h, with the
truth that they were made for. One roll-out per initial time yields all leads.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vaevar.data.samples.rollout_errors import HOUR, RolloutErrors
from vaevar.data.weather.store import Source, WeatherStore
from vaevar.errors import UserError
from vaevar.forecast import Forecaster


class ForecastErrors(RolloutErrors):
    """Forecasts as backgrounds, and truth − forecast as their errors.

    Args:
        source: the truth, which is also what the forecasts start from.
        forecaster: rolled out as far as the longest lead; its channels are those of the samples.
        start, end: first and last state used, such as ``2019-12-01T00``.
        leads: ages of the forecasts in hours, ascending multiples of the forecaster's step.
        every_hours: hours between initial times.
        rollout_batch_size: initial times rolled out together.
        coarsen_to: rows and columns of the Gaussian grid that samples are kept on, as means over its cells.
            None: keep the forecaster's grid.
        samples_per_file: from 2 on, the store is zarr v3 and this many samples share a file.

    Raises:
        UserError: when the settings do not fit each other.
    """

    scheme = "truth minus forecast"
    fields = ("error", "background")

    def __init__(
        self,
        source: Source,
        forecaster: Forecaster,
        start: str,
        end: str,
        leads: tuple[int, ...] = (6, 48),
        every_hours: int = 24,
        rollout_batch_size: int = 8,
        coarsen_to: tuple[int, int] | None = None,
        samples_per_file: int = 1,
    ) -> None:
        leads, step = tuple(leads), forecaster.step_hours
        if not leads or any(lead < step or lead % step for lead in leads) or leads != tuple(sorted({*leads})):
            raise UserError(f"leads must ascend in multiples of the forecaster's {step} h, got {list(leads)}")
        super().__init__(
            source, forecaster, start, end, leads, every_hours, rollout_batch_size, coarsen_to,
            samples_per_file,
        )  # fmt: skip
        self.times = self.initial = self.initial_times(self.end - leads[-1] * HOUR)
        if not self.initial.size:
            raise UserError(f"{start} to {end} is too short for a forecast of {leads[-1]} h")
        self._reduce_truth = deepcopy(self.reduce)  # stays on the CPU when the other is moved

    @cached_property
    def _truth(self) -> WeatherStore:
        return self.open_source()

    def parts(self, sample: int) -> list[tuple[int, int]]:
        return [(sample, lead) for lead in self.leads]

    def combine(self, sample: int, forecasts: list[Tensor]) -> dict[str, np.ndarray]:
        background = torch.stack(forecasts).float()
        truth = self._truth.read(self.times[sample] + np.array(self.leads) * HOUR)
        error = self._reduce_truth(torch.from_numpy(truth)) - background
        return {"error": error.numpy(), "background": background.numpy()}
