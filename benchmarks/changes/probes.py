"""The commands that meet a changed input, and the comparison of what they leave with what they should."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from stress_files import results

from changes.kinds import Case, Result
from changes.world import FIRST_ANALYSIS, OBSERVATIONS, SPEC, inside
from vaevar.assim.interpolation.optimal import OptimalInterpolation
from vaevar.cli import main
from vaevar.data.observations.points import Observations
from vaevar.data.weather.climatology import write
from vaevar.data.weather.store import StoreSource, WeatherStore
from vaevar.errors import UserError
from vaevar.scripts import one_line_errors
from vaevar.state import StateSpec

# Differences of this size, relative to a field's std, are of rounding.
ROUNDING = 1e-4


def _cycle(directory: Path) -> dict[str, Any]:
    main(["predict", "--config", "cycle.yaml"])
    return results(("runs/cycle/*/analysis.zarr", "runs/cycle/scores.csv"), directory)


def _go_on(directory: Path) -> dict[str, Any]:
    main(["predict", "--config", "begun.yaml", "--data.init_args.analyses", "2"])
    return results(("runs/begun/*/analysis.zarr", "runs/begun/scores.csv"), directory)


def _fit(config: str, weights: str) -> Callable[[Path], dict[str, Any]]:
    def fit(directory: Path) -> dict[str, Any]:
        (directory / weights).unlink()
        main(["fit", "--config", config])
        return results((weights,), directory)

    return fit


def _calibrate(directory: Path) -> dict[str, Any]:
    (directory / "covariance.nc").unlink()
    main(["fit", "--config", "covariance.yaml"])
    with xr.open_dataset(directory / "covariance.nc", engine="scipy") as statistics:
        return {str(name): values.values for name, values in statistics.variables.items()}


def _climatology(directory: Path) -> dict[str, Any]:
    with one_line_errors():
        write(StoreSource("truth.zarr"), "2021-01-01T00", "2021-01-12T00", 24, "made.npy", StateSpec(**SPEC))
    return {"made.npy": np.load(directory / "made.npy")}


def _analysis(directory: Path) -> dict[str, Any]:
    spec = StateSpec(**SPEC)
    before = WeatherStore(directory / "truth.zarr", spec).state(FIRST_ANALYSIS - np.timedelta64(12, "h"))
    with one_line_errors(), np.load(directory / OBSERVATIONS) as file:
        try:
            observed = Observations(**file)
            analysis = OptimalInterpolation()(before, observed).state
        except ValueError as error:  # what a constructor raises names the field
            raise UserError(str(error)) from None
    return dict(zip(spec.names, analysis.values.numpy(), strict=True))


PROBES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "cycle": _cycle,
    "go on": _go_on,
    "fit": _fit("vae.yaml", "vae.ckpt"),
    "fit pairs": _fit("denoiser.yaml", "denoiser.ckpt"),
    "calibrate": _calibrate,
    "climatology": _climatology,
    "analysis": _analysis,
}


class Prober:
    """Applies changes to copies of a world.

    Args:
        good: the world.
        room: an empty directory for the copies.
    """

    def __init__(self, good: Path, room: Path) -> None:
        self.good, self.room = good.absolute(), room.absolute()
        self._expected: dict[str, tuple[dict[str, Any], set[str]]] = {}

    def __call__(self, case: Case) -> Result:
        """Apply the change, and give the command."""
        expected, usual = self._unchanged(case.probe)
        with self._copy(case.target) as directory:
            case.apply(directory)
            found, error, lines = _give(case.probe, directory)
        unusual = [line for line in lines if line not in usual]
        if error is not None:
            refusals = [line for line in lines if line.startswith("error:")]
            if not isinstance(error, SystemExit) or not refusals:
                return Result(
                    case, "crashed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                )
            named = re.search(case.names, refusals[-1])
            return Result(case, "refused" if named else "unnamed", refusals[-1])
        different = differences(expected, found)
        if not different:
            return Result(case, "harmless", "")
        told = [line for line in unusual if re.search(case.names, line)]
        return Result(case, "told", told[0]) if told else Result(case, "other", ", ".join(different[:3]))

    def _unchanged(self, probe: str) -> tuple[dict[str, Any], set[str]]:
        if probe not in self._expected:
            with self._copy("") as directory:
                found, error, lines = _give(probe, directory)
            if error is not None:
                raise RuntimeError(f"the unchanged world fails: {lines[-3:]}") from error
            self._expected[probe] = found, set(lines)
        return self._expected[probe]

    @contextlib.contextmanager
    def _copy(self, target: str) -> Iterator[Path]:
        """A directory that looks like the world; only the target is copied."""
        directory = self.room / "case"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for path in self.good.iterdir():
            if path.name == "runs":
                shutil.copytree(path / "begun", directory / "runs" / "begun")
            elif path.name == target or path.suffix in (".yaml", ".ckpt", ".nc"):
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, directory / path.name)
            elif path.suffix != ".lock":
                (directory / path.name).symlink_to(path)
        try:
            with inside(directory):
                yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _give(probe: str, directory: Path) -> tuple[dict[str, Any], BaseException | None, list[str]]:
    """What a command leaves, the error that ended it, and its lines without tables."""
    out, err = io.StringIO(), io.StringIO()
    found: dict[str, Any] = {}
    error: BaseException | None = None
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(record=True) as warned,
    ):
        warnings.simplefilter("always")
        try:
            found = PROBES[probe](directory)
        except (SystemExit, Exception) as raised:
            error = raised
    lines = [f"warning: {' '.join(str(item.message).split())}" for item in warned]
    lines += [line.strip() for line in (out.getvalue() + err.getvalue()).splitlines()]
    return found, error, [line for line in lines if line and line[0] not in "│┃┏┡├└╇"]


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Names of the results that differ by more than rounding."""
    return [name for name in expected | found if not _alike(expected.get(name), found.get(name))]


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, bytes) and isinstance(other, bytes):
        tables = [pd.read_csv(io.BytesIO(text), index_col=0) for text in (one, other)]
        numbers = [table.select_dtypes("number") for table in tables]
        texts = [table.select_dtypes(exclude="number") for table in tables]
        return texts[0].equals(texts[1]) and all(
            _alike(numbers[0][name].to_numpy(), numbers[1][name].to_numpy()) for name in numbers[0]
        )
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray) or one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    allowed = ROUNDING * float(np.nanstd(one)) if one.size > 1 else ROUNDING * abs(float(one))
    return bool(np.allclose(one, other, rtol=0, atol=allowed, equal_nan=True))
