"""Fields with their labels: states, and differences of states."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self, overload

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from vaevar.plausible.belonging import tell_faults
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics, largest_truncation
from vaevar.state.finite import not_finite
from vaevar.state.labels import from_dataset, to_array, to_dataset
from vaevar.state.regridding import regrid
from vaevar.state.spec import StateSpec, difference


@dataclass(frozen=True, repr=False)
class Fields:
    """Fields with their labels, such as an increment or an error.

    Attributes:
        values: [..., C, H, W], physical units. They are not copied: what shares memory with them, such as the
            array of ``torch.from_numpy``, must be left as it is, or be given as ``values.clone()``.
        spec: the C channels.
        grid: the H × W points (north to south, eastward from 0).

    Raises:
        TypeError: when ``values`` are not a tensor.
        ValueError: when their shape does not fit ``spec`` and ``grid``.

    Example:
        >>> error = state - state
        >>> float(error.rmse().sel(channel="z500")), error["z500"].dims
        (0.0, ('latitude', 'longitude'))
    """

    values: Tensor
    spec: StateSpec
    grid: Grid

    def __post_init__(self) -> None:
        if not isinstance(self.values, Tensor):
            raise TypeError(
                f"values are {type(self.values).__name__}, expected a tensor: torch.as_tensor(values) of an "
                "array, State.from_xarray(dataset) of what xarray opened"
            )
        expected = (len(self.spec), *self.grid.shape)
        if tuple(self.values.shape[-3:]) != expected:
            raise ValueError(
                f"values end in {tuple(self.values.shape[-3:])}, but the state is (C, H, W) = {expected}"
            )

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.values.shape[:-2]))
        return f"{type(self).__name__}({shape} channels on {self.grid})"

    def channel(self, name: str) -> Tensor:
        """One field, [..., H, W]."""
        return self.values[..., self.spec.index(name), :, :]

    @overload
    def __getitem__(self, name: str) -> xr.DataArray: ...
    @overload
    def __getitem__(self, name: list[str]) -> xr.Dataset: ...

    def __getitem__(self, name: str | list[str]) -> xr.DataArray | xr.Dataset:
        """Copies with their coordinates: of one field, ``state["z500"]``, or of several,
        ``state[["z500", "u500"]]``.

        Raises:
            ValueError: when there is no such channel.
        """
        if isinstance(name, list):
            return xr.Dataset({one: self[one].drop_vars("level", errors="ignore") for one in name})
        return to_array(self.channel(name), self.spec.channels[self.spec.index(name)], self.grid)

    def __sub__(self, other: Fields) -> Fields:
        """The difference, such as an error ``analysis.state - truth``.

        Raises:
            ValueError: for other channels or another grid.
        """
        if not isinstance(other, Fields):
            return NotImplemented
        if found := difference(other.spec, other.grid, self.spec, self.grid):
            raise ValueError(f"the fields that are subtracted are others, {found}")
        return Fields(self.values - other.values, self.spec, self.grid)

    def rmse(self) -> xr.DataArray:
        """The root mean square of each channel over the sphere, weighted by area: of an error, its RMSE."""
        square = self.values.detach().cpu().double().square()
        mean = self.grid.area_mean(square.reshape(-1, *square.shape[-3:]).mean(0))
        return xr.DataArray(mean.sqrt().numpy(), {"channel": list(self.spec.names)}, name="rmse")

    def spectrum(self) -> xr.DataArray:
        """The power of each channel by total wavenumber, [C, l]; its sum is the mean square over the sphere.

        Of several fields it is the mean.

        Raises:
            ValueError: for a grid without spectral transforms.
        """
        transform = SphericalHarmonics(self.grid, largest_truncation(self.grid))
        flat = self.values.detach().cpu().float().reshape(-1, *self.values.shape[-3:])
        power = torch.stack([transform.power(fields) for fields in flat]).mean(0)
        coordinates = {"channel": list(self.spec.names), "wavenumber": range(power.shape[1])}
        return xr.DataArray(power.numpy(), coordinates, ("channel", "wavenumber"), "power")

    def select(self, spec: StateSpec) -> Self:
        """Some of the channels, in another order.

        Raises:
            ValueError: when one is not there.
        """
        chosen = [self.spec.index(name) for name in spec.names]
        return replace(self, values=self.values[..., chosen, :, :], spec=spec)

    def on(self, grid: Grid) -> Self:
        """The fields interpolated to another grid, bilinearly; winds change sign across a pole."""
        return replace(self, values=regrid(self.values, self.spec, self.grid, grid), grid=grid)

    @classmethod
    def from_xarray(cls, dataset: xr.Dataset, spec: StateSpec | None = None) -> Self:
        """Fields of a dataset by the long names of WeatherBench 2, whatever the order and direction of its
        dimensions.

        Args:
            dataset: of one time; units are its attributes.
            spec: the channels to take, in this order. None: all that the dataset has, in FengWu's order.

        Raises:
            UserError: when a variable or level is missing or has other units, there are several times, or
                the grid is not one around the sphere.
            ValueError: for values that cannot be what their labels say.
        """
        values, spec, grid = from_dataset(dataset, spec)
        return cls(torch.from_numpy(values), spec, grid)

    def to_xarray(self, time: np.datetime64 | None = None) -> xr.Dataset:
        """A copy of the fields as WeatherBench 2 names them, with units; exact.

        Args:
            time: kept as a coordinate.
        """
        return to_dataset(self.values, self.spec, self.grid, time)


@dataclass(frozen=True, repr=False)
class State(Fields):
    """A state of the atmosphere: :class:`Fields` that refuse channels in a wrong order or in wrong units.

    Raises:
        ValueError: also when a value is not finite, a channel's global mean is outside the plausible range,
            or geopotential does not fall from each level to the next.

    Example:
        >>> state["z500"].attrs["units"]
        'm**2 s**-2'
        >>> again = vaevar.State.from_xarray(state.to_xarray())
        >>> float((again - state).rmse().max())
        0.0
    """

    @classmethod
    def from_xarray(cls, dataset: xr.Dataset, spec: StateSpec | None = None) -> Self:
        """As of :class:`Fields`; fields that do not belong to their labels, such as latitudes the other way
        round, are told where wind and geopotential show it."""
        state = super().from_xarray(dataset, spec)
        tell_faults("the dataset", state.values, state.spec, state.grid)
        return state

    def __post_init__(self) -> None:
        super().__post_init__()
        means = self.values.detach().mean((-2, -1), dtype=torch.float64).reshape(-1, len(self.spec))
        low, high = self.spec.means.to(means.device)
        plausible = (means >= low) & (means <= high)
        if not bool(plausible.all()):  # one look for all channels: a cycle makes states all the time
            if found := not_finite(self.values, self.spec, self.grid):
                raise ValueError(f"channel {found}")
            number = int(plausible.all(0).int().argmin())
            channel, mean = self.spec.channels[number], means[~plausible[:, number], number][0]
            raise ValueError(
                f"channel {channel.name} has mean {mean:.4g}, expected {channel.means} "
                f"{channel.units}: wrong channel order, or wrong units"
            )
        if "z" in self.spec.upper:
            falls = means[:, self.spec.variable_slice("z")].diff(dim=-1) < 0
            if not bool(falls.all()):
                raise ValueError(
                    "geopotential does not fall from each level to the next below: its levels are not in "
                    f"the order {self.spec.levels} hPa"
                )
