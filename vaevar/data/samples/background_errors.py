"""Views of background errors for training: which fields a batch has, and in which scales.

float16 fields go from the store (or memory) to the device as they are, and become float32 there. Each view
reads every store that has its fields, whether NMC differences, errors of forecasts or those recorded from a
cycle.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vaevar.batch_random import shared_integers, shared_signs, step_generator
from vaevar.data.observations.coverage import MAPS
from vaevar.data.samples.module import Samples
from vaevar.data.samples.rollout_errors import RolloutErrors
from vaevar.errors import UserError


class BackgroundErrors(Samples):
    """Errors alone, normalised, [B, C, H, W] float32: for the VAE and for 3DVar's B.

    Args:
        path, making, lead_hours, validation_fraction, gap_hours, batch_size, workers, in_memory: as in
            :class:`vaevar.data.samples.module.Samples`.
        flip_sign: augmentation: x -> −x for half of the samples. Plausible: a difference of two forecasts is
            about as likely as its opposite.
        roll_longitude: augmentation: roll each sample by a random number of columns, a multiple of this; 0
            for none. Crude: errors over orography, and over land and sea, differ.
        zonal_floor: samples are divided by their standard deviation at each latitude, but by no less than
            this fraction of that of the whole sphere, since errors far smaller than that do not matter; from
            1 on, by the same at all latitudes (as published).
        seed: of the shuffling and the augmentation.

    Attributes:
        error_std: [C, H, 1] float32, physical units per unit of a batch (after ``setup``).

    Raises:
        UserError: for a setting out of range.
    """

    fields = ("error",)

    def __init__(
        self,
        path: str,
        making: RolloutErrors | None = None,
        lead_hours: int | None = None,
        validation_fraction: float = 0.1,
        gap_hours: int = 48,
        batch_size: int = 8,
        workers: int = 0,
        in_memory: bool = True,
        flip_sign: bool = True,
        roll_longitude: int = 0,
        zonal_floor: float = 0.3,
        seed: int = 0,
    ) -> None:
        super().__init__(
            path, making, lead_hours, validation_fraction, gap_hours, batch_size, workers, in_memory, seed
        )
        if roll_longitude < 0:
            raise UserError(f"roll_longitude must not be negative, got {roll_longitude}")
        if not zonal_floor > 0:
            raise UserError(f"zonal_floor must be positive, got {zonal_floor}")
        self.flip_sign, self.roll_longitude, self.zonal_floor = flip_sign, roll_longitude, zonal_floor

    def setup(self, stage: str | None = None) -> None:
        """Open the samples.

        Raises:
            UserError: as the base class, and when ``roll_longitude`` is more than a circle of latitude.
        """
        super().setup(stage)
        if stage == "fit" and self.roll_longitude > (columns := self.grid.shape[1]):
            raise UserError(
                f"roll_longitude: {self.roll_longitude} columns, but the grid of {self.path} has {columns}; "
                "give a part of them"
            )

    @property
    def error_std(self) -> Tensor:
        return self.store.error_std_by_latitude(self.zonal_floor)

    def normalise(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Stored errors to float32 in units of ``error_std``."""
        return self.store.decode("error", batch[0], std=self.error_std)

    def augment(self, batch: Tensor) -> Tensor:
        """Sign flips and rolls, as configured, sample by sample."""
        if self.flip_sign:
            batch = batch * shared_signs(batch, step_generator(self._step, 1, batch.device))
        if self.roll_longitude:
            generator = step_generator(self._step, 2, batch.device)
            places = shared_integers(batch, batch.shape[-1] // self.roll_longitude, generator).tolist()
            rolled = [x.roll(place * self.roll_longitude, -1) for x, place in zip(batch, places, strict=True)]
            batch = torch.stack(rolled)
        return batch

    def on_after_batch_transfer(self, batch: tuple[Tensor, ...], dataloader_idx: int) -> Tensor:
        """Normalise on the device; augment while training."""
        errors = super().on_after_batch_transfer(batch, dataloader_idx)
        return self.augment(errors) if self.trainer is not None and self.trainer.training else errors


class BackgroundErrorPairs(Samples):
    """Pairs (background, error), normalised, [B, C, H, W] float32 each: for DiffDA.

    The background is a forecast or a cycle's background, in units of its standard deviation about its mean;
    the error, truth − background, is in units of its root mean square.

    Attributes:
        residual_std: [C], root mean square of the errors, physical units (after ``setup``).
        forecast_mean, forecast_std: [C], of the backgrounds, physical units (after ``setup``).
    """

    fields = ("background", "error")

    @property
    def residual_std(self) -> Tensor:
        return self.store.statistics["error_rms"]

    @property
    def forecast_mean(self) -> Tensor:
        return self.store.statistics["background_mean"]

    @property
    def forecast_std(self) -> Tensor:
        return self.store.statistics["background_std"]

    def normalise(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Stored values to (background − mean) / std and error / rms."""
        statistics = (self.forecast_mean, self.forecast_std, self.residual_std)
        mean, std, rms = (value[:, None, None] for value in statistics)
        background, error = batch
        decode = self.store.decode
        return decode("background", background, mean, std), decode("error", error, std=rms)


class BackgroundErrorsWithCoverage(Samples):
    """Triples (background, error, coverage), physical units, for a VAE given the background.

    Background and error are [B, C, H, W] float32; coverage, [B, K, H, W] float32, tells where a cycle was
    observed before (:mod:`vaevar.data.observations.coverage`), so the store is one recorded from a cycle.

    Attributes:
        background_mean, background_std: [C], physical units (after ``setup``).
        coverage_maps: K.
    """

    fields = ("background", "error", "coverage")
    coverage_maps = MAPS

    @property
    def background_mean(self) -> Tensor:
        return self.store.statistics["background_mean"]

    @property
    def background_std(self) -> Tensor:
        return self.store.statistics["background_std"]

    def normalise(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Stored values to physical units."""
        background, error, coverage = batch
        decode = self.store.decode
        return decode("background", background), decode("error", error), coverage.float()
