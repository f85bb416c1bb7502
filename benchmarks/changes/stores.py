"""Changes of a store of weather that somebody else has written: values and units; and how they are made."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from changes.kinds import Case

TRUTH = "truth.zarr"
LONG = {
    "u10": "10m_u_component_of_wind",
    "v10": "10m_v_component_of_wind",
    "t2m": "2m_temperature",
    "msl": "mean_sea_level_pressure",
    "z": "geopotential",
    "q": "specific_humidity",
    "u": "u_component_of_wind",
    "v": "v_component_of_wind",
    "t": "temperature",
}
ROLL = 16
NAMES = f"{TRUTH}|a store in WeatherBench"
ANOTHER_TRUTH = "data and metadata agree: it is another truth"

Edit = Callable[[xr.Dataset], xr.Dataset]


def rewritten(edit: Edit, name: str = TRUTH, **options: object) -> Callable[[Path], Any]:
    """Write the store again with an edit, as xarray writes it."""

    def apply(directory: Path) -> None:
        path = directory / name
        dataset = xr.open_zarr(path, chunks=None, decode_timedelta=True).load()
        for variable in dataset.variables.values():
            variable.encoding = {}
        shutil.rmtree(path)
        settings = {"zarr_format": 2, "consolidated": True} | options
        edit(dataset).to_zarr(path, mode="w", **settings)  # type: ignore[call-overload]

    return apply


def values(name: str, change: Callable[[xr.DataArray], xr.DataArray], units: str | None = None) -> Edit:
    """Change the values of a variable; its units too, or not."""

    def edit(dataset: xr.Dataset) -> xr.Dataset:
        array = dataset[LONG[name]]
        attributes = dict(array.attrs) | ({"units": units} if units is not None else {})
        return dataset.assign({LONG[name]: change(array).astype(array.dtype).assign_attrs(attributes)})

    return edit


def units(name: str, text: str | None) -> Edit:
    """Change the units of a variable or a coordinate, not the values."""

    def edit(dataset: xr.Dataset) -> xr.Dataset:
        array = dataset[LONG.get(name, name)].copy()
        array.attrs = {k: v for k, v in array.attrs.items() if k != "units"}
        if text is not None:
            array.attrs["units"] = text
        return (
            dataset.assign_coords({name: array})
            if name in dataset.coords
            else dataset.assign({array.name: array})
        )

    return edit


def coordinate(name: str, change: Callable[[np.ndarray], np.ndarray], **attributes: str) -> Edit:
    """Change a coordinate, not the fields."""

    def edit(dataset: xr.Dataset) -> xr.Dataset:
        new = change(dataset[name].values)
        kept = dict(dataset[name].attrs) | attributes if name != "time" else attributes
        return dataset.assign_coords({name: (name, new, kept)})

    return edit


def swapped(one: str, other: str) -> Edit:
    """Give two variables each other's values."""

    def edit(dataset: xr.Dataset) -> xr.Dataset:
        first, second = dataset[LONG[one]], dataset[LONG[other]]
        return dataset.assign(
            {
                LONG[one]: first.copy(data=second.values),
                LONG[other]: second.copy(data=first.values),
            }
        )

    return edit


def flipped(dim: str, *names: str) -> Edit:
    """Turn the fields around along a dimension, not its coordinate."""

    def edit(dataset: xr.Dataset) -> xr.Dataset:
        chosen = [LONG[name] for name in names or LONG if dim in dataset[LONG[name]].dims]
        return dataset.assign(
            {n: dataset[n].copy(data=np.flip(dataset[n].values, dataset[n].dims.index(dim))) for n in chosen}
        )

    return edit


def renamed(**names: str) -> Edit:
    return lambda dataset: dataset.rename({LONG.get(old, old): new for old, new in names.items()})


def rolled(dim: str, number: int, *names: str) -> Edit:
    """Shift the fields along a dimension, not its coordinate."""

    def edit(dataset: xr.Dataset) -> xr.Dataset:
        chosen = [LONG[name] for name in names or LONG]
        return dataset.assign(
            {
                n: dataset[n].copy(data=np.roll(dataset[n].values, number, dataset[n].dims.index(dim)))
                for n in chosen
            }
        )

    return edit


def cases() -> Iterator[Case]:
    """All of them."""
    for change, edit, unknowable in [*_values(), *_units()]:
        yield Case(TRUTH, change, rewritten(edit), "cycle", NAMES, unknowable)


def _values() -> Iterator[tuple[str, Edit, str]]:
    yield "t in degrees Celsius, without saying so", values("t", lambda x: x - 273.15), ""
    yield "t in degrees Fahrenheit, without saying so", values("t", lambda x: x * 1.8 - 459.67), ""
    yield "t2m in degrees Celsius, without saying so", values("t2m", lambda x: x - 273.15), ""
    yield "msl in hPa, without saying so", values("msl", lambda x: x / 100), ""
    yield "msl in kPa, without saying so", values("msl", lambda x: x / 1000), ""
    yield "q in g/kg, without saying so", values("q", lambda x: x * 1000), ""
    yield "z in metres, without saying so", values("z", lambda x: x / 9.80665), ""
    yield "z in decametres, without saying so", values("z", lambda x: x / 98.0665), ""
    yield "u in knots, without saying so", values("u", lambda x: x * 1.94384), ""
    yield "u in km/h, without saying so", values("u", lambda x: x * 3.6), ""
    yield "u in cm/s, without saying so", values("u", lambda x: x * 100), ""
    for name in ("z", "t", "u", "q"):
        yield f"{name} with its sign turned", values(name, lambda x: -x), ""
    yield "v with its sign turned", values("v", lambda x: -x), ""
    for one, other in (
        ("u", "v"),
        ("u10", "v10"),
        ("z", "t"),
        ("t2m", "msl"),
        ("q", "u"),
        ("t", "u"),
        ("q", "t"),
    ):
        yield f"{one} and {other} swapped", swapped(one, other), ""
    for name in LONG:
        yield f"{name} zero everywhere", values(name, lambda x: x * 0), ""
    for name in ("t", "z", "u"):
        yield f"{name} the same everywhere", values(name, lambda x: x * 0 + x.mean()), ""
    for number in (9.97e36, 1e20, -9999.0, -32767.0, 0.0, np.nan):
        for name in ("t", "u", "q"):

            def hole(x: xr.DataArray, number: float = number) -> xr.DataArray:
                return (
                    x.where(x["latitude"] > -20, number)
                    if np.isnan(number)
                    else x.where((x["latitude"] > -20) | (x["time"] != x["time"][9]), number)
                )

            yield f"{name} is {number:g} south of 20° S", values(name, hole), ""
    yield "t of a single point is 1e20", values("t", lambda x: _point(x, 1e20)), ""
    yield "t of a single point is 0", values("t", lambda x: _point(x, 0.0)), ""
    yield "t of a single point is 60 K too warm", values("t", lambda x: _point(x, 60.0, add=True)), ""
    yield "msl of a single point is in hPa", values("msl", lambda x: _point(x, 1013.0)), ""
    for name in ("z", "t", "u", "q", "v"):
        yield (
            f"{name}: levels turned around",
            flipped("level", name),
            "",
        )
    yield "z: the level above instead", rolled("level", 1, "z"), ""
    yield "t: the level above instead", rolled("level", 1, "t"), ""
    yield "all: levels turned around", flipped("level"), ""
    yield "z divided by gravity twice (a height in units of 1/g)", values("z", lambda x: x / 9.80665**2), ""
    yield (
        "z without the mean of each level",
        values("z", lambda x: x - x.mean(("time", "latitude", "longitude"))),
        "",
    )
    yield "t: anomalies", values("t", lambda x: x - x.mean("time")), ""
    yield "t normalised", values("t", lambda x: (x - x.mean()) / x.std()), ""
    yield "q as relative humidity in per cent", values("q", lambda x: 50 + 5000 * (x - x.mean())), ""
    yield "q as relative humidity, a fraction", values("q", lambda x: 0.5 + 50 * (x - x.mean())), ""
    yield "t 1 K warmer", values("t", lambda x: x + 1), ANOTHER_TRUTH
    yield (
        "everything in float16",
        lambda d: d.map(lambda x: x.astype(np.float16) if x.name != "time" else x, keep_attrs=True),
        "",
    )
    yield "msl in integers of Pa", values("msl", lambda x: x.round()), ANOTHER_TRUTH


def _point(array: xr.DataArray, value: float, add: bool = False) -> xr.DataArray:
    new = array.copy(deep=True)
    index = tuple(9 if dim == "time" else 1 for dim in array.dims)
    new.values[index] = new.values[index] + value if add else value
    return new


def _units() -> Iterator[tuple[str, Edit, str]]:
    for name, text in (
        ("t", "degC"), ("t", "celsius"), ("t2m", "degrees_Celsius"), ("msl", "hPa"), ("msl", "mb"),
        ("q", "g kg**-1"), ("z", "m"), ("z", "gpm"), ("z", "dam"), ("u", "knots"), ("v", "km h**-1"),
        ("u10", "kt"), ("q", "%"),
    ):  # fmt: skip
        yield f"{name} says {text}", units(name, text), ""
    for name, text in (
        ("t", "kelvin"),
        ("u", "m/s"),
        ("q", "kg/kg"),
        ("z", "m2 s-2"),
        ("u", "m s^-1"),
        ("q", "1"),
    ):
        yield f"{name} says {text}", units(name, text), ""
    yield "no units anywhere", lambda d: d.map(lambda x: x.assign_attrs(units=""), keep_attrs=False), ""
    for text in ("Pa", "m", "1", "K", "millibars", "hybrid"):
        yield f"levels say {text}", units("level", text), ""
    yield "levels say nothing", units("level", None), ""
    yield "latitudes say degrees_south", units("latitude", "degrees_south"), ""
    yield "latitudes say radians", units("latitude", "radians"), ""
    yield "longitudes say degrees_west", units("longitude", "degrees_west"), ""
    yield "longitudes say radians", units("longitude", "radians"), ""
    yield "latitudes say metres", units("latitude", "m"), ""
