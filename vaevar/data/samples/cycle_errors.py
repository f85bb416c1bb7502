"""Errors of a cycle's own backgrounds, as :class:`vaevar.assim.cycle.error_recorder.PairRecorder` recorded
them.

They are truth − background, where the NMC method has differences of forecasts in their place.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaevar.batch_random import generator_of, shared_signs
from vaevar.data.observations.coverage import MAPS
from vaevar.data.samples.forecast_errors import ForecastPairStore
from vaevar.data.samples.module import SampleStore, StoredSamples, std_by_latitude
from vaevar.data.samples.reader import HeldItems, ItemReader
from vaevar.errors import UserError
from vaevar.state import StateSpec

_MAKE = "record one with configs/cycle_errors.yaml (its head says how)"
Triple = tuple[Tensor, Tensor, Tensor]


class CycleErrorStore(SampleStore[Triple]):
    """Backgrounds, their errors, and where the cycle was observed before.

    Args:
        path: the zarr store.
        step_hours: age of the backgrounds.
        in_memory: read everything now; otherwise each sample when it is asked for.

    Attributes:
        statistics: as in :class:`vaevar.data.samples.forecast_errors.ForecastPairStore`.
        lead_hours: age of the backgrounds.

    Raises:
        UserError: when it is missing, unreadable, or no such store.
    """

    def __init__(self, path: str | Path, step_hours: int = 6, in_memory: bool = True) -> None:
        if not Path(path).is_dir():
            raise UserError(f"{path}: no such store of a cycle's errors; {_MAKE}")
        self._pairs = ForecastPairStore(path, step_hours, in_memory)
        self.lead_hours = step_hours
        self.names, self.grid, self.times = self._pairs.names, self._pairs.grid, self._pairs.times
        self.statistics = self._pairs.statistics
        try:
            coverage = ItemReader(f"{path}/coverage")
        except Exception:  # zarr raises many kinds; each means "not there"
            raise UserError(f"{path}: lacks coverage; it is no store of a cycle's errors: {_MAKE}") from None
        if (len(coverage), *coverage.shape) != (len(self.times), MAPS, *self.grid.shape):
            raise UserError(
                f"{path}: coverage is {(len(coverage), *coverage.shape)}, expected {MAPS} maps; {_MAKE}"
            )
        self._coverage = HeldItems(coverage) if in_memory else coverage

    def __getitems__(self, indexes: list[int]) -> Triple:
        """Backgrounds and errors [B, C, H, W] in the store's scales, and coverage [B, K, H, W], float16."""
        return (*self._pairs.__getitems__(indexes), self._coverage.read(indexes))


class CycleErrors(StoredSamples[CycleErrorStore]):
    """Batches of (background, truth − background, coverage): [B, C, H, W] twice, physical, and [B, K, H, W].

    Args:
        path: the store.
        spec: channels; default FengWu's 69.
        validation_fraction, gap_hours, batch_size, workers, seed: as in
            :class:`vaevar.data.samples.module.StoredSamples`.
        in_memory: hold all samples in memory (1.3 MB each on 48 × 96 with 69 channels).

    Attributes:
        background_mean, background_std: [C], physical units (after ``setup``).

    Raises:
        UserError: for a setting out of range, or a store that is missing or something else.
    """

    def __init__(
        self,
        path: str,
        spec: StateSpec | None = None,
        validation_fraction: float = 0.1,
        gap_hours: int = 120,
        batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
        in_memory: bool = True,
    ) -> None:
        super().__init__(path, validation_fraction, gap_hours, batch_size, workers, seed)
        self.in_memory = in_memory
        self.spec = StateSpec() if spec is None else spec

    def open_store(self) -> CycleErrorStore:
        store = CycleErrorStore(self.path, in_memory=self.in_memory)
        self.grid = store.grid
        return store

    @property
    def background_mean(self) -> Tensor:
        return self.store.statistics["forecast_mean"]

    @property
    def background_std(self) -> Tensor:
        return self.store.statistics["forecast_std"]

    def normalise(self, batch: Triple) -> Triple:
        """Stored values to physical units."""
        known = {
            name: value.to(batch[0].device)[:, None, None] for name, value in self.store.statistics.items()
        }
        background = batch[0].float() * known["scale"] + known["offset"]
        return background, batch[1].float() * known["residual_scale"], batch[2].float()


class CycleErrorPairs(CycleErrors):
    """Batches of (normalised background, error / std), each [B, C, H, W], as
    :class:`vaevar.data.samples.forecast_errors.ForecastPairs` yields forecasts from the truth and their
    errors.

    Args:
        args, kwargs: as in :class:`CycleErrors`.

    Attributes:
        residual_std, forecast_mean, forecast_std: [C], physical units (after ``setup``).
        lead_hours: age of the backgrounds.
    """

    @property
    def lead_hours(self) -> int:
        return self.store.lead_hours

    @property
    def residual_std(self) -> Tensor:
        return self.store.statistics["residual_std"]

    @property
    def forecast_mean(self) -> Tensor:
        return self.background_mean

    @property
    def forecast_std(self) -> Tensor:
        return self.background_std

    def normalise(self, batch: Triple) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Stored values to (background − mean)/std and (truth − background)/std."""
        background, errors, _ = super().normalise(batch)
        mean, std, residual = (
            value.to(background.device)[:, None, None]
            for value in (self.forecast_mean, self.forecast_std, self.residual_std)
        )
        return (background - mean) / std, errors / residual


class CycleErrorFields(CycleErrors):
    """The errors alone, divided by their standard deviation, [B, C, H, W], as
    :class:`vaevar.data.samples.background_errors.BackgroundErrors` yields those of the NMC method.

    Args:
        flip_sign: augmentation in training: x -> −x for half of the samples.
        zonal_floor: as in ``BackgroundErrors``.
        args, kwargs: as in :class:`CycleErrors`.

    Attributes:
        error_std: [C, H, 1], physical units per unit of a batch (after ``setup``).
    """

    def __init__(self, *args: Any, flip_sign: bool = False, zonal_floor: float = 0.3, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not zonal_floor > 0:
            raise UserError(f"zonal_floor must be positive, got {zonal_floor}")
        self.flip_sign, self.zonal_floor = flip_sign, zonal_floor

    @cached_property
    def error_std(self) -> Tensor:
        physical = (CycleErrors.normalise(self, batch)[1] for batch in self.loader(self.training))
        squares = sum(errors.square().mean(3).sum(0) for errors in physical)
        zonal = (torch.as_tensor(squares) / len(self.training)).sqrt()
        return std_by_latitude(zonal, self.store.statistics["residual_std"], self.zonal_floor)

    def normalise(self, batch: Triple) -> Tensor:  # type: ignore[override]
        """Stored values to errors in units of ``error_std``."""
        errors = super().normalise(batch)[1]
        return errors / self.error_std.to(errors.device)

    def on_after_batch_transfer(self, batch: Triple, dataloader_idx: int) -> Tensor:
        """Normalise on the device; augment while training."""
        errors = self.normalise(batch)
        if not (self.flip_sign and self.trainer is not None and self.trainer.training):
            return errors
        return errors * shared_signs(errors, generator_of(self._step, 1, errors.device))
