"""When the fields of a store are valid: its times, and of forecasts their leads.

A store of forecasts says in one of several ways how old they are: by a lead, by the time at which they began,
or by the time at which they are valid. What several of them say must fit together.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from vaevar.errors import UserError
from vaevar.state.coordinates import check_dimension

TIME_UNITS = "hours since 1959-01-01"
LEAD = "prediction_timedelta"
_HOURS_BY_NAME = ("forecast_hour", "fhour", "fhr", "fxx")
_LEADS = (LEAD, "step", "lead_time", "leadtime", "lead", "forecast_period", "forecast_lead", *_HOURS_BY_NAME)
_BEGAN = (
    "forecast_reference_time",
    "reference_time",
    "initial_time",
    "init_time",
    "initialization_time",
    "analysis_time",
    "base_time",
)
_VALID = ("valid_time", "validity_time", "verification_time")
_STANDARD_NAMES = {"forecast_period": _LEADS, "forecast_reference_time": _BEGAN}
_HOURS = ("h", "hr", "hrs", "hour", "hours")
_SECOND, _HOUR = np.timedelta64(1, "s"), np.timedelta64(1, "h")
_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")


def at_lead(dataset: xr.Dataset, path: str, lead_hours: int | None) -> xr.Dataset:
    """A dataset of states, or of forecasts of one lead, at the times at which they are valid.

    Args:
        dataset: as it was opened.
        path: for messages.
        lead_hours: the lead to read. None: the dataset holds states, or forecasts of 0 h.

    Returns:
        the dataset with one dimension of time, whose coordinates are datetime64[ns], rounded to the second.

    Raises:
        UserError: for times that cannot be understood, a lead that is not there, and forecasts without
            ``lead_hours``.
    """
    dataset = _with_time(dataset)
    check_dimension(dataset, "time", path)
    time = xr.Variable("time", _times(dataset["time"], path))
    began, valid = (_of_kind(dataset, names, path) for names in (_BEGAN, _VALID))
    lead = _of_kind(dataset, _LEADS, path)
    known = [kind for kind in (lead, began, valid) if kind is not None]
    _check_nothing_else(dataset, [name for name, _ in known], path)
    if not known:
        if lead_hours is not None:
            raise UserError(
                f"{path}: holds states, not forecasts (no dimension {LEAD!r}), so there is no lead of "
                f"{lead_hours} h; leave lead_hours out"
            )
        return dataset.assign_coords(time=time)
    names = " and ".join(name for name, _ in known)
    valid_at, leads = _understood(time, lead, began, valid, path)
    chosen = _chosen(leads, lead_hours, names, path)
    dataset = dataset.isel(chosen).drop_vars([name for name, _ in known], errors="ignore")
    sizes = {name: size for one in (leads, valid_at, time) for name, size in one.sizes.items()}
    return dataset.assign_coords(time=valid_at.set_dims(sizes).isel(chosen))


def _with_time(dataset: xr.Dataset) -> xr.Dataset:
    """With a dimension ``time``, which others call by what it means."""
    if "time" in dataset.variables or "time" in dataset.dims:
        return dataset
    for name in (*_VALID, *_BEGAN):
        if name in dataset.coords and dataset[name].dims == (name,):
            # Kept under its own name too, for what it says.
            return dataset.rename({name: "time"}).assign_coords({name: ("time", dataset[name].values)})
    return dataset


def _times(time: xr.DataArray, path: str) -> np.ndarray:
    """Times of any type, datetime64[ns], rounded to the second."""
    values = time.values
    if values.size and hasattr(values.flat[0], "calendar"):  # of the package cftime
        calendar = values.flat[0].calendar
        if calendar not in _CALENDARS:
            raise UserError(
                f"{path}: {time.name} is in the calendar {calendar!r}, expected the standard one; convert it "
                "with ds.convert_calendar('standard')"
            )
        flat = [np.datetime64(one.isoformat(), "ns") for one in values.flat]
        values = np.array(flat).reshape(values.shape)
    if values.size == 0 or values.dtype.kind != "M":
        raise UserError(
            f"{path}: {time.name} holds {values.size} values of type {values.dtype}, expected dates, "
            f"such as integers with the units {TIME_UNITS!r}"
        )
    if np.isnat(values).any():
        raise UserError(
            f"{path}: {time.name} has {int(np.isnat(values).sum())} missing values, expected dates"
        )
    # Decimal days are never quite on the second.
    nanoseconds = values.astype("datetime64[ns]").astype(np.int64)
    return ((nanoseconds + 500_000_000) // 10**9 * 10**9).astype("datetime64[ns]")


def _of_kind(dataset: xr.Dataset, names: tuple[str, ...], path: str) -> tuple[str, xr.Variable] | None:
    """What says one of these, by its name or its CF standard name; None when nothing does."""
    standard = {
        str(name)
        for name, variable in dataset.variables.items()
        if _STANDARD_NAMES.get(str(variable.attrs.get("standard_name"))) is names
    }
    found = sorted({name for name in names if name in dataset.variables or name in dataset.dims} | standard)
    if not found:
        return None
    if len(found) > 1:
        raise UserError(f"{path}: {' and '.join(found)} say the same thing; leave one of them in the store")
    array = dataset[found[0]]
    values = _differences(array, path) if names is _LEADS else _times(array, path)
    return found[0], xr.Variable(array.dims, values)


def _differences(lead: xr.DataArray, path: str) -> np.ndarray:
    """Leads of any type, timedelta64[ns], rounded to the second."""
    values, units = lead.values, str(lead.attrs.get("units", "")).lower()
    in_hours = units in _HOURS or (not units and lead.name in _HOURS_BY_NAME)
    if values.dtype.kind in "iuf" and in_hours:
        values = np.round(values.astype(np.float64) * 3600.0).astype("timedelta64[s]")
    if values.dtype.kind != "m":
        raise UserError(
            f"{path}: {lead.name} holds {values.dtype}, expected time differences with units, such as hours"
        )
    if np.isnat(values).any():
        raise UserError(f"{path}: {lead.name} has {int(np.isnat(values).sum())} missing values")
    nanoseconds = values.astype("timedelta64[ns]").astype(np.int64)
    return ((nanoseconds + 500_000_000) // 10**9 * 10**9).astype("timedelta64[ns]")


def _check_nothing_else(dataset: xr.Dataset, known: list[str], path: str) -> None:
    """Refuse other coordinates that say when something was: nobody knows which of them counts."""
    for name, coordinate in dataset.coords.items():
        if name == "time" or name in known:
            continue
        along = coordinate.dims == ("time",) and not np.array_equal(coordinate.values, dataset["time"].values)
        if coordinate.dtype.kind == "m" or (coordinate.dtype.kind == "M" and along):
            raise UserError(
                f"{path}: the meaning of its coordinate {name} is not known; call it {LEAD} if it is a lead, "
                f"{_BEGAN[0]} if the forecasts began then, {_VALID[0]} if they are valid then, or drop it"
            )


def _understood(
    time: xr.Variable,
    lead: tuple[str, xr.Variable] | None,
    began: tuple[str, xr.Variable] | None,
    valid: tuple[str, xr.Variable] | None,
    path: str,
) -> tuple[xr.Variable, xr.Variable]:
    """When each field is valid, and its lead, from what is known of them."""
    times_are_valid = began is not None and not bool((began[1] == time).all())
    if valid is not None:
        valid_at = valid[1]
    elif lead is None or times_are_valid:
        valid_at = time
    else:
        valid_at = time + lead[1]
        if bool((lead[1] != _SECOND * 0).any()) and began is None:
            _check_begins(*lead, path)
    age = None if lead is None else lead[1]
    if began is not None:
        leads = valid_at - began[1]
    elif age is not None:
        leads = age
    else:
        leads = valid_at - time
    says = " and ".join(kind[0] for kind in (lead, began, valid) if kind is not None)
    if age is not None and bool((leads != age).any()):
        raise UserError(f"{path}: time, {says} do not fit together; correct them, or drop what is wrong")
    if not bool((valid_at == time).all()) and not bool((valid_at - leads == time).all()):
        raise UserError(
            f"{path}: time is neither when its forecasts began nor when they are valid by {says}; correct "
            "them, or drop what is wrong"
        )
    return valid_at, leads


def _check_begins(name: str, lead: xr.Variable, path: str) -> None:
    """Time is when forecasts began, as in WeatherBench 2 and cfgrib, where nothing speaks against it."""
    if name == "forecast_period" or "time" in lead.dims:
        raise UserError(
            f"{path}: holds forecasts, of {_text(lead.values)} by {name}, and whether time is when they "
            f"began or when they are valid is not known; add the coordinate {_BEGAN[0]} or {_VALID[0]}"
        )


def _chosen(leads: xr.Variable, lead_hours: int | None, names: str, path: str) -> dict[str, int | np.ndarray]:
    """What to pick, by dimension, so that one lead is left."""
    if lead_hours is None and bool((leads != _SECOND * 0).any()):
        raise UserError(
            f"{path}: holds forecasts, of {_text(leads.values)}; say with lead_hours which to read, or drop "
            f"{names} if they are states"
        )
    wanted = (leads == (lead_hours or 0) * _HOUR).transpose("time", ..., missing_dims="ignore")
    others = [str(name) for name in wanted.dims if name != "time"]
    if not others and (positions := np.flatnonzero(wanted.values)).size:
        return {} if positions.size == wanted.size else {"time": positions}
    if len(others) == 1:
        always = wanted.values.all(axis=0) if "time" in wanted.dims else wanted.values
        if (positions := np.flatnonzero(always)).size == 1:
            return {others[0]: int(positions[0])}
    raise UserError(
        f"{path}: has no forecasts of {lead_hours or 0} h; it has {_text(leads.values)}; set lead_hours to "
        "one of them"
    )


def _text(leads: np.ndarray) -> str:
    """Such as ``0 to 240 h, every 6 h``."""
    hours = np.unique(leads) / _HOUR
    steps = np.unique(np.diff(hours))
    if hours.size > 3 and steps.size == 1:
        return f"{hours[0]:g} to {hours[-1]:g} h, every {steps[0]:g} h"
    if hours.size > 12:
        return f"{hours[0]:g} to {hours[-1]:g} h, {hours.size} of them"
    return f"{', '.join(f'{hour:g}' for hour in hours)} h"
