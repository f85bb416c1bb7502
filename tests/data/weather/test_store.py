"""The same world in every WeatherBench 2 layout, and the errors for wrong stores."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.weather.worlds import GRID, SPEC, TIMES, dataset, message_of, truth, write
from vaevar.data.weather.opening import open_zarr
from vaevar.data.weather.store import StoreSource, WeatherStore
from vaevar.data.weather.writer import create_store, write_states
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.standins.climate import typical_climate
from vaevar.state import VARIABLES, StateSpec

REAL = os.environ.get("VAEVAR_REAL_STATES")  # a directory; CONTRIBUTING.md says of what


def with_37_levels(ds: xr.Dataset) -> xr.Dataset:
    levels = sorted(
        {1, 2, 3, 5, 7, 10, 20, 30, 70, 125, 175, 225, 775, 825, 875, 900, 950, 975, 1000, *SPEC.levels}
    )
    return ds.reindex(level=levels, fill_value=-1.0)


def from_minus_180(ds: xr.Dataset, dtype: type) -> xr.Dataset:
    half = ds.sizes["longitude"] // 2
    ds = ds.roll(longitude=half, roll_coords=True)
    longitude = (ds.longitude.values + 180) % 360 - 180
    return ds.assign_coords(longitude=(longitude - 1e-5 * (longitude == 0)).astype(dtype))


LAYOUTS: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "era5": lambda ds: ds,
    "hres: ascending latitude": lambda ds: ds.isel(latitude=slice(None, None, -1)),
    "64x32: longitude before latitude": lambda ds: ds.isel(latitude=slice(None, None, -1)).transpose(
        "time", "level", "longitude", "latitude"
    ),
    "pangu: levels from below": lambda ds: ds.isel(level=slice(None, None, -1)),
    "graphcast: lat and lon": lambda ds: ds.isel(latitude=slice(None, None, -1)).rename(
        latitude="lat", longitude="lon"
    ),
    "37 levels": with_37_levels,
    "time last": lambda ds: ds.transpose("latitude", "longitude", "level", "time"),
    "int32 levels": lambda ds: ds.assign_coords(level=ds.level.astype("int32")),
    "float32 levels": lambda ds: ds.assign_coords(level=ds.level.astype("float32")),
    "float64 levels": lambda ds: ds.assign_coords(level=ds.level.astype("float64")),
    "pressure_level": lambda ds: ds.rename(level="pressure_level"),
    "float64 values": lambda ds: ds.astype("float64"),
    "more variables": lambda ds: ds.assign(sea_ice_cover=ds["2m_temperature"] * np.nan),
    "longitude from -180": lambda ds: from_minus_180(ds, np.float64),
    "longitude from -180 in float32": lambda ds: from_minus_180(ds, np.float32),
    "longitude from 45": lambda ds: ds.roll(longitude=-1, roll_coords=True),
    "all at once": lambda ds: (
        from_minus_180(with_37_levels(ds), np.float32)
        .isel(latitude=slice(None, None, -1), level=slice(None, None, -1))
        .transpose("longitude", "time", "latitude", "level")
        .rename(latitude="lat", longitude="lon")
    ),
    "no units": lambda ds: ds.map(lambda array: array.drop_attrs()),
    "units with slashes": lambda ds: ds.assign(geopotential=ds.geopotential.assign_attrs(units="m^2/s^2")),
    "times not in order": lambda ds: ds.isel(time=[3, 0, 4, 1, 2]),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write(dataset(), tmp_path / "store.zarr")


# --- layouts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_reads_as_the_same_states(tmp_path, layout):
    store = WeatherStore(write(LAYOUTS[layout](dataset()), tmp_path / "store.zarr"), SPEC)
    assert store.grid == GRID
    assert store.times.dtype == np.dtype("datetime64[ns]")
    assert set(store.times) == set(TIMES)
    made = store.read(TIMES)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, truth())


@pytest.mark.parametrize(
    "options",
    [{"zarr_format": 2}, {"zarr_format": 3, "consolidated": False}, {"zarr_format": 3, "consolidated": True}],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_both_zarr_formats(tmp_path, options):
    path = write(dataset(), tmp_path / "store.zarr", **options)
    np.testing.assert_array_equal(WeatherStore(path, SPEC).read(TIMES), truth())


def test_wb2_time_and_chunks(tmp_path):
    encoding = {"time": {"units": "hours since 1959-01-01", "dtype": "int64"}}
    encoding |= {name: {"chunks": (1, *array.shape[1:])} for name, array in dataset().data_vars.items()}
    path = write(dataset(), tmp_path / "store.zarr", encoding=encoding)
    hours = zarr.open_group(path, mode="r")["time"][:]
    assert hours[0] == (TIMES[0] - np.datetime64("1959-01-01T00")) / np.timedelta64(1, "h")
    np.testing.assert_array_equal(WeatherStore(path, SPEC).read(TIMES[2:4]), truth()[2:4])


def test_channels_are_asked_for_with_a_spec(store):
    with pytest.raises(UserError, match="spec is 'z500', expected a StateSpec"):
        WeatherStore(store, "z500")


def test_any_selection_of_times_in_any_order(store):
    opened = WeatherStore(store, SPEC)
    np.testing.assert_array_equal(opened.read(TIMES[[4, 0, 0, 2]]), truth()[[4, 0, 0, 2]])
    np.testing.assert_array_equal(opened.read([np.datetime64("2020-02-29T00:00:00", "s")]), truth()[[1]])
    assert opened.read(TIMES[:0]).shape == (0, len(SPEC), *GRID.shape)


def test_channels_come_in_the_order_asked_for(store):
    spec = StateSpec(surface=("t2m",), upper=("t", "z"), levels=(500, 850))
    made = WeatherStore(store, spec).read(TIMES[:1])
    np.testing.assert_array_equal(made[0], truth()[0][[SPEC.index(name) for name in spec.names]])


def test_surface_only_and_upper_air_only(store):
    surface = StateSpec(surface=("t2m",), upper=())
    np.testing.assert_array_equal(WeatherStore(store, surface).read(TIMES), truth()[:, 1:2])
    upper = StateSpec(surface=(), upper=("t",), levels=(500,))
    np.testing.assert_array_equal(WeatherStore(store, upper).read(TIMES), truth()[:, [6]])


def test_a_state_is_labelled_and_checked(store):
    state = WeatherStore(store, SPEC).state(TIMES[1])
    torch.testing.assert_close(state.channel("z850"), torch.from_numpy(truth()[1, SPEC.index("z850")]))


# --- forecasts ------------------------------------------------------------------------------------

LEADS = np.array([0, 6, 12, 240])


def forecasts(ds: xr.Dataset, name: str = "hours") -> xr.Dataset:
    """Forecasts valid at the times of ``ds`` + lead, of lead k with k / 64 added to every field."""
    leads = LEADS.astype("timedelta64[h]").astype("timedelta64[ns]")
    added = xr.DataArray(LEADS.astype(np.float32) / 64, dims="prediction_timedelta")
    made = (ds + added).assign_coords(prediction_timedelta=leads)
    for variable in ds.data_vars:
        made[variable].attrs = ds[variable].attrs
    return made.transpose("time", "prediction_timedelta", ...)


FORECASTS: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "hres": lambda ds: ds.isel(latitude=slice(None, None, -1)),
    "pangu": lambda ds: ds.isel(level=slice(None, None, -1)),
    "graphcast": lambda ds: (
        with_37_levels(ds).isel(latitude=slice(None, None, -1)).rename(latitude="lat", longitude="lon")
    ),
    "lead last": lambda ds: ds.transpose(..., "prediction_timedelta"),
    "longitude before latitude": lambda ds: ds.transpose(..., "longitude", "latitude"),
}


@pytest.mark.parametrize("layout", FORECASTS)
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_forecasts_are_read_at_the_times_they_are_valid(tmp_path, layout, zarr_format):
    ds = FORECASTS[layout](forecasts(dataset()))
    encoding = {"prediction_timedelta": {"units": "hours", "dtype": "int64"}}
    path = write(ds, tmp_path / "forecasts.zarr", encoding=encoding, zarr_format=zarr_format)
    for lead in (0, 6, 240):
        store = WeatherStore(path, SPEC, lead_hours=lead)
        valid = TIMES + np.timedelta64(lead, "h")
        np.testing.assert_array_equal(store.times, valid.astype("datetime64[ns]"))
        np.testing.assert_allclose(store.read(valid), truth() + lead / 64, rtol=1e-7)
        text = message_of(
            lambda store=store, valid=valid: store.read(valid[-1:] + np.timedelta64(1, "h")), path
        )
        assert f"it holds {valid[0]} to {valid[-1]}" in text


def test_one_lead_that_was_picked_before_writing(tmp_path):
    path = write(forecasts(dataset()).isel(prediction_timedelta=1), tmp_path / "picked.zarr")
    opened = WeatherStore(path, SPEC, lead_hours=6)
    np.testing.assert_allclose(opened.read(TIMES + np.timedelta64(6, "h")), truth() + 6 / 64, rtol=1e-7)
    message_of(lambda: WeatherStore(path, SPEC), path)


def test_leads_that_are_not_there_are_told_apart(tmp_path, store):
    path = write(forecasts(dataset()), tmp_path / "forecasts.zarr")
    for call in (WeatherStore, lambda path, spec, *lead: StoreSource(str(path), *lead).open(spec)):
        text = message_of(lambda call=call: call(path, SPEC, 18), path)
        assert "has no forecasts of 18 h; it has 0, 6, 12, 240 h; set lead_hours to one of them" in text
        text = message_of(lambda call=call: call(path, SPEC), path)
        assert "holds forecasts, of 0, 6, 12, 240 h; say with lead_hours which to read" in text
        text = message_of(lambda call=call: call(store, SPEC, 6), store)
        assert "holds states, not forecasts" in text
        assert "leave lead_hours out" in text
    message_of(lambda: WeatherStore(path, SPEC, -6), path)


def test_many_leads_are_summed_up(tmp_path):
    leads = (np.arange(41) * 6).astype("timedelta64[h]").astype("timedelta64[ns]")
    ds = dataset()[["2m_temperature"]].expand_dims(prediction_timedelta=leads, axis=1)
    path = write(ds, tmp_path / "forecasts.zarr")
    text = message_of(lambda: WeatherStore(path, StateSpec(("t2m",), ()), 3), path)
    assert "it has 0 to 240 h, every 6 h" in text


def test_a_source_of_forecasts_covers_valid_times(tmp_path):
    path = write(forecasts(dataset()), tmp_path / "forecasts.zarr")
    source = StoreSource(str(path), lead_hours=240)
    assert source.description == f"{path}, 240 h forecasts"
    valid = TIMES + np.timedelta64(240, "h")
    source.prepare(valid[0], valid[-1])
    np.testing.assert_allclose(source.open(SPEC).read(valid), truth() + 240 / 64, rtol=1e-7)
    text = message_of(lambda: source.prepare(TIMES[0], TIMES[-1]), path)
    assert f"holds {valid[0]} to {valid[-1]}" in text
    message_of(lambda: StoreSource(str(path)).prepare(valid[0], valid[-1]), path)


# --- stores that are wrong ------------------------------------------------------------------------


def without_units(ds: xr.Dataset, name: str, units: str) -> xr.Dataset:
    return ds.assign({name: ds[name].assign_attrs(units=units)})


WRONG: dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], str]] = {
    "missing variables": (
        lambda ds: ds.drop_vars(["geopotential", "2m_temperature"]),
        "lacks 2m_temperature, geopotential; it has mean_sea_level_pressure, temperature",
    ),
    "missing level": (lambda ds: ds.sel(level=[200, 850]), r"lacks the levels [500] hPa; it has [200, 850]"),
    "levels in Pa": (
        lambda ds: ds.assign_coords(level=ds.level * 100),
        "level has no units, and its numbers, 20000 to 85000, cannot be hPa",
    ),
    "a level twice": (lambda ds: ds.isel(level=[0, 1, 1, 2]), "has the levels [500] hPa more than once"),
    "a level between": (lambda ds: ds.assign_coords(level=[200.0, 500.5, 850.0]), "lacks the levels [500]"),
    "no level coordinate": (lambda ds: ds.drop_vars("level"), "no dimension 'level' with coordinates"),
    "no time": (lambda ds: ds.isel(time=0, drop=True), "no dimension 'time' with coordinates"),
    "one time without dimension": (lambda ds: ds.isel(time=0), "no dimension 'time' with coordinates"),
    "times without units": (
        lambda ds: ds.assign_coords(time=np.arange(5)),
        "time holds 5 values of type int64",
    ),
    "no latitude": (lambda ds: ds.rename(latitude="y"), "no dimension 'latitude' with coordinates"),
    "wrong units": (
        lambda ds: without_units(ds, "mean_sea_level_pressure", "hPa"),
        "mean_sea_level_pressure is in 'hPa', expected 'Pa'",
    ),
    "height for geopotential": (
        lambda ds: without_units(ds, "geopotential", "m"),
        "geopotential is in 'm', expected 'm**2 s**-2'",
    ),
    "Celsius": (lambda ds: without_units(ds, "temperature", "C"), "temperature is in 'C', expected 'K'"),
    "uneven longitudes": (
        lambda ds: ds.assign_coords(longitude=ds.longitude.values + np.linspace(0, 20, 8)),
        "longitude must run eastward around the circle",
    ),
    "a region": (lambda ds: ds.isel(longitude=slice(0, 3)), "longitude must run eastward around the circle"),
    "times repeat": (lambda ds: ds.isel(time=[0, 1, 1]), "times repeat"),
    "forecasts": (
        lambda ds: ds.expand_dims(
            prediction_timedelta=np.array([0, 6], "timedelta64[h]").astype("m8[ns]"), axis=1
        ),
        "holds forecasts, of 0, 6 h; say with lead_hours which to read",
    ),
    "forecasts with leads that are numbers": (
        lambda ds: ds.expand_dims(prediction_timedelta=[0, 6], axis=1),
        "prediction_timedelta holds int64, expected time differences with units",
    ),
    "forecasts with leads that are not named": (
        lambda ds: ds.expand_dims(prediction_timedelta=2, axis=1),
        "prediction_timedelta holds int64, expected time differences with units",
    ),
    "members": (
        lambda ds: ds.expand_dims(number=2, axis=1),
        "has the dimensions time, number, latitude, longitude; expected latitude, longitude, time",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_store_is_named_on_opening(tmp_path, kind):
    change, says = WRONG[kind]
    path = write(change(dataset()), tmp_path / "store.zarr")
    assert says in message_of(lambda: WeatherStore(path, SPEC), path)


def test_no_store_and_no_zarr(tmp_path):
    absent = tmp_path / "absent.zarr"
    assert "no such zarr store" in message_of(lambda: WeatherStore(absent, SPEC), absent)
    assert "no such zarr store" in message_of(lambda: StoreSource(str(absent)).open(SPEC), absent)
    file = tmp_path / "file.zarr"
    file.write_text("not a directory")
    assert "no such zarr store" in message_of(lambda: open_zarr(file), file)
    empty = tmp_path / "empty.zarr"
    empty.mkdir()
    assert "cannot be opened as a zarr store" in message_of(lambda: open_zarr(empty), empty)
    assert "cannot be opened" in message_of(lambda: open_zarr("nosuch://bucket/x.zarr"), Path("nosuch:"))


def test_missing_times_are_named(store):
    opened = WeatherStore(store, SPEC)
    wanted = TIMES[[0, 1]] + np.timedelta64(30 * 24, "h")
    text = message_of(lambda: opened.read(wanted), store)
    assert "no state at 2020-03-29T18 and 1 more;" in text
    assert "it holds 2020-02-28T18 to 2020-02-29T18" in text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named(tmp_path, value):
    ds = dataset()
    ds["temperature"][3, 1, 2, 5] = value
    path = write(ds, tmp_path / "store.zarr")
    opened = WeatherStore(path, SPEC)
    np.testing.assert_array_equal(opened.read(TIMES[:3]), truth()[:3])
    text = message_of(lambda: opened.read(TIMES), path)
    assert "temperature at 500 hPa at 2020-02-29T12 has values that are not finite" in text


def test_a_surface_value_that_is_not_finite_has_no_level(tmp_path):
    ds = dataset()
    ds["2m_temperature"][4, 0, 0] = np.nan
    path = write(ds, tmp_path / "store.zarr")
    text = message_of(lambda: WeatherStore(path, SPEC).read(TIMES), path)
    assert "2m_temperature at 2020-02-29T18 has values that are not finite" in text


def test_a_damaged_chunk_is_named(store):
    chunk = next(p for p in (store / "geopotential").iterdir() if not p.name.startswith("."))
    chunk.write_bytes(chunk.read_bytes()[:20])
    opened = WeatherStore(store, SPEC)
    text = message_of(lambda: opened.read(TIMES), store)
    assert re.search(r"geopotential at 2020-0\d-\d\dT\d\d cannot be read \(.*; write or fetch it again", text)


def test_the_time_of_a_damaged_chunk_is_told(store):
    with xr.open_zarr(store) as opened:
        parts = {"time": 1, "level": -1, "latitude": -1, "longitude": -1}
        opened.load().chunk(parts).drop_encoding().to_zarr(store.with_name("parts.zarr"), zarr_format=2)
    chunk = store.with_name("parts.zarr") / "geopotential" / "3.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    opened = WeatherStore(store.with_name("parts.zarr"), SPEC)
    opened.read(TIMES[:3])
    text = message_of(lambda: opened.read(TIMES), store.with_name("parts.zarr"))
    assert f"geopotential at {TIMES[3]} cannot be read (" in text


def test_the_cause_is_told_as_the_library_says_it():
    with pytest.raises(UserError, match="Protocol not known: nosuch"):
        StoreSource("nosuch://bucket/x.zarr").open(SPEC)


def test_fields_of_another_variable_are_found(tmp_path):
    ds = dataset()
    ds["2m_temperature"] = ds["2m_temperature"] - 273.15
    path = write(ds, tmp_path / "store.zarr")
    text = message_of(lambda: WeatherStore(path, SPEC).state(TIMES[0]), path)
    assert "2m_temperature at 2020-02-28T18 is 7.1" in text
    assert "it looks like °C" in text


# --- sources --------------------------------------------------------------------------------------


def test_a_source_covers_the_period_or_says_so(store):
    source = StoreSource(str(store))
    assert source.description == str(store)
    source.prepare(TIMES[0], TIMES[-1])
    assert source.open(SPEC).spec == SPEC
    hour = np.timedelta64(1, "h")
    for start, end in ((TIMES[0] - hour, TIMES[-1]), (TIMES[0], TIMES[-1] + hour)):
        text = message_of(lambda start=start, end=end: source.prepare(start, end), store)
        assert f"holds 2020-02-28T18 to 2020-02-29T18, but {start} to {end} is needed" in text


def test_a_source_without_times(tmp_path):
    path = write(dataset().isel(time=0), tmp_path / "store.zarr")
    message_of(lambda: StoreSource(str(path)).prepare(TIMES[0], TIMES[0]), path)


# --- what we write --------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "new.zarr"
    create_store(path, TIMES, SPEC, GRID, {"source": "a test"})
    return path


def test_what_is_written_reads_back_and_the_rest_is_reported(written):
    write_states(written, 1, truth()[1:3], SPEC)
    opened = WeatherStore(written, SPEC)
    assert opened.grid == GRID
    np.testing.assert_array_equal(opened.times, TIMES.astype("datetime64[ns]"))
    np.testing.assert_array_equal(opened.read(TIMES[1:3]), truth()[1:3])
    text = message_of(lambda: opened.read(TIMES), written)
    assert "at 2020-02-28T18 has values that are not finite (not written, or damaged)" in text
    write_states(written, 0, truth()[:1], SPEC)
    write_states(written, 3, truth()[3:], SPEC)
    np.testing.assert_array_equal(opened.read(TIMES), truth())


def test_it_is_a_weatherbench_store_that_xarray_opens_as_it_is(written):
    write_states(written, 0, truth(), SPEC)
    with xr.open_zarr(written) as ds:
        assert ds.attrs == {"source": "a test"}
        assert ds["geopotential"].dims == ("time", "level", "latitude", "longitude")
        assert ds["2m_temperature"].dims == ("time", "latitude", "longitude")
        assert {name: ds[name].attrs["units"] for name in ds.data_vars} == {
            "mean_sea_level_pressure": "Pa",
            "2m_temperature": "K",
            "geopotential": "m**2 s**-2",
            "temperature": "K",
        }
        assert ds["level"].dtype == np.int64
        assert ds["geopotential"].dtype == np.float32
        np.testing.assert_array_equal(ds["temperature"].sel(level=500), truth()[:, SPEC.index("t500")])
    group = zarr.open_group(written, mode="r")
    assert group.metadata.zarr_format == 2
    assert group["time"].dtype == np.int64
    assert group["time"].attrs["units"] == "hours since 1959-01-01"
    assert group["geopotential"].chunks == (1, 3, *GRID.shape)


def test_a_forecast_store_has_a_lead_time(tmp_path):
    path = tmp_path / "forecast.zarr"
    create_store(path, TIMES, SPEC, GRID, {}, lead=np.timedelta64(6, "h"))
    write_states(path, 0, truth(), SPEC)
    with xr.open_zarr(path, decode_timedelta=True) as ds:
        assert ds["prediction_timedelta"].values.tolist() == [6 * 3600 * 10**9]
        assert ds["geopotential"].dims == ("time", "prediction_timedelta", "level", "latitude", "longitude")
        np.testing.assert_array_equal(ds["2m_temperature"][:, 0], truth()[:, 1])
    # Its times are initial times: read as a store of states, it would be 6 hours off.
    message_of(lambda: WeatherStore(path, SPEC), path)
    valid = TIMES + np.timedelta64(6, "h")
    np.testing.assert_array_equal(WeatherStore(path, SPEC, lead_hours=6).read(valid), truth())


def test_a_store_is_replaced_whole(written):
    write_states(written, 0, truth(), SPEC)
    create_store(written, TIMES[:2], SPEC, GRID, {})
    assert WeatherStore(written, SPEC).times.size == 2
    assert [entry.name for entry in written.parent.iterdir()] == ["new.zarr"]


def test_a_layout_that_fails_leaves_the_old_store(written, monkeypatch):
    write_states(written, 0, truth(), SPEC)

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(xr.Dataset, "to_zarr", fail)
    with pytest.raises(OSError, match="disk full"):
        create_store(written, TIMES[:2], SPEC, GRID, {})
    np.testing.assert_array_equal(WeatherStore(written, SPEC).read(TIMES), truth())


def test_states_beyond_the_end_are_refused(written):
    with pytest.raises(ValueError, match="states 4 to 6 do not fit the 5"):
        write_states(written, 4, truth()[:2], SPEC)


@given(
    surface=st.permutations(["u10", "t2m", "msl"]).flatmap(lambda p: st.integers(0, 3).map(lambda n: p[:n])),
    upper=st.permutations(["z", "q", "t"]).flatmap(lambda p: st.integers(1, 3).map(lambda n: p[:n])),
    levels=st.sets(st.sampled_from([50, 300, 500, 1000]), min_size=1).map(sorted),
    cuts=st.lists(st.integers(0, 3), max_size=2).map(sorted),
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_spec_and_any_pieces_round_trip(tmp_path, surface, upper, levels, cuts):
    spec, path = StateSpec(surface, upper, levels), tmp_path / "any.zarr"
    values = np.random.default_rng(0).normal(size=(3, len(spec), *GRID.shape))
    mean, std = (of_channel[:, None, None] for of_channel in typical_climate(spec))
    values = (mean + 0.03 * std * values).astype(np.float32)  # air as warm as it is thick
    create_store(path, TIMES[:3], spec, GRID, {})
    for start, end in zip([0, *cuts], [*cuts, 3], strict=True):
        write_states(path, start, values[start:end], spec)
    np.testing.assert_array_equal(WeatherStore(path, spec).read(TIMES[:3]), values)
    shutil.rmtree(path)


# --- real data ------------------------------------------------------------------------------------


def real(name: str) -> Path:
    if REAL is None:
        pytest.skip(f"needs the real state {name} in the directory VAEVAR_REAL_STATES")
    return Path(REAL) / name


def test_a_real_state_of_all_69_channels(tmp_path):
    spec = StateSpec()
    with xr.open_dataset(real("gfs_20111011T00_2p5deg_69ch.nc")) as gfs:
        values = np.stack([gfs[name].values for name in spec.names])
        grid = Grid(gfs["lat"].values, gfs["lon"].values)
    time = np.array(["2011-10-11T00"], "datetime64[h]")
    create_store(tmp_path / "gfs.zarr", time, spec, grid, {})
    write_states(tmp_path / "gfs.zarr", 0, values[None], spec)
    store = WeatherStore(tmp_path / "gfs.zarr", spec)
    assert store.grid == Grid.equiangular(73)
    state = store.state(time[0])
    for channel, field in zip(spec.channels, state.values, strict=True):
        assert float(field.min()) in channel.points, channel.name
        assert float(field.max()) in channel.points, channel.name
    # A real atmosphere: global means within what the seasons allow, by channel.
    means = dict(zip(spec.names, grid.area_mean(state.values).tolist(), strict=True))
    assert means["msl"] == pytest.approx(101_100, abs=400)
    assert means["t2m"] == pytest.approx(288, abs=3)
    assert means["z500"] == pytest.approx(55_400, abs=800)
    assert means["q1000"] > 10 * means["q300"] > 0
    with pytest.raises(ValueError, match=r"wrong channel order|does not fall"):
        type(state)(state.values.flip(0), spec, grid)


def test_a_real_state_that_xarray_converted(tmp_path):
    spec, time = StateSpec(), np.datetime64("2011-10-11T00")
    with xr.open_dataset(real("gfs_20111011T00_2p5deg_69ch.nc")) as file:
        gfs = file.load()
    data = {VARIABLES[name].long_name: gfs[name] for name in spec.surface}
    for name in spec.upper:
        fields = [gfs[f"{name}{level}"] for level in spec.levels]
        data[VARIABLES[name].long_name] = xr.concat(fields, xr.IndexVariable("level", list(spec.levels)))
    ds = xr.Dataset({name: array.variable for name, array in data.items()})
    ds = ds.assign_coords(lat=gfs.lat, lon=gfs.lon, level=list(spec.levels)).expand_dims(time=[time])
    # As no store has it: south first, from -180, levels from below, longitude before latitude.
    ds = ds.isel(lat=slice(None, None, -1), level=slice(None, None, -1)).roll(lon=72, roll_coords=True)
    ds = ds.assign_coords(lon=(ds.lon + 180) % 360 - 180).transpose("time", "level", "lon", "lat")
    path = write(ds, tmp_path / "gfs.zarr")
    store = WeatherStore(path, spec)
    state = store.state(time)
    for name, latitude, longitude in (("z500", 50.0, 10.0), ("t2m", -30.0, 280.0), ("q850", 0.0, 357.5)):
        row = store.grid.latitude.tolist().index(latitude)
        column = store.grid.longitude.tolist().index(longitude)
        expected = gfs[name].sel(lat=latitude, lon=longitude).item()
        assert state.channel(name)[row, column].item() == pytest.approx(expected, rel=1e-6)


def test_era5_upper_air_in_its_own_layout(tmp_path):
    spec = StateSpec(surface=(), upper=("z", "q", "u", "v", "t"))
    with xr.open_dataset(real("era5_tl31_19590102T00.nc")) as era5:
        assert era5["temperature"].dims == ("level", "longitude", "latitude")
        path = write(era5.expand_dims("time").load(), tmp_path / "era5.zarr")
        z500 = era5["geopotential"].sel(level=500).transpose("latitude", "longitude").values[::-1]
        t850 = era5["temperature"].sel(level=850).transpose("latitude", "longitude").values[::-1]
    store = WeatherStore(path, spec)
    assert store.grid == Grid.gaussian(32)
    state = store.state(np.datetime64("1959-01-02T00"))
    np.testing.assert_array_equal(state.channel("z500"), z500)
    np.testing.assert_array_equal(state.channel("t850"), t850)
    # January: the north is colder, and the westerlies blow in both hemispheres.
    assert state.channel("t850")[:8].mean() < state.channel("t850")[-8:].mean()
    assert state.channel("u500")[8].mean() > 5
    assert state.channel("u500")[-8].mean() > 5
    text = message_of(lambda: WeatherStore(path, StateSpec()), path)
    assert "lacks 10m_u_component_of_wind, 10m_v_component_of_wind, 2m_temperature" in text
