"""Changes of a set of observations, as a reader of reports would hand them over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from changes.kinds import Case
from changes.world import OBSERVATIONS

Fields = dict[str, np.ndarray]
Edit = Callable[[Fields], Any]
NO_FILE = "an error std that is possible says nothing of where it comes from"


def cases() -> Iterator[Case]:
    """All of them."""
    for change, edit, names, unknowable in [*_places(), *_values(), *_errors(), *_others()]:
        yield Case(OBSERVATIONS, change, _edited(edit), "analysis", names, unknowable)


def _edited(edit: Edit) -> Callable[[Path], Any]:
    def apply(directory: Path) -> None:
        with np.load(directory / OBSERVATIONS) as file:
            fields = dict(file)
        edit(fields)
        np.savez(directory / OBSERVATIONS, **fields)

    return apply


def _set(name: str, change: Callable[[np.ndarray], np.ndarray], of: str | None = None) -> Edit:
    """Change a field, of one observed variable or of all."""

    def edit(fields: Fields) -> None:
        which = slice(None) if of is None else fields["variable"] == of
        fields[name] = fields[name].copy()
        fields[name][which] = change(fields[name][which])

    return edit


def _exchanged(one: str, other: str) -> Edit:
    return lambda fields: fields.update({one: fields[other], other: fields[one]})


def _places() -> Iterator[tuple[str, Edit, str, str]]:
    yield "pressures in Pa", _set("pressure", lambda x: x * 100), "pressure|hPa", ""
    yield "pressures in kPa", _set("pressure", lambda x: x / 10), "pressure|hPa", ""
    yield "pressures negative", _set("pressure", np.negative), "pressure", ""
    yield "pressures zero", _set("pressure", np.zeros_like, "t"), "pressure", ""
    yield "no pressures for t", _set("pressure", lambda x: x * np.nan, "t"), "pressure", ""
    yield "pressures for msl", _set("pressure", lambda x: np.full_like(x, 1000.0), "msl"), "pressure", ""
    yield "pressures above the top", _set("pressure", lambda x: np.full_like(x, 5.0), "t"), "hPa|pressure", ""
    yield "latitudes and longitudes exchanged", _exchanged("latitude", "longitude"), "latitude", ""
    yield (
        "latitudes in radians",
        _set("latitude", np.radians),
        "latitude",
        "",
    )
    yield (
        "longitudes in radians",
        _set("longitude", np.radians),
        "longitude",
        "",
    )
    yield (
        "a latitude of 95",
        _set("latitude", lambda x: np.where(np.arange(x.size) == 3, 95, x)),
        "latitude",
        "",
    )
    yield (
        "a latitude NaN",
        _set("latitude", lambda x: np.where(np.arange(x.size) == 3, np.nan, x)),
        "latitude",
        "",
    )
    yield (
        "a longitude of 1000",
        _set("longitude", lambda x: np.where(np.arange(x.size) == 3, 1000, x)),
        "longitude",
        "",
    )
    yield (
        "a longitude infinite",
        _set("longitude", lambda x: np.where(np.arange(x.size) == 3, np.inf, x)),
        "longitude",
        "",
    )
    yield "longitudes from −180", _set("longitude", lambda x: (x + 180) % 360 - 180), "longitude", ""


def _values() -> Iterator[tuple[str, Edit, str, str]]:
    yield "t in degrees Celsius", _set("value", lambda x: x - 273.15, "t"), r"\bt\b|t[2-9]", ""
    yield "t2m in degrees Fahrenheit", _set("value", lambda x: x * 1.8 - 459.67, "t2m"), "t2m", ""
    yield "msl in hPa", _set("value", lambda x: x / 100, "msl"), "msl", ""
    yield "z in metres", _set("value", lambda x: x / 9.80665, "z"), "z", ""
    yield "q in g/kg", _set("value", lambda x: x * 1000, "q"), "q", ""
    yield "u in cm/s", _set("value", lambda x: x * 100, "u"), "u", ""
    yield (
        "u in knots",
        _set("value", lambda x: x * 1.94, "u"),
        "u",
        "",
    )
    for number in (np.nan, np.inf, 1e20, -9999.0, 0.0):
        yield f"a t of {number:g}", _one("t", number), r"\bt\b|t[2-9]|value", ""
    yield "an msl of 9.97e36", _one("msl", 9.97e36), "msl", ""
    yield "values of t and msl exchanged", _values_exchanged, "value|t|msl", ""
    yield "values from the last to the first", lambda f: f.update(value=f["value"][::-1]), "value|t|msl", ""
    yield "values shifted by one", lambda f: f.update(value=np.roll(f["value"], 1)), "value|t|msl", ""


def _one(variable: str, number: float) -> Edit:
    return _set("value", lambda x: np.where(np.arange(x.size) == 2, number, x), variable)


def _values_exchanged(fields: Fields) -> None:
    t, msl = (np.flatnonzero(fields["variable"] == name) for name in ("t2m", "msl"))
    new = fields["value"].copy()
    new[t], new[msl] = fields["value"][msl], fields["value"][t]
    fields["value"] = new


def _errors() -> Iterator[tuple[str, Edit, str, str]]:
    yield "errors zero", _set("error_std", np.zeros_like, "t"), "error_std", ""
    yield "errors negative", _set("error_std", np.negative), "error_std", ""
    yield (
        "an error NaN",
        _set("error_std", lambda x: np.where(np.arange(x.size) == 2, np.nan, x)),
        "error_std",
        "",
    )
    yield "errors infinite", _set("error_std", lambda x: x / 0), "error_std", ""
    yield "errors of t of 1e-9 K", _set("error_std", lambda x: x * 0 + 1e-9, "t"), "error_std", ""
    yield "errors of t of 1000 K", _set("error_std", lambda x: x * 1000, "t"), "error_std", ""
    yield "variances for errors of z", _set("error_std", np.square, "z"), "error_std", ""
    yield "variances for errors of q", _set("error_std", np.square, "q"), "error_std", ""
    yield "errors of msl in hPa", _set("error_std", lambda x: x / 100, "msl"), "error_std", ""
    yield "errors of u doubled", _set("error_std", lambda x: x * 2, "u"), "error_std", NO_FILE


def _others() -> Iterator[tuple[str, Edit, str, str]]:
    def name(new: str) -> Edit:
        return lambda f: f.update(variable=np.where(f["variable"] == "t", new, f["variable"]))

    yield "t called T", name("T"), "T", ""
    yield "t called temperature", name("temperature"), "temperature", ""
    yield "t called theta", name("theta"), "theta", ""
    yield "t called z", name("z"), "z", ""
    yield "a value less", lambda f: f.update(value=f["value"][:-1]), "value", ""
    yield (
        "a time offset NaN",
        lambda f: f.update(time_offset=np.full(f["value"].shape, np.nan)),
        "time_offset",
        "",
    )
    yield (
        "time offsets of an hour in seconds",
        lambda f: f.update(time_offset=np.full(f["value"].shape, 3600.0)),
        "time_offset",
        "",
    )
    yield "another order", _shuffled, "order", ""
    yield "no observations", lambda f: f.update({n: v[:0] for n, v in f.items()}), "observ", ""


def _shuffled(fields: Fields) -> None:
    order = np.random.default_rng(0).permutation(fields["value"].size)
    fields.update({name: values[order] for name, values in fields.items()})
