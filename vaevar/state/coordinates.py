"""What the coordinates of a store say: names, units and order, made one or refused by name.

Afterwards ``latitude`` and ``longitude`` are in degrees north and east, and ``level`` is in hPa.
"""

from __future__ import annotations

import re

import numpy as np
import xarray as xr

from vaevar.errors import UserError
from vaevar.sphere.grid import Grid

# Other names of dimensions, most usual first.
_NAMES = {
    "latitude": ("lat", "rlat", "nav_lat"),
    "longitude": ("lon", "rlon", "nav_lon"),
    "level": (
        "pressure_level",
        "plev",
        "isobaricInhPa",
        "isobaricInPa",
        "isobaric",
        "air_pressure",
        "pressure",
        "pres",
        "levels",
        "lev",
    ),
}
_STANDARD_NAMES = {"latitude": "latitude", "longitude": "longitude", "air_pressure": "level"}
# How many degrees north or east one is, of units in small letters without spaces and underlines.
_DEGREES = {
    **dict.fromkeys(("degree", "degrees", "deg", "°"), 1.0),
    **dict.fromkeys(("radian", "radians", "rad"), 180.0 / np.pi),
}


def _with_direction(**signs: float) -> dict[str, float]:
    words = ("degree", "degrees", "deg", "°")
    pointing = {word + end: sign for name, sign in signs.items() for word in words for end in (name, name[0])}
    return pointing | _DEGREES  # degrees is not degree of the south


_ANGLES = {
    "latitude": _with_direction(north=1.0, south=-1.0),
    "longitude": _with_direction(east=1.0, west=-1.0),
}
# How many hPa one is.
_PRESSURES = {
    **dict.fromkeys(("hpa", "mb", "mbar", "millibar", "millibars", "hectopascal", "hectopascals"), 1.0),
    **dict.fromkeys(("pa", "pascal", "pascals"), 0.01),
    **dict.fromkeys(("kpa", "kilopascal", "kilopascals"), 10.0),
    **dict.fromkeys(("bar", "bars"), 1000.0),
}
_NOT_PRESSURE = re.compile(r"hybrid|sigma|model.?level|eta\b|height|altitude|depth|isentropic|theta")
_HIGHEST_PRESSURE = 1200.0  # hPa
_ROUNDING = 1e-3  # degrees


def named(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with this package's names of latitude, longitude and level."""
    for name, others in _NAMES.items():
        if name in dataset.variables or name in dataset.dims:
            continue
        known = [other for other in others if other in dataset.variables or other in dataset.dims]
        known += [
            str(other)
            for other, variable in dataset.variables.items()
            if variable.dims == (other,)
            and _STANDARD_NAMES.get(str(variable.attrs.get("standard_name"))) == name
        ]
        if known:
            units = {"isobaricInPa": "Pa", "isobaricInhPa": "hPa"}.get(known[0])
            dataset = dataset.rename({known[0]: name})
            if units and name in dataset.variables:
                dataset[name].attrs.setdefault("units", units)
    return dataset


def check_dimension(dataset: xr.Dataset, name: str, path: str) -> None:
    """Check that a dimension has coordinates.

    Raises:
        UserError: when it has none, or there is no such dimension.
    """
    if name in dataset.coords and dataset[name].dims == (name,):
        return
    found = ", ".join(sorted(map(str, dataset.coords))) or "none"
    if name in dataset.coords and dataset[name].ndim == 0:
        advice = f"{name} is a single value: make it a dimension with ds.expand_dims({name!r})"
    elif name == "level" and (other := [c for c in map(str, dataset.coords) if _NOT_PRESSURE.search(c)]):
        advice = f"{', '.join(other)}: no pressure; interpolate to pressure levels first"
    else:
        advice = "expected a WeatherBench 2 store"
    raise UserError(f"{path}: no dimension {name!r} with coordinates; its coordinates are {found}; {advice}")


def on_a_grid(dataset: xr.Dataset, path: str) -> tuple[xr.Dataset, Grid, bool, int]:
    """The grid of a dataset, and how its fields come to lie on it.

    Returns:
        the dataset with its columns eastward, each once; the grid; whether the rows of the dataset run from
        south to north; and how far to roll its columns for the first to be the grid's.

    Raises:
        UserError: for coordinates in other units or of no grid around the sphere.
    """
    for name in ("latitude", "longitude"):
        check_dimension(dataset, name, path)
    latitude = _degrees(dataset["latitude"], path)
    longitude = _degrees(dataset["longitude"], path)
    if np.abs(latitude).max(initial=0.0) > 90.0 + _ROUNDING and np.abs(longitude).max(initial=0.0) <= 90.0:
        raise UserError(
            f"{path}: latitude reaches {_span(latitude)}, and longitude {_span(longitude)}: they are swapped"
        )
    if longitude.size > 1 and np.allclose(
        np.mod(longitude[0] - longitude[-1], 360.0) % 360.0, 0.0, atol=_ROUNDING
    ):
        # The meridian that the circle begins with, again.
        dataset, longitude = dataset.isel(longitude=slice(0, -1)), longitude[:-1]
    if longitude.size > 1 and np.all(np.mod(np.diff(longitude), 360.0) > 180.0):
        dataset, longitude = dataset.isel(longitude=slice(None, None, -1)), longitude[::-1]
    steps = np.abs(np.diff(latitude))
    if steps.size and steps.max() > 1.5 * np.median(steps):
        after = latitude[int(steps.argmax())]
        raise UserError(
            f"{path}: latitude jumps by {steps.max():g} after {after:g}, where its steps are "
            f"{np.median(steps):g}: a row seems to be missing"
        )
    flip = bool(latitude.size and latitude[0] < latitude[-1])
    longitude = _from_0_to_360(longitude)
    # Columns from the store's first longitude to the grid's, counted westward.
    roll = -int(longitude.argmin()) if longitude.size else 0
    try:
        grid = Grid(latitude[::-1] if flip else latitude, np.roll(longitude, roll))
    except ValueError as error:
        hint = ""
        if np.abs(latitude).max(initial=0.0) < 1.6 and "units" not in dataset["latitude"].attrs:
            hint = "; they look like radians: give them the units 'radians'"
        raise UserError(
            f"{path}: {error} (latitude {_span(latitude)}, longitude {_span(longitude)}){hint}"
        ) from None
    return dataset, grid, flip, roll


def levels_in_hpa(dataset: xr.Dataset, path: str) -> list[float]:
    """The pressure of each level, hPa, in the order of the dataset.

    Raises:
        UserError: when the levels are no pressures, or in units that are not known.
    """
    check_dimension(dataset, "level", path)
    level = dataset["level"]
    attributes = {
        key: str(level.attrs[key]) for key in ("standard_name", "long_name", "units") if key in level.attrs
    }
    for key in ("standard_name", "long_name"):
        if _NOT_PRESSURE.search(attributes.get(key, "").lower()):
            raise UserError(
                f"{path}: level holds {attributes[key]!r}, expected pressures; interpolate to pressure "
                "levels first"
            )
    try:
        values = np.array([float(value) for value in level.values.tolist()])
    except (TypeError, ValueError):
        raise UserError(
            f"{path}: level holds {level.values[:3].tolist()}, expected pressures, numbers in hPa"
        ) from None
    units = attributes.get("units", "").strip()
    if not units:
        _check_without_units(values, path)
    elif units.lower() not in _PRESSURES:
        raise UserError(f"{path}: level is in {units!r}, expected a pressure: hPa, mb, Pa or kPa")
    # Rounded: 92500 Pa in single precision are 925 hPa.
    pressures = [round(float(value), 3) for value in values * _PRESSURES[(units or "hPa").lower()]]
    if pressures and not (min(pressures) > 0 and max(pressures) <= _HIGHEST_PRESSURE):
        raise UserError(
            f"{path}: level reaches from {min(pressures):g} to {max(pressures):g} hPa, expected pressures up "
            f"to {_HIGHEST_PRESSURE:g} hPa; set the units that its numbers have (it says {units or 'none'})"
        )
    return pressures


def _check_without_units(values: np.ndarray, path: str) -> None:
    """Numbers without units are hPa, unless they cannot be."""
    what = ""
    if values.max(initial=0.0) > _HIGHEST_PRESSURE:
        what = "cannot be hPa"
    elif values.size >= 10 and np.array_equal(np.sort(values), np.arange(values.size) + values.min()):
        what = "look like the numbers of model levels"
    if what:
        raise UserError(
            f"{path}: level has no units, and its numbers, {values.min():g} to {values.max():g}, {what}; "
            "give it the attribute units, such as 'Pa' or 'hPa'"
        )


def _degrees(coordinate: xr.DataArray, path: str) -> np.ndarray:
    name, units = str(coordinate.name), str(coordinate.attrs.get("units", "degrees"))
    known = _ANGLES[name]
    plain = units.strip().lower().replace(" ", "").replace("_", "")
    if plain not in known:
        raise UserError(
            f"{path}: {name} is in {units!r}, expected degrees_{'north' if name == 'latitude' else 'east'}"
        )
    try:
        return np.asarray(coordinate.values, dtype=np.float64) * known[plain]
    except (TypeError, ValueError):
        raise UserError(f"{path}: {name} holds {coordinate.dtype}, expected numbers in degrees") from None


def _from_0_to_360(longitude: np.ndarray) -> np.ndarray:
    """Degrees east in [0, 360); slightly less than 0 is 0 that was rounded, not 360."""
    return np.clip(np.mod(longitude + _ROUNDING, 360.0) - _ROUNDING, 0.0, None)


def _span(values: np.ndarray) -> str:
    return f"{values[0]:g} to {values[-1]:g}" if values.size else "no values"
