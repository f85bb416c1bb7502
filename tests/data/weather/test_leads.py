"""A field is read at the time at which it is valid, however its store says that, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests.data.weather.worlds import SPEC, TIMES, dataset, message_of, truth, write
from vaevar.data.weather.store import StoreSource, WeatherStore

HOUR = np.timedelta64(1, "h")
NS = "datetime64[ns]"
Change = Callable[[xr.Dataset], xr.Dataset]


def hours(*counts: int) -> np.ndarray:
    return np.array(counts, "timedelta64[h]").astype("timedelta64[ns]")


def began(times: np.ndarray = TIMES) -> tuple[str, np.ndarray]:
    return "time", times.astype(NS)


def along(ds: xr.Dataset, name: str, leads: object, **attrs: str) -> xr.Dataset:
    """Forecasts that began at the times of ``ds``: lead number k has k added to every field."""
    made = [ds.map(lambda array, k=k: (array + np.float32(k)).assign_attrs(array.attrs)) for k in (0, 1)]
    return xr.concat(made, name).assign_coords({name: (name, leads, attrs)})


# Stores of which lead number 1, of 6 h, is valid 6 h after TIMES.
OF_SIX_HOURS: dict[str, Change] = {
    "step": lambda ds: along(ds, "step", hours(0, 6)),
    "lead_time in hours": lambda ds: along(ds, "lead_time", [0, 6], units="hours"),
    "lead_time in h": lambda ds: along(ds, "lead_time", [0, 6], units="h"),
    "lead in minutes": lambda ds: along(ds, "lead", [0, 360], units="minutes"),
    "fhour": lambda ds: along(ds, "fhour", [0, 6]),
    "forecast_hour in fractions": lambda ds: along(ds, "forecast_hour", np.array([0.0, 6.0000001])),
    "a standard name": lambda ds: along(ds, "tau", hours(0, 6)).assign_coords(
        tau=("tau", hours(0, 6), {"standard_name": "forecast_period"}),
        forecast_reference_time=began(),
    ),
    "step and valid_time": lambda ds: along(ds, "step", hours(0, 6)).assign_coords(
        valid_time=(("time", "step"), TIMES.astype(NS)[:, None] + hours(0, 6))
    ),
    "the CDS's forecasts": lambda ds: along(
        ds.rename(time="forecast_reference_time"), "forecast_period", hours(0, 6)
    ).assign_coords(
        valid_time=(("forecast_reference_time", "forecast_period"), TIMES.astype(NS)[:, None] + hours(0, 6))
    ),
    "initial_time": lambda ds: along(ds, "step", hours(0, 6)).rename(time="initial_time"),
}


@pytest.mark.parametrize("layout", OF_SIX_HOURS)
def test_forecasts_are_read_when_they_are_valid(tmp_path: Path, layout: str) -> None:
    path = write(OF_SIX_HOURS[layout](dataset()), tmp_path / "forecasts.zarr")
    for number, lead in enumerate((0, 6)):
        store = WeatherStore(path, SPEC, lead_hours=lead)
        np.testing.assert_array_equal(store.times, (TIMES + lead * HOUR).astype(NS))
        np.testing.assert_array_equal(store.read(TIMES + lead * HOUR), truth() + number)
    assert "holds forecasts, of 0, 6 h" in message_of(lambda: WeatherStore(path, SPEC), path)
    assert "has no forecasts of 12 h; it has 0, 6 h" in message_of(lambda: WeatherStore(path, SPEC, 12), path)


# Stores without a dimension of leads whose fields are forecasts of 6 h, valid 6 h after TIMES.
ONE_LEAD: dict[str, Change] = {
    "step and valid_time of cfgrib": lambda ds: ds.assign_coords(
        step=hours(6)[0], number=0, surface=0.0, valid_time=began(TIMES + 6 * HOUR)
    ),
    "valid_time alone": lambda ds: ds.assign_coords(valid_time=began(TIMES + 6 * HOUR)),
    "step alone": lambda ds: ds.assign_coords(step=hours(6)[0]),
    "valid times and when they began": lambda ds: ds.assign_coords(
        time=(TIMES + 6 * HOUR).astype(NS), forecast_reference_time=began()
    ),
    "the same with the period": lambda ds: ds.assign_coords(
        time=(TIMES + 6 * HOUR).astype(NS), forecast_reference_time=began(), forecast_period=hours(6)[0]
    ),
    "a period of each time": lambda ds: ds.assign_coords(
        time=(TIMES + 6 * HOUR).astype(NS), init_time=began(), forecast_period=("time", hours(*[6] * 5))
    ),
    "valid_time is the dimension": lambda ds: ds.assign_coords(
        time=(TIMES + 6 * HOUR).astype(NS), reference_time=began()
    ).rename(time="valid_time"),
    "as a variable": lambda ds: ds.assign(valid_time=began(TIMES + 6 * HOUR)),
}


@pytest.mark.parametrize("layout", ONE_LEAD)
def test_forecasts_of_one_lead(tmp_path: Path, layout: str) -> None:
    path = write(ONE_LEAD[layout](dataset()), tmp_path / "forecasts.zarr")
    text = message_of(lambda: StoreSource(str(path)).prepare(TIMES[1], TIMES[-1]), path)
    assert "holds forecasts, of 6 h; say with lead_hours which to read" in text
    source = StoreSource(str(path), lead_hours=6)
    source.prepare(TIMES[1], TIMES[-1] + 6 * HOUR)
    np.testing.assert_array_equal(source.open(SPEC).read(TIMES + 6 * HOUR), truth())


STATES: dict[str, Change] = {
    "cfgrib's analyses": lambda ds: ds.assign_coords(
        step=hours(0)[0], number=0, surface=0.0, valid_time=began()
    ),
    "one lead of 0": lambda ds: ds.expand_dims(prediction_timedelta=hours(0), axis=1),
    "they began when they are valid": lambda ds: ds.assign_coords(forecast_reference_time=began()),
    "a period of 0": lambda ds: ds.assign_coords(forecast_period=hours(0)[0]),
    "valid_time of the CDS": lambda ds: ds.rename(time="valid_time").assign_coords(number=0, expver="0001"),
    "when the file was made": lambda ds: ds.assign_coords(created=np.datetime64("2024-01-01", "ns")),
}


@pytest.mark.parametrize("layout", STATES)
def test_analyses_are_states(tmp_path: Path, layout: str) -> None:
    path = write(STATES[layout](dataset()), tmp_path / "analyses.zarr")
    np.testing.assert_array_equal(WeatherStore(path, SPEC).read(TIMES), truth())


WRONG: dict[str, tuple[Change, str]] = {
    "a valid_time that does not fit": (
        lambda ds: along(ds, "step", hours(0, 6)).assign_coords(valid_time=began(TIMES + 3 * HOUR)),
        "time is neither when its forecasts began nor when they are valid by step and valid_time",
    ),
    "times that are neither": (
        lambda ds: ds.assign_coords(
            valid_time=began(TIMES + 3 * HOUR), forecast_reference_time=began(TIMES - 3 * HOUR)
        ),
        "time is neither when its forecasts began nor when they are valid",
    ),
    "a period that does not fit": (
        lambda ds: ds.assign_coords(
            forecast_period=hours(12)[0], forecast_reference_time=began(TIMES - 6 * HOUR)
        ),
        "forecast_period and forecast_reference_time do not fit together",
    ),
    "a period alone": (
        lambda ds: ds.assign_coords(forecast_period=hours(6)[0]),
        "whether time is when they began or when they are valid is not known",
    ),
    "leads of each time": (
        lambda ds: ds.assign_coords(step=("time", hours(6, 6, 12, 12, 12))),
        "holds forecasts, of 6, 12 h by step, and whether time is when they began",
    ),
    "leads without units": (lambda ds: along(ds, "lead_time", [0, 6]), "lead_time holds int64"),
    "two kinds of leads": (
        lambda ds: along(ds, "step", hours(0, 6)).assign_coords(lead_time=("step", hours(0, 6))),
        "lead_time and step say the same thing",
    ),
    "another coordinate of leads": (
        lambda ds: ds.assign_coords(age=hours(6)[0]),
        "the meaning of its coordinate age is not known",
    ),
    "another coordinate of times": (
        lambda ds: ds.assign_coords(started=began(TIMES - 6 * HOUR)),
        "the meaning of its coordinate started is not known",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_fit_together_is_named(tmp_path: Path, kind: str) -> None:
    change, says = WRONG[kind]
    path = write(change(dataset()), tmp_path / "store.zarr")
    for lead in (None, 6):
        assert says in message_of(lambda lead=lead: WeatherStore(path, SPEC, lead), path)


# --- times ----------------------------------------------------------------------------------------


def days(ds: xr.Dataset, units: str, values: object, **attrs: str) -> xr.Dataset:
    return ds.assign_coords(time=("time", values, {"units": units, **attrs}))


DAYS = (TIMES - np.datetime64("1970-01-01T00")) / np.timedelta64(1, "D")
SAME_TIMES: dict[str, Change] = {
    "decimal days": lambda ds: days(ds, "days since 1970-01-01 00:00:0.0", DAYS),
    "rounded decimal days": lambda ds: days(ds, "days since 1970-01-01", np.round(DAYS + 1 / 864000, 5)),
    "a time zone": lambda ds: days(ds, "hours since 1970-01-01 00:00:00 +06:00", DAYS * 24 + 6),
    "proleptic_gregorian": lambda ds: days(ds, "days since 1970-01-01", DAYS, calendar="proleptic_gregorian"),
    "since the year 1": lambda ds: days(
        ds, "hours since 0001-01-01", (DAYS + 719162) * 24, calendar="proleptic_gregorian"
    ),
    "seconds": lambda ds: days(ds, "seconds since 2020-01-01", (DAYS - 18262) * 86400),
    "objects of cftime": lambda ds: ds.assign_coords(
        time=[pytest.importorskip("cftime").DatetimeGregorian(*time.item().timetuple()[:4]) for time in TIMES]
    ),
}


@pytest.mark.parametrize("layout", SAME_TIMES)
def test_times_to_the_second(tmp_path: Path, layout: str) -> None:
    path = write(SAME_TIMES[layout](dataset()), tmp_path / "store.zarr")
    store = WeatherStore(path, SPEC)
    np.testing.assert_array_equal(store.times, TIMES.astype(NS))
    np.testing.assert_array_equal(store.read(TIMES), truth())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda ds: days(ds, "days since 1970-01-01", DAYS, calendar="noleap"), "in the calendar 'noleap'"),
        (lambda ds: days(ds, "days since 1970-01-01", DAYS, calendar="360_day"), "in the calendar '360_day'"),
        (lambda ds: days(ds, "months since 1970-01-01", DAYS), "cannot be opened as a zarr store"),
        (lambda ds: ds.assign_coords(time=TIMES.astype(str)), "time holds 5 values of type"),
        (
            lambda ds: ds.assign_coords(time=np.where(TIMES[2] == TIMES, np.datetime64("NaT"), TIMES)),
            "time has 1 missing values",
        ),
        (lambda ds: days(ds, "days since 1970-01-01", DAYS.round(0)), "times repeat, such as 2020-02-2"),
    ],
)
def test_times_of_another_kind_are_named(tmp_path: Path, change: Change, says: str) -> None:
    pytest.importorskip("cftime")
    path = write(change(dataset()), tmp_path / "store.zarr")
    assert says in message_of(lambda: WeatherStore(path, SPEC), path)


@pytest.mark.parametrize("minutes", [1, 30])
def test_times_beside_the_hour_are_shown_with_their_minutes(tmp_path: Path, minutes: int) -> None:
    later = TIMES + np.timedelta64(minutes, "m")
    path = write(dataset().assign_coords(time=later.astype(NS)), tmp_path / "store.zarr")
    store = WeatherStore(path, SPEC)
    np.testing.assert_array_equal(store.read(later), truth())
    text = message_of(lambda: store.read(TIMES[1:]), path)
    assert f"no state at 2020-02-29T00 and 3 more; it holds 2020-02-28T18:{minutes:02}" in text
    assert "its times are not on the hour" in text
    text = message_of(lambda: StoreSource(str(path)).prepare(TIMES[0], TIMES[-1]), path)
    assert f"holds 2020-02-28T18:{minutes:02} to 2020-02-29T18:{minutes:02}, but 2020-02-28T18 to" in text
