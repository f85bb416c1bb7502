"""Records a cycle's own backgrounds and how far they are from the truth: samples to learn from.

Differences of forecasts (the NMC method) are not what a cycle gets wrong: its backgrounds are 6 h old and
have been held to observations before, so that their errors are smaller, of smaller scale, and larger
where little is observed. A cycle run once over the training period gives samples of just these errors,
and of the backgrounds they belong to. The truth of that period is what the forecaster was trained on too;
that of the periods for tuning and for testing is never recorded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import zarr
from torch import Tensor

from vaevar.assim.cycle.cycle import parts_of
from vaevar.assim.cycle.module import ArmResult
from vaevar.data.analysis_times import HOUR, AnalysisTime
from vaevar.data.samples.layout import (
    finish_pairs,
    lay_out_coverage,
    lay_out_pairs,
    stored_pair_sums,
    write_pair,
)
from vaevar.errors import UserError


class PairRecorder(L.Callback):
    """Writes pairs (background, truth − background) of one arm, as :mod:`vaevar.data.samples.layout` has
    them,
    with where the arm was observed before as ``coverage`` (:mod:`vaevar.data.observations.coverage`).

    Each is a forecast of one step. The store appears when the cycle has reached its end; a killed cycle
    that goes on goes on recording.

    Args:
        path: the zarr store; one that is there already ends the run before it begins.
        arm: whose backgrounds.
        skip: analyses at the beginning of the cycle that are not recorded.

    Raises:
        UserError: for a negative ``skip``.
    """

    def __init__(self, path: str, arm: str, skip: int = 0) -> None:
        if skip < 0:
            raise UserError(f"PairRecorder: skip is {skip}, must not be negative")
        self.path, self.arm, self.skip = Path(path), arm, skip
        self._coverage: Tensor | None = None  # before the analysis that is being made

    @property
    def _partial(self) -> Path:
        return self.path.with_name(self.path.name + ".partial")

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lay the store out, or find the one that a killed run left.

        Raises:
            UserError: for an arm that is not there, nothing to record, a store that is complete, or
                samples that an earlier run did not record.
        """
        module, data = parts_of(trainer, pl_module)
        if self.arm not in module.arms:
            raise UserError(f"PairRecorder: no arm {self.arm!r}; there are {', '.join(module.arms)}")
        if self.skip >= len(data.times):
            raise UserError(f"PairRecorder: skip {self.skip} leaves none of the {len(data.times)} analyses")
        if self.arm not in module.local_arms():
            return
        if self.path.exists():
            raise UserError(f"{self.path}: is there already; delete it to record anew, or give another path")
        done = module.next_index[self.arm]
        if done == 0:
            recipe = {
                "source": data.source.description,
                "forecaster": str(getattr(module.forecaster, "description", "")),
                "cycle": f"{module.directory.name}, arm {self.arm}",
                "start": str(data.times[0]),
                "end": str(data.times[-1]),
                "channels": ", ".join(data.spec.names),
            }
            step = data.step_hours
            times = data.times[self.skip :] - step * HOUR
            lay_out_pairs(self._partial, times, [step], data.spec, data.store.grid, recipe)
            lay_out_coverage(self._partial, len(times), data.store.grid)
            zarr.open_group(self._partial, mode="r+").attrs["recorded"] = 0
        elif not self._partial.is_dir() or self._recorded() < done - self.skip:
            raise UserError(
                f"{self.path}: the cycle in {module.directory} has gone on to analysis {done} without "
                "being recorded; begin it anew with --restart"
            )

    def _recorded(self) -> int:
        return int(cast(int, zarr.open_group(self._partial, mode="r").attrs.get("recorded", 0)))

    # Which callback of a batch's end comes first is the config's affair, and the cycle's changes the
    # coverage: it is taken before.
    def on_predict_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        module, _ = parts_of(trainer, pl_module)
        self._coverage = module.coverage.get(self.arm)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        _, data = parts_of(trainer, pl_module)
        time: AnalysisTime = batch
        results: dict[str, ArmResult] = outputs
        sample = time.index - self.skip
        if self.arm not in results or sample < 0:
            return
        background = results[self.arm].background.values.cpu().double().numpy()[None]
        truth = time.truth.values.cpu().double().numpy()[None]
        group = zarr.open_group(self._partial, mode="r+")
        initial = time.time - np.timedelta64(data.step_hours, "h")
        write_pair(self._array(group), sample, background, truth - background, data.spec, initial)
        assert self._coverage is not None
        self._array(group)("coverage")[sample] = self._coverage.cpu().numpy().astype(np.float16)
        group.attrs["recorded"] = sample + 1

    @staticmethod
    def _array(group: zarr.Group) -> Any:
        return lambda name: group[name]

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module, data = parts_of(trainer, pl_module)
        if self.arm not in module.local_arms():
            return
        array = self._array(zarr.open_group(self._partial, mode="r+"))
        finish_pairs(array, stored_pair_sums(array, data.store.grid))
        self._partial.rename(self.path)
