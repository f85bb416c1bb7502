"""Changes of the file of B: what it says, its numbers and its bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from changes.damage import bit_flipped, damaged
from changes.kinds import Case

B = "covariance.nc"
Edit = Callable[[xr.Dataset], xr.Dataset]


def cases() -> Iterator[Case]:
    """All of them."""
    for change, edit in [*_labels(), *_numbers()]:
        yield Case(B, change, _edited(edit), "cycle", f"{B}|arm threedvar")
    for change, apply in _bytes():
        yield Case(B, change, apply, "cycle", B)


def _edited(edit: Edit) -> Callable[[Path], Any]:
    def apply(directory: Path) -> None:
        with xr.open_dataset(directory / B, engine="scipy") as opened:
            dataset = opened.load()
        edit(dataset).to_netcdf(directory / B, engine="scipy", format="NETCDF3_64BIT")

    return apply


def _values(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    return lambda dataset: dataset.assign({name: dataset[name].copy(data=change(dataset[name].values))})


def _coordinate(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    return lambda d: d.assign_coords({name: (d[name].dims, change(d[name].values), d[name].attrs)})


def _labels() -> Iterator[tuple[str, Edit]]:
    yield "channels from the last to the first", _coordinate("channel", lambda x: x[::-1])
    yield "variables from the last to the first", _coordinate("variable", lambda x: x[::-1])
    yield "says q before z", lambda d: d.assign_attrs(upper="q z u v t")
    yield "says other levels", lambda d: d.assign_attrs(levels_hPa="250 500 850")
    yield "says levels in Pa", lambda d: d.assign_attrs(levels_hPa="30000 50000 85000")
    yield "says levels from below", lambda d: d.assign_attrs(levels_hPa="850 500 300")
    yield "says msl in hPa", _coordinate("channel_units", lambda x: np.where(x == "Pa", "hPa", x))
    yield "says t in degC", _coordinate("channel_units", lambda x: np.where(x == "K", "degC", x))
    yield "another format", lambda d: d.assign_attrs(format="vaevar-covariance-1")
    yield "no format", lambda d: d.assign_attrs(format="")
    yield "latitudes from south to north", _coordinate("latitude", lambda x: x[::-1])
    yield "latitudes in radians", _coordinate("latitude", np.radians)
    yield "latitudes equally spaced", _coordinate("latitude", lambda x: np.linspace(90, -90, x.size))
    yield "longitudes in radians", _coordinate("longitude", np.radians)
    yield "longitudes half a step further", _coordinate("longitude", lambda x: x + 5.6)
    yield "wavenumbers from the last to the first", _coordinate("wavenumber", lambda x: x[::-1])
    yield "another provenance", lambda d: d.assign_attrs(provenance=json.dumps({"samples": 5}))


def _numbers() -> Iterator[tuple[str, Edit]]:
    for name in ("standard_deviation", "channel_std", "rescaling"):
        yield f"{name} a thousand times as large", _values(name, lambda x: x * 1000)
        yield f"{name} twice as large", _values(name, lambda x: x * 2)
        yield f"{name} from the last channel to the first", _values(name, lambda x: x[::-1])
        yield f"{name} negative", _values(name, np.negative)
        yield (
            f"{name} with a zero",
            _values(name, lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, 0, x)),
        )
        yield f"{name} from south to north", _values(name, lambda x: x[:, ::-1])
        yield (
            f"{name} with a NaN",
            _values(name, lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, np.nan, x)),
        )
    yield "spectral_covariance twice as large", _values("spectral_covariance", lambda x: x * 2)
    yield "spectral_covariance with its sign turned", _values("spectral_covariance", np.negative)
    yield "spectral_covariance not symmetric", _values("spectral_covariance", lambda x: np.triu(x))
    yield (
        "spectral_covariance from the last wavenumber to the first",
        _values("spectral_covariance", lambda x: x[::-1]),
    )
    yield (
        "spectral_covariance from the last variable to the first",
        _values("spectral_covariance", lambda x: x[:, ::-1, ::-1]),
    )
    yield "spectral_covariance diagonal", _values("spectral_covariance", lambda x: x * np.eye(x.shape[-1]))
    yield "regression with its sign turned", _values("regression", np.negative)
    yield "regression zero", _values("regression", np.zeros_like)
    yield "recolouring twice as large", _values("recolouring", lambda x: x * 2)
    yield "recolouring from south to north", _values("recolouring", lambda x: x[:, ::-1])
    yield "balanced_fraction of 5", _values("balanced_fraction", lambda x: x * 0 + 5)
    yield "without recolouring", lambda d: d.drop_vars("recolouring")
    yield "without standard_deviation", lambda d: d.drop_vars("standard_deviation")
    yield "a variable more", lambda d: d.assign(extra=d["rescaling"])


def _bytes() -> Iterator[tuple[str, Callable[[Path], Any]]]:
    for at in (0.2, 0.4, 0.6, 0.8, 0.95):
        yield f"a bit flipped at {at:.0%} of the file", damaged(B, bit_flipped(at))
    yield "half of the file", damaged(B, lambda b: b[: len(b) // 2])
    yield "without its last bytes", damaged(B, lambda b: b[:-16])
    yield "an empty file", damaged(B, lambda b: b"")
    yield "a web page", damaged(B, lambda b: b"<!DOCTYPE html><html>404</html>")
    yield "a checkpoint of a VAE", lambda d: shutil.copy(d / "vae.ckpt", d / B)
    yield "missing", lambda d: (d / B).unlink()
