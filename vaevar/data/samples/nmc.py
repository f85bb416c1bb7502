"""Background errors by the NMC method: differences of forecasts valid at the same time.

Parrish and Derber (1992): the 48 h forecast minus the 24 h forecast stands for the error of a background.
One roll-out per initial time yields both, so a sample costs 8 steps of 6 h instead of 12:

    error(v) = forecast from v − 48 h, valid at v  −  forecast from v − 24 h, valid at v.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vaevar.data.samples.rollout_errors import RolloutErrors
from vaevar.data.weather.store import Source
from vaevar.errors import UserError
from vaevar.forecast import Forecaster

SHORT_HOURS, LONG_HOURS = 24, 48


class NMCDifferences(RolloutErrors):
    """48 h minus 24 h forecasts, valid at the same time.

    Args:
        source: states that the forecasts start from.
        forecaster: rolled out over 48 h; its channels are those of the errors.
        start, end: first and last state used, such as ``2019-12-01T00``.
        every_hours: hours between initial times; must divide 24.
        rollout_batch_size: initial times rolled out together.
        coarsen_to: rows and columns of the Gaussian grid that the errors are kept on, as means over its
            cells; [128, 256] is 1.40625° and carries T127. None: keep the forecaster's grid.
        samples_per_file: from 2 on, the store is zarr v3 and this many samples share a file: 20 000 files are
            slow to list and to copy. They are held in memory until all are there; a kill loses no more.

    Raises:
        UserError: when the settings do not fit each other.
    """

    scheme = f"{LONG_HOURS} h minus {SHORT_HOURS} h forecast, valid at the same time"
    fields = ("error",)

    def __init__(
        self,
        source: Source,
        forecaster: Forecaster,
        start: str,
        end: str,
        every_hours: int = 12,
        rollout_batch_size: int = 4,
        coarsen_to: tuple[int, int] | None = None,
        samples_per_file: int = 1,
    ) -> None:
        super().__init__(
            source, forecaster, start, end, (LONG_HOURS,), every_hours, rollout_batch_size, coarsen_to,
            samples_per_file,
        )  # fmt: skip
        if SHORT_HOURS % every_hours:
            raise UserError(
                f"every_hours must divide {SHORT_HOURS} so that forecasts pair up, got {every_hours}"
            )
        step = forecaster.step_hours
        if SHORT_HOURS % step:
            raise UserError(f"the forecaster steps {step} h, which does not divide {SHORT_HOURS} h")
        self.lag = SHORT_HOURS // every_hours
        self.initial = self.initial_times(self.end)
        if self.initial.size <= self.lag:
            raise UserError(
                f"{start} to {end} is too short for background errors: it needs two initial times "
                f"{SHORT_HOURS} h apart"
            )
        self.times = self.initial[: -self.lag]

    def parts(self, sample: int) -> list[tuple[int, int]]:
        return [(sample, LONG_HOURS), (sample + self.lag, SHORT_HOURS)]

    def combine(self, sample: int, forecasts: list[Tensor]) -> dict[str, np.ndarray]:
        long, short = forecasts
        return {"error": (long.float() - short.float()).numpy()[None]}
