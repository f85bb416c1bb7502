"""Changes of a store of weather that somebody else has written: values, names, units, coordinates, times."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

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
ANOTHER_TRUTH = "data and metadata agree: it is another truth"
FAST_WIND = "a wind in knots lies within what wind can be; a store without units is taken as WeatherBench 2's"

Edit = Callable[[xr.Dataset], xr.Dataset]


def rewritten(edit: Edit, name: str = TRUTH, **options: object) -> Callable[[Path], None]:
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
    for change, edit, unknowable in [*_values(), *_units(), *_names(), *_times(), *_grids(), *_harmless()]:
        yield Case(TRUTH, change, rewritten(edit), "cycle", TRUTH, unknowable)


def _values() -> Iterator[tuple[str, Edit, str]]:
    yield "t in degrees Celsius, without saying so", values("t", lambda x: x - 273.15), ""
    yield "t in degrees Fahrenheit, without saying so", values("t", lambda x: x * 1.8 - 459.67), ""
    yield "t2m in degrees Celsius, without saying so", values("t2m", lambda x: x - 273.15), ""
    yield "msl in hPa, without saying so", values("msl", lambda x: x / 100), ""
    yield "msl in kPa, without saying so", values("msl", lambda x: x / 1000), ""
    yield "q in g/kg, without saying so", values("q", lambda x: x * 1000), ""
    yield "z in metres, without saying so", values("z", lambda x: x / 9.80665), ""
    yield "z in decametres, without saying so", values("z", lambda x: x / 98.0665), ""
    yield "u in knots, without saying so", values("u", lambda x: x * 1.94384), FAST_WIND
    yield "u in km/h, without saying so", values("u", lambda x: x * 3.6), FAST_WIND
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
        yield f"{name}: levels turned around", flipped("level", name), ""
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
        ("q", "g kg**-1"), ("z", "m"), ("z", "gpm"), ("z", "dam"), ("u", "knots"), ("v", "km h**-1"), ("u10", "kt"), ("q", "%"),
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


def _names() -> Iterator[tuple[str, Edit, str]]:
    yield "temperature called t", renamed(t="t"), ""
    yield "2m_temperature called t2m", renamed(t2m="t2m"), ""
    yield "geopotential called geopotential_height", renamed(z="geopotential_height"), ""
    yield "without specific_humidity", lambda d: d.drop_vars(LONG["q"]), ""
    yield "one variable more", lambda d: d.assign(extra=d[LONG["t2m"]] * 0), ""
    yield "latitude called lat, longitude lon", renamed(latitude="lat", longitude="lon"), ""
    yield "latitude called y, longitude x", renamed(latitude="y", longitude="x"), ""
    yield (
        "latitude and longitude exchanged",
        lambda d: d.rename(latitude="a", longitude="b").rename(a="longitude", b="latitude"),
        "",
    )
    yield "level called plev", renamed(level="plev"), ""
    yield "level called model_level", renamed(level="model_level"), ""
    yield "time called valid_time", renamed(time="valid_time"), ""
    yield "time called initial_time", renamed(time="initial_time"), ""
    yield "a dimension more: number", lambda d: d.map(lambda x: x.expand_dims(number=2)), ""
    yield "a dimension more: number, of one", lambda d: d.map(lambda x: x.expand_dims(number=1)), ""
    yield "a dimension more: expver", lambda d: d.map(lambda x: x.expand_dims(expver=["1", "5"])), ""


def _times() -> Iterator[tuple[str, Edit, str]]:
    hour = np.timedelta64(1, "h").astype("timedelta64[ns]")
    for shift, text in ((6 * hour, "6 h"), (24 * hour, "a day"), (-6 * hour, "−6 h")):
        yield (
            f"times shifted by {text}",
            coordinate("time", lambda t, s=shift: t + s),
            "the times are all that says when it was",
        )
    yield "times shifted by half an hour", coordinate("time", lambda t: t + hour // 2), ""
    yield "times shifted by a minute", coordinate("time", lambda t: t + hour // 60), ""
    yield "times in another order, fields not", coordinate("time", lambda t: t[::-1]), ""
    yield "times and fields from last to first", lambda d: d.isel(time=slice(None, None, -1)), ""
    yield (
        "two times exchanged, fields not",
        coordinate("time", lambda t: t[[*range(7), 9, 8, 7, *range(10, t.size)]]),
        "",
    )
    yield "fields of one time exchanged for another's", _exchanged, ""
    yield "a time twice", coordinate("time", lambda t: np.where(np.arange(t.size) == 8, t[9], t)), ""
    yield "a time missing", lambda d: d.drop_isel(time=9), ""
    yield "an initial time missing", lambda d: d.drop_isel(time=7), ""
    yield "every second time", lambda d: d.isel(time=slice(0, None, 2)), ""
    yield "12-hourly times on 6-hourly fields", coordinate("time", lambda t: t[0] + (t - t[0]) * 2), ""
    yield (
        "3-hourly times on 6-hourly fields",
        coordinate("time", lambda t: t[0] + (t - t[0]) // 2 + 24 * hour),
        "",
    )
    yield "times as plain numbers", coordinate("time", lambda t: np.arange(t.size)), ""
    yield "times as text", coordinate("time", lambda t: t.astype("datetime64[s]").astype(str)), ""
    yield (
        "times as days since 2021, in decimals",
        coordinate("time", lambda t: (t - t[0]) / hour / 24, units="days since 2021-01-01"),
        "",
    )
    for calendar in ("noleap", "360_day", "julian"):
        yield (
            f"times in the calendar {calendar}",
            coordinate(
                "time",
                lambda t: ((t - t[0]) / hour).astype(int),
                units="hours since 2021-01-01",
                calendar=calendar,
            ),
            "",
        )
    for name in ("step", "lead_time", "forecast_period", "prediction_timedelta"):
        yield f"a coordinate {name} of 6 h", lambda d, n=name: d.assign_coords({n: 6 * hour}), ""
        yield (
            f"a dimension {name} of 0 and 6 h",
            lambda d, n=name: d.map(lambda x: x.expand_dims({n: [0 * hour, 6 * hour]}, axis=1)),
            "",
        )
    yield "a coordinate step of 0 h", lambda d: d.assign_coords(step=0 * hour), ""
    yield (
        "a coordinate valid_time 6 h later",
        lambda d: d.assign_coords(valid_time=("time", d["time"].values + 6 * hour)),
        "",
    )
    yield (
        "a coordinate valid_time, the same as time",
        lambda d: d.assign_coords(valid_time=("time", d["time"].values)),
        "",
    )
    yield (
        "a coordinate forecast_reference_time 12 h earlier",
        lambda d: d.assign_coords(forecast_reference_time=("time", d["time"].values - 12 * hour)),
        "",
    )


def _exchanged(dataset: xr.Dataset) -> xr.Dataset:
    order = np.arange(dataset.sizes["time"])
    order[[9, 40]] = order[[40, 9]]
    return dataset.isel(time=order).assign_coords(time=dataset["time"])


def _grids() -> Iterator[tuple[str, Edit, str]]:
    yield "fields upside down, latitudes not", flipped("latitude"), ""
    yield "t alone upside down", flipped("latitude", "t"), ""
    yield "z alone upside down", flipped("latitude", "z"), ""
    yield "latitudes upside down, fields not", coordinate("latitude", lambda x: x[::-1]), ""
    yield "fields from east to west", flipped("longitude"), ""
    turned = "the sphere looks the same from every side: only an orography would tell"
    yield "fields turned by 180° of longitude", rolled("longitude", ROLL), turned
    yield "z alone turned by 180° of longitude", rolled("longitude", ROLL, "z"), ""
    yield "longitudes from −180, fields from 0", coordinate("longitude", lambda x: x - 180), turned
    yield "longitudes half a step further", coordinate("longitude", lambda x: x + 5.625), ""
    yield "longitudes a little further", coordinate("longitude", lambda x: x + 0.5), ""
    yield "longitudes from west to east in radians", coordinate("longitude", np.radians), ""
    yield "latitudes in radians", coordinate("latitude", np.radians), ""
    yield "latitudes as colatitudes", coordinate("latitude", lambda x: 90 - x), ""
    yield "latitudes equally spaced", coordinate("latitude", lambda x: np.linspace(x[0], x[-1], x.size)), ""
    yield "latitudes rounded to degrees", coordinate("latitude", np.round), ""
    yield (
        "latitudes with a wrong one",
        coordinate("latitude", lambda x: np.where(np.arange(x.size) == 5, x + 3, x)),
        "",
    )
    yield "latitudes up to 120°", coordinate("latitude", lambda x: x * 1.4), ""
    yield "without the last row", lambda d: d.isel(latitude=slice(0, -1)), ""
    yield "the southern half alone", lambda d: d.isel(latitude=slice(8, None)), ""
    yield "without the last column", lambda d: d.isel(longitude=slice(0, -1)), ""
    yield (
        "the first column again as 360°",
        lambda d: xr.concat([d, d.isel(longitude=[0]).assign_coords(longitude=[360.0])], "longitude"),
        "",
    )
    yield "half of the columns", lambda d: d.isel(longitude=slice(0, None, 2)), ""
    yield "the western half alone", lambda d: d.isel(longitude=slice(0, 16)), ""
    yield "coordinates of latitude missing", lambda d: d.drop_vars("latitude"), ""
    yield "levels in Pa, with units", coordinate("level", lambda x: x * 100, units="Pa"), ""
    yield "levels in Pa, without units", coordinate("level", lambda x: x * 100, units=""), ""
    yield "levels numbered", coordinate("level", lambda x: np.arange(x.size) + 1), ""
    yield "levels named in reverse", coordinate("level", lambda x: x[::-1]), ""
    yield "levels in float", coordinate("level", lambda x: x.astype(np.float64)), ""
    yield "levels as text", coordinate("level", lambda x: x.astype(str)), ""
    yield "a level twice", coordinate("level", lambda x: np.array([300, 500, 500])), ""
    yield "a level missing", lambda d: d.isel(level=[0, 1]), ""
    yield "500 hPa called 501", coordinate("level", lambda x: np.array([300, 501, 850])), ""
    yield "500 hPa called 400", coordinate("level", lambda x: np.array([300, 400, 850])), ""
    yield "850 and 500 hPa exchanged", coordinate("level", lambda x: np.array([300, 850, 500])), ""


ROLL = 16


def _harmless() -> Iterator[tuple[str, Edit, str]]:
    yield "latitudes and fields from south to north", lambda d: d.isel(latitude=slice(None, None, -1)), ""
    yield (
        "longitudes from −180, fields too",
        lambda d: d.roll(longitude=ROLL, roll_coords=True).assign_coords(
            longitude=(np.sort((d["longitude"].values + 180) % 360 - 180))
        ),
        "",
    )
    yield "levels and fields from below", lambda d: d.isel(level=slice(None, None, -1)), ""
    yield (
        "dimensions in another order",
        lambda d: d.transpose("longitude", "latitude", "level", "time", missing_dims="ignore"),
        "",
    )
    yield "fields in float64", lambda d: d.astype(np.float64), ""
    yield (
        "times in another unit",
        lambda d: d.assign_coords(time=d["time"].values.astype("datetime64[s]")),
        "",
    )
