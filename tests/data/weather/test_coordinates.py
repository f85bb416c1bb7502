"""What coordinates say is converted, or refused by name; nothing is read otherwise than it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from tests.data.weather.worlds import GRID, SPEC, TIMES, dataset, message_of, truth, write
from vaevar.data.weather.store import WeatherStore
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

Change = Callable[[xr.Dataset], xr.Dataset]


def coordinate(name: str, change: Callable[[np.ndarray], object], **attrs: str) -> Change:
    return lambda ds: ds.assign_coords({name: (name, change(ds[name].values), attrs)})


def packed(ds: xr.Dataset) -> xr.Dataset:
    for array in ds.data_vars.values():
        low, high = float(array.min()), float(array.max())
        packing = {"scale_factor": (high - low) / 4e9, "add_offset": (high + low) / 2}
        array.encoding = packing | {"dtype": "int32", "_FillValue": -(2**31)}
    return ds


SAME: dict[str, Change] = {
    "levels in Pa": coordinate("level", lambda x: x * 100, units="Pa"),
    "levels in Pa in single precision": coordinate("level", lambda x: np.float32(x) * 100, units="Pascals"),
    "levels in kPa": coordinate("level", lambda x: x / 10, units="kPa"),
    "levels in mb": coordinate("level", lambda x: x, units="millibars"),
    "levels in bar": coordinate("level", lambda x: x / 1000, units="bar"),
    "levels from below in Pa": lambda ds: coordinate("level", lambda x: x * 100, units="Pa")(
        ds.isel(level=slice(None, None, -1))
    ),
    "levels as text": coordinate("level", lambda x: x.astype(str)),
    "plev of CMIP": lambda ds: coordinate("level", lambda x: x * 100.0, units="Pa")(ds).rename(level="plev"),
    "isobaricInhPa of cfgrib": lambda ds: ds.rename(level="isobaricInhPa"),
    "isobaricInPa": lambda ds: coordinate("level", lambda x: x * 100)(ds).rename(level="isobaricInPa"),
    "a level by its standard name": lambda ds: coordinate(
        "level", lambda x: x, units="hPa", standard_name="air_pressure"
    )(ds).rename(level="p_lev"),
    "latitude in degrees south": coordinate("latitude", lambda x: -x, units="degrees_south"),
    "latitude with units": coordinate("latitude", lambda x: x, units="degrees_north"),
    "latitude in degreesN": coordinate("latitude", lambda x: x, units="degreesN"),
    "latitude in degrees": coordinate("latitude", lambda x: x, units="degrees"),
    "longitude in degrees west": coordinate("longitude", lambda x: -x, units="degrees_west"),
    "longitude with units": coordinate("longitude", lambda x: x, units="degrees_east"),
    "both in radians": lambda ds: coordinate("longitude", np.radians, units="radian")(
        coordinate("latitude", np.radians, units="radians")(ds)
    ),
    "longitude westward": lambda ds: ds.isel(longitude=slice(None, None, -1)),
    "longitude westward from 180": lambda ds: coordinate(
        "longitude", lambda x: (x + 180) % 360 - 180
    )(ds.roll(longitude=4, roll_coords=True)).isel(longitude=slice(None, None, -1)),
    "longitude beyond 360": lambda ds: coordinate("longitude", lambda x: np.where(x < 90, x + 360, x))(
        ds.roll(longitude=-2, roll_coords=True)
    ),
    "360 beside 0": lambda ds: ds.pad(longitude=(0, 1), mode="wrap").assign_coords(
        longitude=np.arange(9) * 45.0
    ),
    "180 beside -180": lambda ds: ds.roll(longitude=4, roll_coords=True)
    .pad(longitude=(0, 1), mode="wrap")
    .assign_coords(longitude=np.arange(-4, 5) * 45.0),
    "one member": lambda ds: ds.expand_dims(number=1, axis=1),
    "a member that was picked": lambda ds: ds.assign_coords(number=3, surface=0.0),
    "one height": lambda ds: ds.assign({"2m_temperature": ds["2m_temperature"].expand_dims(height=[2.0])}),
    "packed as integers": packed,
    "kelvin": lambda ds: ds.assign(temperature=ds.temperature.assign_attrs(units="Kelvin")),
}  # fmt: skip


@pytest.mark.parametrize("layout", SAME)
def test_the_same_world_in_other_coordinates(tmp_path, layout):
    store = WeatherStore(write(SAME[layout](dataset()), tmp_path / "store.zarr"), SPEC)
    assert store.grid == GRID
    np.testing.assert_allclose(store.read(TIMES), truth(), rtol=0, atol=0.9 if "packed" in layout else 0)


def units_of(name: str, units: str) -> Change:
    return lambda ds: ds.assign({name: ds[name].assign_attrs(units=units)})


WRONG: dict[str, tuple[Change, str]] = {
    "hybrid levels": (
        coordinate("level", lambda x: x, standard_name="atmosphere_hybrid_sigma_pressure_coordinate"),
        "expected pressures; interpolate to pressure levels first",
    ),
    "model levels": (coordinate("level", lambda x: x, long_name="model level"), "level holds 'model level'"),
    "altitudes": (coordinate("level", lambda x: x, units="m"), "level is in 'm', expected a pressure"),
    "numbers of levels": (coordinate("level", lambda x: x, units="1"), "level is in '1', expected"),
    "levels in Pa said to be hPa": (
        coordinate("level", lambda x: x * 100, units="hPa"),
        "level reaches from 20000 to 85000 hPa, expected pressures up to 1200 hPa",
    ),
    "levels in hPa said to be Pa": (
        coordinate("level", lambda x: x, units="Pa"),
        "lacks the levels [200, 500, 850] hPa; it has [2, 5, 8.5]",
    ),
    "levels that are words": (coordinate("level", lambda x: ["a", "b", "c"]), "level holds ['a', 'b', 'c']"),
    "hybrid alone": (lambda ds: ds.rename(level="hybrid"), "hybrid: no pressure"),
    "latitude in metres": (coordinate("latitude", lambda x: x, units="m"), "latitude is in 'm'"),
    "latitude in degrees east": (
        coordinate("latitude", lambda x: x, units="degrees_east"),
        "latitude is in 'degrees_east', expected degrees_north",
    ),
    "longitude in degrees north": (
        coordinate("longitude", lambda x: x, units="degrees_north"),
        "longitude is in 'degrees_north', expected degrees_east",
    ),
    "radians without units": (
        lambda ds: coordinate("longitude", np.radians)(coordinate("latitude", np.radians)(ds)),
        "they look like radians: give them the units 'radians'",
    ),
    "swapped": (lambda ds: ds.rename(latitude="longitude", longitude="latitude"), "they are swapped"),
    "a band of latitudes": (lambda ds: ds.isel(latitude=slice(0, 2)), "short of the pole: a region"),
    "half of the circle": (lambda ds: ds.isel(longitude=slice(0, 4)), "around the circle in even steps"),
    "a longitude twice": (
        coordinate("longitude", lambda x: np.where(x == 90, 45, x)), "around the circle in even steps"
    ),
    "latitudes out of order": (lambda ds: ds.isel(latitude=[0, 2, 1, 3]), "latitude must descend"),
    "a row that is missing": (
        lambda ds: xr.concat([ds, ds], "latitude").isel(latitude=[0, 1, 3, 4, 5, 6, 7]).assign_coords(
            latitude=[80.0, 60.0, 20.0, 0.0, -20.0, -40.0, -60.0]
        ),
        "a row seems to be missing",
    ),
    "a latitude that is no number": (
        coordinate("latitude", lambda x: np.where(x == x[1], np.nan, x)), "latitude must descend"
    ),
    "a curvilinear grid": (
        lambda ds: ds.rename(latitude="y", longitude="x").drop_vars(["y", "x"]).assign_coords(
            latitude=(("y", "x"), np.zeros((4, 8))), longitude=(("y", "x"), np.zeros((4, 8)))
        ),
        "no dimension 'latitude' with coordinates",
    ),
    "members": (lambda ds: ds.expand_dims(number=2, axis=1), "choose a member with ds.isel(number=0)"),
    "short names": (
        lambda ds: ds.rename({"2m_temperature": "t2m", "geopotential": "z"}),
        "rename them with ds.rename({'t2m': '2m_temperature', 'z': 'geopotential'})",
    ),
    "hPa": (units_of("mean_sea_level_pressure", "hPa"), "expected 'Pa'; multiply it by 100 and convert"),
    "degrees Celsius": (units_of("temperature", "degC"), "expected 'K'; add 273.15 and convert"),
    "geopotential height": (units_of("geopotential", "gpm"), "multiply it by 9.80665 and convert"),
    "other units": (units_of("temperature", "furlong"), "is in 'furlong', expected 'K'; convert the store"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_understood_is_named(tmp_path, kind):
    change, says = WRONG[kind]
    path = write(change(dataset()), tmp_path / "store.zarr")
    assert says in message_of(lambda: WeatherStore(path, SPEC), path)


def test_knots_and_grams_are_named_with_their_factor(tmp_path):
    ds = dataset().rename({"2m_temperature": "10m_u_component_of_wind", "temperature": "specific_humidity"})
    ds["10m_u_component_of_wind"].attrs["units"] = "knots"
    ds["specific_humidity"].attrs["units"] = "g kg-1"
    path = write(ds, tmp_path / "store.zarr")
    for spec, says in ((StateSpec(("u10",), ()), "0.514444"), (StateSpec((), ("q",), (500,)), "0.001")):
        text = message_of(lambda spec=spec: WeatherStore(path, spec), path)
        assert f"multiply it by {says} and convert the store" in text


def test_numbers_of_model_levels_are_no_pressures(tmp_path):
    ds = dataset().reindex(level=np.arange(1, 138), fill_value=250.0)
    path = write(ds, tmp_path / "store.zarr")
    text = message_of(lambda: WeatherStore(path, StateSpec((), ("t",), (50, 100))), path)
    assert "its numbers, 1 to 137, look like the numbers of model levels" in text
    # What is on the surface does not care.
    assert WeatherStore(path, StateSpec(("t2m",), ())).read(TIMES).shape == (5, 1, 4, 8)


@pytest.mark.parametrize("grid", [Grid.cells(4), Grid.equiangular(5), Grid.regular(4, 8)], ids=str)
def test_grids_of_every_family(tmp_path, grid):
    ds = dataset()
    rows = np.resize(np.arange(4), grid.shape[0])
    ds = ds.isel(latitude=rows).assign_coords(latitude=grid.latitude, longitude=grid.longitude)
    for name, layout in (("north first", ds), ("south first", ds.isel(latitude=slice(None, None, -1)))):
        store = WeatherStore(write(layout, tmp_path / f"{name}.zarr"), SPEC)
        assert store.grid == grid
        np.testing.assert_array_equal(store.read(TIMES), truth()[:, :, rows])
