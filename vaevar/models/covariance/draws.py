"""Errors drawn from a calibrated B, where only moments of the samples are needed and not the samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vaevar.content.digest import sha256
from vaevar.errors import UserError
from vaevar.models.covariance.statistics import CovarianceStatistics
from vaevar.models.covariance.transform import CovarianceTransform
from vaevar.runs.expansion import expand_path


class DrawnErrors(L.LightningDataModule):
    """Background errors U w, w ~ N(0, I), as the data of a fit, in units of their calibrated std.

    Args:
        statistics: path of the statistics of B.
        samples: how many are drawn.
        batch_size: samples per batch.
        seed: of w; the n-th sample depends on it and on n alone.

    Attributes:
        spec, grid: of B.
        error_std: [C, H, 1], physical units per unit of a batch.

    Raises:
        UserError: for a file that is missing or damaged, or a number out of range.
    """

    def __init__(self, statistics: str, samples: int = 1000, batch_size: int = 8, seed: int = 0) -> None:
        super().__init__()
        if samples < 1 or batch_size < 1 or seed < 0:
            raise UserError(
                f"DrawnErrors: samples {samples} and batch_size {batch_size} must be positive, and seed "
                f"{seed} not negative"
            )
        loaded = CovarianceStatistics.load(statistics)
        self.statistics, self.samples, self.batch_size, self.seed = statistics, samples, batch_size, seed
        self.spec, self.grid = loaded.spec, loaded.grid
        self.error_std = torch.from_numpy(loaded.channel_std).float()[..., None]
        self.training = _Draws(CovarianceTransform(loaded), self.error_std, samples, seed)

    @property
    def record(self) -> dict[str, Any]:
        """What the samples are, for what is fitted to them."""
        digest = sha256(Path(expand_path(self.statistics)))
        return {
            "source": "draws of B",
            "statistics": self.statistics,
            "sha256": digest,
            "samples": self.samples,
        }

    def training_in_order(self) -> Iterator[Tensor]:
        """The samples once, [B, C, H, W]."""
        return iter(self.train_dataloader())

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(self.training, self.batch_size)


class _Draws(Dataset[Tensor]):
    def __init__(self, transform: CovarianceTransform, error_std: Tensor, count: int, seed: int) -> None:
        self.transform, self.error_std, self.count, self.seed = transform, error_std, count, seed

    def __len__(self) -> int:
        return self.count

    @torch.no_grad()
    def __getitem__(self, number: int) -> Tensor:
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return self.transform(torch.randn(self.transform.shape, generator=random)) / self.error_std
