"""The door of a network: physical fields in, normalised fields out, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.content.arrays import read_array
from vaevar.errors import UserError
from vaevar.plausible.statistics import judge_means, judge_stds
from vaevar.runs.expansion import expand_path
from vaevar.shipped import missing_weights
from vaevar.state import StateSpec


class Normalizer(nn.Module):
    """(x − mean)/std by channel; FengWu's ``data_mean.npy`` and ``data_std.npy``.

    Args:
        mean: [C], physical units.
        std: [C], positive.

    Raises:
        ValueError: when shapes differ, or a value is not finite, or a std is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor | np.ndarray, std: Tensor | np.ndarray) -> None:
        super().__init__()
        mean = torch.as_tensor(np.asarray(mean), dtype=torch.float64)
        std = torch.as_tensor(np.asarray(std), dtype=torch.float64)
        if mean.ndim != 1 or mean.shape != std.shape:
            raise ValueError(f"mean {tuple(mean.shape)} and std {tuple(std.shape)} must both be [C]")
        if not (torch.isfinite(mean).all() and torch.isfinite(std).all() and (std > 0).all()):
            raise ValueError("mean and std must be finite, and std positive")
        self.register_buffer("mean", mean.float()[:, None, None])
        self.register_buffer("std", std.float()[:, None, None])

    @classmethod
    def load(cls, mean_path: str | Path, std_path: str | Path, spec: StateSpec) -> Normalizer:
        """Read the two ``.npy`` files of a forecaster and check them against the channels.

        Args:
            mean_path, std_path: [C] each, physical units.
            spec: the C channels.

        Raises:
            UserError: for a missing or unreadable file, a wrong length, or values that cannot belong to
                these channels (files swapped, or of another model).
        """
        arrays = []
        for path in (Path(expand_path(str(path))) for path in (mean_path, std_path)):
            try:
                array = read_array(path)
            except FileNotFoundError:
                raise UserError(f"{path}: no such .npy file{missing_weights(path)}") from None
            except (OSError, EOFError, ValueError) as error:
                raise UserError(f"{path}: cannot be read as a .npy file ({error})") from None
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
                content = array.dtype if isinstance(array, np.ndarray) else "an archive"
                raise UserError(f"{path}: holds {content}, expected a .npy file of numbers")
            if array.size != len(spec):
                raise UserError(
                    f"{path}: holds {array.shape} values, expected ({len(spec)},), one per channel of `spec` "
                    "(FengWu's 69 channels where none is given)"
                )
            if not np.isfinite(array).all():
                raise UserError(f"{path}: every value must be finite")
            arrays.append(array.reshape(-1))
        mean, std = arrays
        judge_means(mean_path, mean, spec)
        judge_stds(std_path, std, spec)
        return cls(mean, std)

    def normalize(self, x: Tensor) -> Tensor:
        """[..., C, H, W] physical to normalised."""
        return (x - self.mean) / self.std

    def denormalize(self, x: Tensor) -> Tensor:
        """[..., C, H, W] normalised to physical."""
        return x * self.std + self.mean
