"""A WeatherBench 2 store of synthetic weather, to try 0.25° without ERA5.

    python -m vaevar.standins.weather --path data/sample_quarter_degree.zarr

Dimensions, names, units, chunks and coordinates are those of WeatherBench 2's 6-hourly ERA5 on 13 or 37
levels. Fields are smooth: a zonal mean plus eastward travelling waves that change slowly and are weaker in
the tropics, with the means and stds of :mod:`vaevar.standins.climate` (humidity varies by a third less). A
state depends only on its time and the seed, so an interrupted store can be resumed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vaevar.data.times import six_hourly
from vaevar.data.weather.opening import open_zarr
from vaevar.data.weather.writer import create_store, write_states
from vaevar.errors import UserError
from vaevar.files import check_disk, file_lock, place_of_store, save_text
from vaevar.progress import progress
from vaevar.scripts import run
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.standins.climate import typical_climate
from vaevar.state import PRESSURE_LEVELS, StateSpec

LMAX = 40
DEGREES_PER_HOUR = 10.0 / 24.0  # waves travel eastward
LEVELS = {
    13: PRESSURE_LEVELS,
    37: (
        *(1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 125, 150, 175, 200, 225, 250, 300, 350, 400, 450, 500, 550),
        *(600, 650, 700, 750, 775, 800, 825, 850, 875, 900, 925, 950, 975, 1000),
    ),
}
_EPOCH = np.datetime64("2020-01-01T00", "h")
# Fraction of a channel's std that is due to its zonal mean.
_ZONAL = {"t2m": 0.95, "t": 0.9, "z": 0.95, "q": 0.9, "u": 0.6, "msl": 0.3}


class SyntheticWeather:
    """Synthetic states at any time.

    Args:
        spec, grid: of the states; the grid is Gaussian or equiangular.
        seed: for the waves.

    Raises:
        ValueError: when the grid is too coarse for waves.
    """

    def __init__(self, spec: StateSpec, grid: Grid, seed: int = 0) -> None:
        self.spec, self.grid = spec, grid
        limit = min(LMAX, (grid.shape[0] - 1) // 2, grid.shape[1] // 2 - 1)
        if limit < 2:
            raise ValueError(f"{grid} is too coarse for waves")
        self.harmonics = SphericalHarmonics(grid, limit)
        self.mean, self.std = (
            torch.from_numpy(values).float()[:, None, None] for values in typical_climate(spec)
        )
        zonal = torch.tensor([_ZONAL.get(channel.variable, 0.0) for channel in spec.channels])[:, None, None]
        self.zonal = zonal * _zonal_patterns(spec, grid)
        self.envelope = (1 - zonal.square()).sqrt() * _storminess(grid)
        degree = torch.arange(limit + 1.0)
        # Largest at l = 4 to 8; beyond, power falls as l⁻³, as for geopotential.
        power = (degree + 1) ** 2 / (1 + (degree / 6) ** 2) ** 2.5 / (2 * degree + 1)
        power[0] = 0.0
        amplitude = (power / (power * (2 * degree + 1)).sum()).sqrt()
        generator = torch.Generator().manual_seed(seed)
        waves = torch.randn(2, len(spec), limit + 1, limit + 1, 2, generator=generator)
        waves = torch.einsum("ij,tjlmr->tilmr", _level_correlation(spec), waves) * amplitude[:, None, None]
        inside = torch.tril(torch.ones(limit + 1, limit + 1)) / 2**0.5
        inside[:, 0] *= 2**0.5
        waves = waves * inside[..., None]
        waves[..., 0, 1] = 0.0
        self.waves = torch.view_as_complex(waves)
        # Larger scales live longer: a quarter of a period is 8 days at l = 4 and 1.6 days at l = 20.
        self.change = 2 * np.pi / (4 * 24.0 * 32.0 / degree.clamp_min(1.0))

    def state(self, time: np.datetime64) -> np.ndarray:
        """[C, H, W] float32, physical units."""
        hours = float((time - _EPOCH) / np.timedelta64(1, "h"))
        turn = (self.change * hours)[:, None]
        order = torch.arange(self.harmonics.lmax + 1.0)
        travel = torch.exp(-1j * order * np.radians(DEGREES_PER_HOUR * hours % 360.0))
        coefficients = (self.waves[0] * turn.cos() + self.waves[1] * turn.sin()) * travel
        out = torch.empty(len(self.spec), *self.grid.shape)
        # One variable at a time: the transform's buffers are three times as large as its result.
        for name in (*self.spec.surface, *self.spec.upper):
            part = self.spec.variable_slice(name)
            mean, std = self.mean[part], self.std[part]
            x = self.harmonics.synthesise(coefficients[part])
            x = x.mul_(self.envelope[part]).add_(self.zonal[part])
            if name == "q":  # log-normal: never negative
                variance = (std / mean).square().log1p()
                out[part] = x.mul_(variance.sqrt()).sub_(variance / 2).exp_().mul_(mean)
            else:
                out[part] = x.mul_(std).add_(mean)
        return out.numpy()


def _zonal_patterns(spec: StateSpec, grid: Grid) -> Tensor:
    """[C, H, 1], mean 0 and mean square 1 over the sphere: warm tropics, and jets in mid-latitudes."""
    phi = torch.from_numpy(np.radians(grid.latitude)).float()
    shapes = {"tropics": phi.cos().square(), "jets": (2 * phi).sin().square()}
    patterns = {}
    for name, shape in shapes.items():
        field = shape[:, None].expand(grid.shape)
        field = field - grid.area_mean(field)
        patterns[name] = (field / grid.area_mean(field.square()).sqrt())[:, :1]
    chosen = ["jets" if channel.variable == "u" else "tropics" for channel in spec.channels]
    return torch.stack([patterns[name] for name in chosen])


def _storminess(grid: Grid) -> Tensor:
    """[H, 1], mean square 1 over the sphere: wave amplitude, at the poles three times that at the equator."""
    field = 0.4 + 0.8 * torch.from_numpy(np.sin(np.radians(grid.latitude)) ** 2).float()[:, None]
    return field / grid.area_mean(field.square().expand(grid.shape)).sqrt()


def _level_correlation(spec: StateSpec) -> Tensor:
    """[C, C], rows of norm 1: correlates neighbouring levels of a variable when applied to white channels."""
    level = torch.tensor([float(channel.level or 1013) for channel in spec.channels]).log()
    same_variable = torch.tensor([[a.variable == b.variable for b in spec.channels] for a in spec.channels])
    near = (-0.5 * ((level[:, None] - level) / 0.5).square()).exp() * same_variable
    return near / near.norm(dim=1, keepdim=True)


def write(
    path: str = "data/sample_quarter_degree.zarr",
    start: str = "2020-01-01T00",
    end: str = "2020-01-05T18",
    rows: int = 721,
    columns: int = 1440,
    levels: Literal[13, 37] = 13,
    seed: int = 0,
) -> None:
    """Write a store of synthetic weather in the layout of WeatherBench 2's ERA5.

    The same command resumes a killed run, and leaves a complete store with the same settings alone.

    Args:
        path: the zarr store.
        start: first state.
        end: last state; states are 6-hourly.
        rows: number of latitudes, both poles included.
        columns: number of longitudes.
        levels: number of pressure levels, 13 (from 50 to 1000 hPa) or 37 (as in ERA5).
        seed: for the weather.

    Raises:
        UserError: for an impossible period or grid, another store at ``path``, or too little disk space.
    """
    times, spec = six_hourly(start, end), StateSpec(levels=LEVELS[levels])
    if columns < 2 or columns % 2:
        raise UserError(f"weather: {columns} columns are impossible: give an even number, such as 1440")
    try:
        grid = Grid.equiangular(rows, columns)
        weather = SyntheticWeather(spec, grid, seed)
    except ValueError as error:
        raise UserError(f"weather: {rows} × {columns} points are impossible: {error}") from None
    recipe = {
        "source": "made-up weather of vaevar",  # the same as in stores from before
        "period": f"{times[0]} to {times[-1]}",
        "points": f"{rows} × {columns}",
        "levels": str(levels),
        "seed": str(seed),
    }
    target = place_of_store(Path(path))
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(target.with_name(target.name + ".lock")):
            if not target.is_dir():
                _fill(target, times, weather, recipe)
                print(f"wrote {path}")
                return
    _check_recipe(target, recipe)
    print(f"{path} already exists")


def _check_recipe(path: Path, recipe: dict[str, str]) -> None:
    attrs = open_zarr(path).attrs
    for key, expected in recipe.items():
        if attrs.get(key) != expected:
            raise UserError(
                f"{path}: is another store ({key} is {attrs.get(key)!r}, expected {expected!r}); "
                "give another path, or delete it"
            )


def _fill(path: Path, times: np.ndarray, weather: SyntheticWeather, recipe: dict[str, str]) -> None:
    """Write the states beside ``path``, and move the store there when it is complete."""
    partial = path.with_name(path.name + ".writing")
    progress_file = partial / "progress.json"
    done = _states_in(partial, progress_file, recipe)
    size = len(weather.spec) * weather.grid.shape[0] * weather.grid.shape[1] * 4
    left = times.size - done
    check_disk(path, left * size, f"{left} of {times.size} states on {recipe['points']} to make")
    if done == 0:
        create_store(partial, times, weather.spec, weather.grid, recipe)
    with progress("synthetic weather", times.size, done) as advance:
        for number in range(done, times.size):
            write_states(partial, number, weather.state(times[number])[None], weather.spec)
            # A kill before the next lines repeats this state, with the same result.
            save_text(progress_file, json.dumps({"states": number + 1}))
            advance(number + 1)
    progress_file.unlink()
    partial.rename(path)


def _states_in(partial: Path, progress_file: Path, recipe: dict[str, str]) -> int:
    """Number of states with this recipe that an interrupted run has written."""
    if not progress_file.is_file() or open_zarr(partial).attrs != recipe:
        return 0
    return int(json.loads(progress_file.read_text(encoding="utf-8"))["states"])


if __name__ == "__main__":
    run(write)
