"""Errors that are in memory already, as the data of a fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset

from vaevar.batch_random import shared_signs, step_generator
from vaevar.errors import UserError
from vaevar.moments import std_by_latitude
from vaevar.plausible.statistics import judge_error_stds
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


class ErrorSamples(L.LightningDataModule):
    """Background errors of an array as the data of a VAE's fit, normalised by channel and latitude.

    The last samples are for validation, as one block: neighbours in time are alike.

    Args:
        errors: [N, C, H, W], physical units, north to south and eastward from 0; samples in order of time.
        spec: the C channels.
        grid: the H × W points.
        validation_fraction: of the samples.
        batch_size: samples per batch.
        flip_sign: train on x and −x alike.
        zonal_floor: the least of the standard deviation at a latitude, as a fraction of the sphere's; from 1
            on, that of the sphere at all latitudes.
        seed: of the shuffling and the signs.

    Attributes:
        error_std: [C, H, 1], physical units per unit of a batch.

    Raises:
        UserError: for another shape, values that are not finite, too few samples, errors larger than the
            climate varies, or a setting out of range.

    Example:
        >>> spec, grid = StateSpec(["t2m"], [], []), Grid.gaussian(4)
        >>> data = ErrorSamples(np.random.default_rng(0).normal(size=(20, 1, 4, 8)), spec, grid)
        >>> len(data.training), len(data.validation)
        (18, 2)
    """

    def __init__(
        self,
        errors: np.ndarray | Tensor | xr.DataArray,
        spec: StateSpec,
        grid: Grid,
        validation_fraction: float = 0.1,
        batch_size: int = 8,
        flip_sign: bool = True,
        zonal_floor: float = 0.3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(errors, xr.DataArray):
            errors = errors.values
        samples = torch.as_tensor(errors).detach().to(dtype=torch.float32, device="cpu")
        expected = (len(spec), *grid.shape)
        if samples.ndim != 4 or tuple(samples.shape[1:]) != expected:
            raise UserError(f"errors are {list(samples.shape)}, expected [N, C, H, W] with {list(expected)}")
        if not bool(samples.isfinite().all()):
            raise UserError("errors have values that are not finite: leave those samples out")
        if not 0 < validation_fraction < 1 or batch_size < 1 or not zonal_floor > 0:
            raise UserError(
                f"validation_fraction {validation_fraction} must lie between 0 and 1, and batch_size "
                f"{batch_size} and zonal_floor {zonal_floor} must be positive"
            )
        held_out = round(validation_fraction * len(samples))
        if held_out < 1 or len(samples) - held_out < 1:
            raise UserError(
                f"{len(samples)} samples, of which {held_out} for validation: give more samples, or another "
                "validation_fraction"
            )
        self.spec, self.grid, self.batch_size, self.seed = spec, grid, batch_size, seed
        self.flip_sign = flip_sign
        everything = TensorDataset(samples)
        first = len(samples) - held_out
        self.training = Subset(everything, range(first))
        self.validation = Subset(everything, range(first, len(samples)))
        square = samples[:first].double().square().mean((0, 3))
        std = grid.area_mean(square[..., None]).sqrt()
        judge_error_stds("errors", std.numpy(), spec)
        self.error_std = std_by_latitude(std, square.sqrt(), zonal_floor).float()

    @property
    def record(self) -> dict[str, Any]:
        """What the samples are, for what is fitted to them."""
        return {"source": "an array in memory", "samples": len(self.training)}

    def training_in_order(self) -> Iterator[Tensor]:
        """The training samples once, normalised and not augmented, [B, C, H, W]."""
        return (batch / self.error_std for (batch,) in DataLoader(self.training, self.batch_size))

    def normalise(self, batch: Sequence[Tensor]) -> Tensor:
        """Errors in units of ``error_std``."""
        return batch[0] / self.error_std.to(batch[0].device)

    def on_after_batch_transfer(self, batch: list[Tensor], dataloader_idx: int) -> Tensor:
        """Normalise on the device; flip signs while training."""
        errors = self.normalise(batch)
        if not (self.flip_sign and self.trainer is not None and self.trainer.training):
            return errors
        return errors * shared_signs(errors, step_generator(self.trainer.global_step, 1, errors.device))

    def train_dataloader(self) -> DataLoader:
        generator = torch.Generator().manual_seed(self.seed)
        whole = len(self.training) >= self.batch_size
        return DataLoader(self.training, self.batch_size, shuffle=True, generator=generator, drop_last=whole)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.validation, self.batch_size)
