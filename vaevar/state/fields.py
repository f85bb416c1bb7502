"""Finds the fields of a state in a store, by the long names, units and dimensions of WeatherBench 2."""

from __future__ import annotations

import re

import xarray as xr

from vaevar.errors import UserError
from vaevar.state.coordinates import levels_in_hpa
from vaevar.state.spec import VARIABLES, StateSpec

# Short names in files of ECMWF, of the CDS and of CMIP.
_OTHER_NAMES = {
    "u10": ("u10", "10u", "uas"),
    "v10": ("v10", "10v", "vas"),
    "t2m": ("t2m", "2t", "tas"),
    "msl": ("msl", "prmsl", "psl"),
    "z": ("z",),
    "q": ("q", "hus"),
    "u": ("u", "ua"),
    "v": ("v", "va"),
    "t": ("t", "ta"),
}
_SAME_UNITS = {"kelvin": "k", "degk": "k", "pascal": "pa", "pascals": "pa", "jkg-1": "m2s-2", "j/kg": "m2s-2"}
_HUNDRED = "multiply it by 100"
_CELSIUS, _HEIGHT, _GRAMS = "add 273.15", "multiply it by 9.80665", "multiply it by 0.001"
# From other units to a store's, by both in one spelling.
_CONVERSIONS = {
    "k": dict.fromkeys(
        ("c", "°c", "degc", "celsius", "degreescelsius", "degree_celsius", "degrees_c"), _CELSIUS
    ),
    "pa": dict.fromkeys(("hpa", "mb", "mbar", "millibar", "millibars", "hectopascal"), _HUNDRED)
    | {"kpa": "multiply it by 1000"},
    "m2s-2": dict.fromkeys(("m", "gpm", "meter", "meters", "metre", "metres"), _HEIGHT)
    | dict.fromkeys(("dam", "gpdm"), "multiply it by 98.0665"),
    "kgkg-1": dict.fromkeys(("gkg-1",), _GRAMS),
    "ms-1": dict.fromkeys(("knot", "knots", "kt", "kts", "kn"), "multiply it by 0.514444")
    | {"kmh-1": "divide it by 3.6"},
}
_MEMBERS = ("number", "realization", "realisation", "member", "ensemble", "ens", "sample")


def fields_of(dataset: xr.Dataset, spec: StateSpec, path: str) -> dict[str, xr.DataArray]:
    """The arrays of the variables, by short name: [T, H, W], in the upper air [T, L, H, W].

    Args:
        dataset: with this package's names of coordinates.
        spec: the channels.
        path: for messages.

    Raises:
        UserError: when a variable or level is missing, or has other units or more dimensions.
    """
    names = (*spec.surface, *spec.upper)
    missing = [name for name in names if VARIABLES[name].long_name not in dataset.data_vars]
    if missing:
        raise UserError(f"{path}: lacks {_listed(missing)}; {_instead(dataset, missing)}")
    positions = _positions(dataset, spec, path) if spec.upper else []
    arrays = {}
    for name in names:
        array = dataset[VARIABLES[name].long_name]
        _check_units(array, name, path)
        dims = ("time", *(("level",) if name in spec.upper else ()), "latitude", "longitude")
        # A dimension of one member, or one height, chooses nothing.
        single = [dim for dim in array.dims if dim not in ("level", *dims) and array.sizes[dim] == 1]
        array = array.isel(dict.fromkeys(single, 0))
        _check_dimensions(array, dims, path)
        if name in spec.upper:
            array = array.isel(level=slice_if_run(positions))
        arrays[name] = array.transpose(*dims)
    return arrays


def slice_if_run(positions: list[int]) -> slice | list[int]:
    """Consecutive positions as a slice: zarr reads it in half the time, with one copy less in memory."""
    run = positions and positions == list(range(positions[0], positions[0] + len(positions)))
    return slice(positions[0], positions[-1] + 1) if run else positions


def _positions(dataset: xr.Dataset, spec: StateSpec, path: str) -> list[int]:
    levels = levels_in_hpa(dataset, path)
    absent = [level for level in spec.levels if levels.count(level) == 0]
    if absent:
        has = ", ".join(f"{level:g}" for level in sorted(levels))
        raise UserError(f"{path}: lacks the levels {absent} hPa; it has [{has}]")
    repeated = [level for level in spec.levels if levels.count(level) > 1]
    if repeated:
        raise UserError(
            f"{path}: has the levels {repeated} hPa more than once; leave one of each in the store"
        )
    return [levels.index(level) for level in spec.levels]


def _check_units(array: xr.DataArray, name: str, path: str) -> None:
    expected = VARIABLES[name].units
    units = str(array.attrs.get("units", expected))
    plain = _plain(units)
    if _SAME_UNITS.get(plain, plain) != _plain(expected):
        conversion = _CONVERSIONS[_plain(expected)].get(plain)
        advice = f"{conversion} and " if conversion else ""
        raise UserError(
            f"{path}: {array.name} is in {units!r}, expected {expected!r}; {advice}convert the store to "
            "WeatherBench 2 units"
        )


def _check_dimensions(array: xr.DataArray, expected: tuple[str, ...], path: str) -> None:
    if set(array.dims) == set(expected):
        return
    more = [f"{dim} ({array.sizes[dim]})" for dim in array.dims if dim not in expected]
    members = [dim for dim in array.dims if dim in _MEMBERS]
    advice = f"; choose a member with ds.isel({members[0]}=0)" if members else ""
    listed = f"; choose one of each: {', '.join(more)}" if more and not members else advice
    raise UserError(
        f"{path}: {array.name} has the dimensions {', '.join(map(str, array.dims))}; "
        f"expected {', '.join(sorted(expected))}{listed}"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(VARIABLES[name].long_name for name in names)


def _instead(dataset: xr.Dataset, missing: list[str]) -> str:
    """What a store has instead, with the command that gives it the names expected here."""
    renamed = under_other_names(dataset, missing)
    has = f"it has {', '.join(map(str, dataset.data_vars)) or 'no variables'}"
    return f"{has}; rename them with ds.rename({renamed})" if renamed else has


def under_other_names(dataset: xr.Dataset, names: list[str]) -> dict[str, str]:
    """What a dataset has of variables under the short names of other archives, with the names expected here.

    Args:
        dataset: of any origin.
        names: of the variables, such as ``t``.
    """
    return {
        other: VARIABLES[name].long_name
        for name in names
        for other in _OTHER_NAMES[name]
        if other in dataset.data_vars
    }


def _plain(units: str) -> str:
    """Units in one spelling: the same for ``m s**-1``, ``m s-1``, ``m s^-1`` and ``m/s``."""
    powers = re.sub(r"/\s*([a-zA-Z]+)[*^]*(\d*)", lambda m: f"{m[1]}-{m[2] or 1}", units)
    return powers.replace("**", "").replace("^", "").replace(" ", "").lower()
