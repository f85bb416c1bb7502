"""The door of a network: physical fields in, normalised fields out, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.content.arrays import read_array
from vaevar.errors import UserError
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
        for path in (Path(mean_path), Path(std_path)):
            try:
                array = read_array(path)
            except (OSError, EOFError, ValueError) as error:
                raise UserError(f"{path}: cannot be read as a .npy file ({error})") from None
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
                content = array.dtype if isinstance(array, np.ndarray) else "an archive"
                raise UserError(f"{path}: holds {content}, expected a .npy file of numbers")
            if array.size != len(spec):
                raise UserError(
                    f"{path}: holds {array.shape} values, expected ({len(spec)},), one per channel"
                )
            if not np.isfinite(array).all():
                raise UserError(f"{path}: every value must be finite")
            arrays.append(array.reshape(-1))
        mean, std = arrays
        if not (std > 0).all():
            raise UserError(
                f"{std_path}: every std must be positive, the least is {std.min():.4g}; is it the mean file?"
            )
        for channel, value in zip(spec.channels, mean, strict=True):
            low, high = channel.range
            if not low <= value <= high:
                raise UserError(
                    f"{mean_path}: mean {value:.4g} for {channel.name} is outside [{low:g}, "
                    f"{high:g}] {channel.units}; is it the std file, or of another channel order?"
                )
        for channel, value in zip(spec.channels, std, strict=True):
            low, high = channel.range
            # The std of values within a range is at most half its width.
            if value > (high - low) / 2:
                raise UserError(
                    f"{std_path}: std {value:.4g} for {channel.name} is more than values within "
                    f"[{low:g}, {high:g}] {channel.units} can have; is it the mean file, or of "
                    "another channel order?"
                )
        if "z" in spec.upper and (np.diff(mean[spec.variable_slice("z")]) > 0).any():
            raise UserError(
                f"{mean_path}: mean geopotential rises from a level to the one below, expected levels in the "
                f"order {spec.levels} hPa; order the channels of both files from the top down"
            )
        return cls(mean, std)

    def normalize(self, x: Tensor) -> Tensor:
        """[..., C, H, W] physical to normalised."""
        return (x - self.mean) / self.std

    def denormalize(self, x: Tensor) -> Tensor:
        """[..., C, H, W] normalised to physical."""
        return x * self.std + self.mean
