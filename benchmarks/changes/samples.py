"""Changes of a store of samples, of what it was made from, and of the truth that a climatology is made of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from changes import chunks, stores
from changes.damage import damaged
from changes.kinds import Case
from vaevar.content.seal import SEAL

ERRORS, PAIRS = "errors.zarr", "pairs.zarr"
UNSEALED = (
    "a store of an earlier version has no digest, and samples in units of their own scale are all of one size"
)
Apply = Callable[[Path], Any]


def cases() -> Iterator[Case]:
    """All of them."""
    for target, probe in ((ERRORS, "fit"), (PAIRS, "fit pairs")):
        for change, apply, unknowable in _arrays(target):
            yield Case(target, change, apply, probe, target, unknowable)
        for change, damage in chunks.DAMAGES.items():
            yield Case(target, change, damaged(f"{target}/error/3.0.0.0.0", damage), probe, target)
        for change, apply, unknowable in _of_earlier_versions(target):
            yield Case(target, f"without a digest: {change}", apply, probe, target, unknowable)
    for change, apply, unknowable in _arrays(ERRORS):
        if "scale" not in change:
            yield Case(ERRORS, f"B: {change}", apply, "calibrate", f"{ERRORS}|samples", unknowable)
    for change, apply in _sources():
        yield Case(
            "truth.zarr", f"{change}, after errors were made from it", apply, "fit", "errors.zarr|truth.zarr"
        )
    for change, apply in _forecasters():
        yield Case(
            "drift.onnx", f"{change}, after errors were made with it", apply, "fit", "errors.zarr|drift"
        )
    for change, edit in _for_climatologies():
        yield Case(
            "truth.zarr", f"climatology: {change}", stores.rewritten(edit), "climatology", "truth.zarr"
        )


def _array(target: str, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Apply:
    """Change the numbers of an array in place."""

    def apply(directory: Path) -> None:
        array: Any = zarr.open_array(directory / target / name, mode="r+")
        array[...] = change(np.asarray(array[...]))

    return apply


def _attributes(target: str, **values: Any) -> Apply:
    """Change attributes of the store, also where they are consolidated."""

    def apply(directory: Path) -> None:
        path = directory / target / ".zattrs"
        content = json.loads(path.read_text(encoding="utf-8")) | values
        path.write_text(json.dumps(content), encoding="utf-8")
        whole = directory / target / ".zmetadata"
        consolidated = json.loads(whole.read_text(encoding="utf-8"))
        consolidated["metadata"][".zattrs"] |= values
        whole.write_text(json.dumps(consolidated), encoding="utf-8")

    return apply


def _arrays(target: str) -> Iterator[tuple[str, Apply, str]]:
    def names(change: Callable[[np.ndarray], np.ndarray]) -> Apply:
        return _array(target, "channel", change)

    yield "channels from the last to the first", names(lambda x: x[::-1]), ""
    yield "two channels in another order", names(lambda x: x[[1, 0, *range(2, x.size)]]), ""
    yield "lead of 4800 h", _array(target, "lead", lambda x: x * 100), ""
    yield "times from the last to the first", _array(target, "time", lambda x: x[::-1]), ""
    yield "a time twice", _array(target, "time", lambda x: np.where(np.arange(x.size) == 4, x[3], x)), ""
    yield "latitudes from south to north", _array(target, "latitude", lambda x: x[::-1]), ""
    yield "latitudes in radians", _array(target, "latitude", np.radians), ""
    yield "latitudes equally spaced", _array(target, "latitude", lambda x: np.linspace(80, -80, x.size)), ""
    yield "longitudes half a step further", _array(target, "longitude", lambda x: x + 5.6), ""
    yield "longitudes from −180", _array(target, "longitude", lambda x: x - 180), ""
    yield "error_scale twice as large", _array(target, "error_scale", lambda x: x * 2), ""
    yield "error_scale a thousand times as large", _array(target, "error_scale", lambda x: x * 1000), ""
    yield (
        "error_scale from the last channel to the first",
        _array(target, "error_scale", lambda x: x[:, ::-1]),
        "",
    )
    yield "error_scale zero", _array(target, "error_scale", np.zeros_like), ""
    yield "error_scale NaN", _array(target, "error_scale", lambda x: x * np.nan), ""
    yield "error_std twice as large", _array(target, "error_std", lambda x: x * 2), ""
    yield (
        "error_std from the last channel to the first",
        _array(target, "error_std", lambda x: x[:, ::-1]),
        "",
    )
    yield "error_std zero", _array(target, "error_std", np.zeros_like), ""
    yield (
        "zonal_error_std from south to north",
        _array(target, "zonal_error_std", lambda x: x[..., ::-1]),
        "",
    )
    yield "errors twice as large", _array(target, "error", lambda x: x * np.float16(2)), ""
    yield "errors zero", _array(target, "error", np.zeros_like), ""
    yield (
        "errors with their channels from last to first",
        _array(target, "error", lambda x: x[:, :, ::-1]),
        "",
    )
    yield "an error NaN", _array(target, "error", _one(np.nan)), ""
    yield "an error infinite", _array(target, "error", _one(np.inf)), ""
    yield "an error of 60 000", _array(target, "error", _one(6e4)), ""
    if target == PAIRS:
        yield "background_mean of other channels", _array(target, "background_mean", lambda x: x[:, ::-1]), ""
        yield "background_std a thousandth", _array(target, "background_std", lambda x: x / 1000), ""
        yield "background_offset zero", _array(target, "background_offset", np.zeros_like), ""
        yield "backgrounds zero", _array(target, "background", np.zeros_like), ""
        yield "errors instead of backgrounds", _copied("error", "background", target), ""
    yield "another format", _attributes(target, format="vaevar-samples-0"), ""
    yield "another scheme", _attributes(target, scheme="truth minus a 48 h forecast"), ""
    yield "another period", _attributes(target, start="2020-01-01T00"), ""
    yield "other channels said", _attributes(target, channels="u10, v10"), ""
    yield "another forecaster said", _attributes(target, forecaster="other.onnx sha256:0"), ""
    yield "without its errors", lambda d: shutil.rmtree(d / target / "error"), ""
    yield "without error_std", lambda d: shutil.rmtree(d / target / "error_std"), ""
    yield "a sample missing", lambda d: (d / target / "error" / "3.0.0.0.0").unlink(), ""
    yield "two samples exchanged", _exchanged(target), ""
    yield "cut metadata", lambda d: (d / target / ".zmetadata").write_text("{"), ""


def _of_earlier_versions(target: str) -> Iterator[tuple[str, Apply, str]]:
    """What statistics tell without a digest, and what they do not."""

    def after(apply: Apply) -> Apply:
        def unsealed(directory: Path) -> None:
            del zarr.open_group(directory / target, mode="r+").attrs[SEAL]
            for sums in (directory / target).glob("*_checksum"):
                shutil.rmtree(sums)
            zarr.consolidate_metadata(directory / target)
            apply(directory)

        return unsealed

    for name, change in (("error_scale", "a thousand times"), ("error_std", "a thousandth of")):
        factor = 1e3 if change.startswith("a thousand t") else 1e-3
        yield f"{change} {name}", after(_array(target, name, lambda x, f=factor: x * f)), ""
    yield "lead of 4800 h", after(_array(target, "lead", lambda x: x * 100)), ""
    yield "error_std twice as large", after(_array(target, "error_std", lambda x: x * 2)), UNSEALED
    yield "errors twice as large", after(_array(target, "error", lambda x: x * np.float16(2))), UNSEALED
    yield "errors zero", after(_array(target, "error", np.zeros_like)), UNSEALED


def _one(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[3, 0, 2, 5, 5] = value
        return values

    return change


def _copied(source: str, target: str, store: str) -> Apply:
    def apply(directory: Path) -> None:
        shutil.rmtree(directory / store / target)
        shutil.copytree(directory / store / source, directory / store / target)

    return apply


def _exchanged(target: str) -> Apply:
    def apply(directory: Path) -> None:
        one, other = (directory / target / "error" / f"{number}.0.0.0.0" for number in (3, 20))
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)

    return apply


def _sources() -> Iterator[tuple[str, Apply]]:
    yield "t 1 K warmer", stores.rewritten(stores.values("t", lambda x: x + 1))
    yield "v with its sign turned", stores.rewritten(stores.values("v", lambda x: -x))
    yield (
        "one chunk of another time",
        lambda d: shutil.copy(d / "truth.zarr/temperature/30.0.0.0", d / "truth.zarr/temperature/20.0.0.0"),
    )
    yield "longitudes turned", stores.rewritten(stores.rolled("longitude", stores.ROLL))
    yield "units of z in m", stores.rewritten(stores.units("z", "m"))
    yield (
        "times shifted by a day",
        stores.rewritten(stores.coordinate("time", lambda t: t - np.timedelta64(1, "D"))),
    )


def _forecasters() -> Iterator[tuple[str, Apply]]:
    yield "another mean", _numbers("drift_mean.npy", lambda x: x * 1.001)
    yield "another std", _numbers("drift_std.npy", lambda x: x * 1.1)


def _numbers(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Apply:
    """Replace a file of the world, which is a link here."""

    def apply(directory: Path) -> None:
        values = np.load(directory / name)
        (directory / name).unlink()
        np.save(directory / name, change(values))

    return apply


def _for_climatologies() -> Iterator[tuple[str, stores.Edit]]:
    def hole(number: float) -> stores.Edit:
        return stores.values(
            "t", lambda x: x.where((x["latitude"] > -20) | (x["time"] != x["time"][4]), number)
        )

    yield "t is 0 south of 20° S once", hole(0.0)
    yield "t is 1e20 south of 20° S once", hole(1e20)
    yield "t in degrees Celsius", stores.values("t", lambda x: x - 273.15)
    yield "msl in hPa", stores.values("msl", lambda x: x / 100)
    yield "z and t exchanged", stores.swapped("z", "t")
    yield "t the same everywhere", stores.values("t", lambda x: x * 0 + 280)
    yield "levels in Pa, with units", stores.coordinate("level", lambda x: x * 100, units="Pa")
    yield "a time missing", lambda d: d.drop_isel(time=4)
    yield (
        "the first state again at all times",
        lambda d: d.isel(time=[0] * d.sizes["time"]).assign_coords(time=d["time"]),
    )
    yield "latitudes and fields from south to north", lambda d: d.isel(latitude=slice(None, None, -1))
