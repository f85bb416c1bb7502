"""Some held-out samples of a data module, and what fields are reduced to for a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from vaevar.sphere.coarsening import coarsening_for_pictures
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics, largest_truncation
from vaevar.state import StateSpec

# Shown in maps, where a state has them.
CHANNELS = ("z500", "t850", "u500", "q700", "t2m", "msl")
SAMPLES, MAPS = 16, 4
_BYTES = 1e9  # of fields in memory


def held_out_batch(data: Any, spec: StateSpec, grid: Grid, device: torch.device, states: int = 1) -> Any:
    """Some samples of the validation, spread over it, as the module gets them but for augmentation.

    Args:
        data: a data module, set up.
        spec, grid: of its fields.
        device: of the module.
        states: fields in a sample.
    """
    held_out = data.val_dataloader().dataset
    rows, columns = grid.shape
    most = max(2, int(_BYTES / (4 * len(spec) * rows * columns * states)))
    batch = held_out.__getitems__(spread(len(held_out), min(SAMPLES, most)))
    if isinstance(batch, list):  # of a plain DataLoader
        batch = default_collate(batch)
    moved = batch.to(device) if isinstance(batch, Tensor) else tuple(x.to(device) for x in batch)
    return data.normalise(moved)


def spread(total: int, count: int) -> list[int]:
    """At most so many of the first whole numbers, evenly spread, with the first and the last."""
    return sorted({round(number) for number in np.linspace(0, total - 1, min(count, total)).tolist()})


class Reduced:
    """Fields of a model as a report has them.

    Args:
        spec, grid: of the fields.

    Attributes:
        grid: of the reduced fields.
        channels: names of those in maps.
    """

    def __init__(self, spec: StateSpec, grid: Grid) -> None:
        self.spec = spec
        self._coarsening = coarsening_for_pictures(grid)
        self.grid = grid if self._coarsening is None else self._coarsening.target
        self.channels = [name for name in CHANNELS if spec.has(name)] or list(spec.names[:4])
        self._shown = [spec.index(name) for name in self.channels]
        self._harmonics: SphericalHarmonics | None
        try:
            self._harmonics = SphericalHarmonics(self.grid, largest_truncation(self.grid), torch.float64)
        except ValueError:  # a grid without a transform
            self._harmonics = None

    def __call__(self, fields: Tensor) -> Tensor:
        """[..., C, H, W] -> float64 on the grid of the report, on the CPU."""
        fields = fields.detach().cpu().double()
        return fields if self._coarsening is None else self._coarsening(fields)

    def maps(self, fields: Tensor | Sequence[Tensor]) -> np.ndarray:
        """The channels that are mapped, of reduced fields [F, C, H, W]."""
        stacked = fields if isinstance(fields, Tensor) else torch.stack(list(fields))
        return stacked[:, self._shown].float().numpy()

    def std(self, fields: Tensor) -> np.ndarray:
        """[C], the root of the area-weighted mean square of reduced fields [N, C, H, W]."""
        return self.grid.area_mean(fields.square().mean(0)).sqrt().numpy()

    def spectrum(self, fields: Tensor) -> np.ndarray | None:
        """[L − 1, C], mean power by total wavenumber, from 1, of reduced fields; None without a transform."""
        if self._harmonics is None:
            return None
        return self._harmonics.power(fields).mean(0).T[1:].numpy()
