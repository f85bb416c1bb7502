"""Changes of a store of weather that somebody else has written: names, times, grids and levels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from changes.kinds import Case
from changes.stores import LONG, ROLL, TRUTH, Edit, coordinate, flipped, renamed, rewritten, rolled

ANOTHER_TIME = "the times are all that says when it was"


def cases() -> Iterator[Case]:
    """All of them."""
    for change, edit, unknowable in [*_names(), *_times(), *_grids(), *_harmless()]:
        yield Case(TRUTH, change, rewritten(edit), "cycle", TRUTH, unknowable)


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
            ANOTHER_TIME,
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
        "the times are all that says how fast it was: weather changes twice as much at times as at others",
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
