"""The embedded world: a nature run of the SPEEDY general circulation model (through ``jcm``).

T31 with real orography and a sea-surface climatology, on its 48 × 96 Gaussian grid, every 6 hours, with all
69 channels on FengWu's 13 pressure levels. Three disjoint periods follow a two-month spin-up. Each starts
from a committed restart file, so that it can be generated on its own.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vaevar.content.digest import sha256
from vaevar.data.weather.opening import open_zarr
from vaevar.data.weather.sigma_levels import (
    SPEEDY_REFERENCE_PRESSURE,
    SigmaState,
    mean_sea_level_pressure,
    to_pressure_levels,
)
from vaevar.data.weather.store import Source, WeatherStore
from vaevar.data.weather.writer import create_store, extend_store, write_states
from vaevar.errors import UserError, first_line
from vaevar.files import file_lock, replacing, save_text, size_text
from vaevar.progress import progress
from vaevar.runs.aside import keeping
from vaevar.runs.expansion import expand_path
from vaevar.runs.stopping import install
from vaevar.shipped import missing_weights, shipped
from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec

SPIN_UP_START = np.datetime64("2019-10-01T00", "h")
STEP = np.timedelta64(6, "h")
CHUNK = 20  # states per call of the model: five days
_LARGEST = 2**29  # bytes of a restart file, unpacked; they take some 10 MB
_RESTART = "restart_sha256"  # attribute of a store
_REMAKE = "delete that store, and it will be generated again"


@dataclass(frozen=True)
class Period:
    """A period of the nature run: its first state, and its number of 6-hourly states."""

    start: np.datetime64
    states: int

    @property
    def times(self) -> np.ndarray:
        return self.start + STEP * np.arange(self.states)


PERIODS = {
    "train": Period(np.datetime64("2019-12-01T00", "h"), 2800),
    "validation": Period(np.datetime64("2021-11-06T00", "h"), 180),
    "test": Period(np.datetime64("2022-01-01T00", "h"), 1480),
}


class SpeedyWorld(Source):
    """One period of the embedded world, generated as far as needed and cached.

    Args:
        period: ``train``, ``validation`` or ``test``.
        directory: of the cached stores; default ``$VAEVAR_DATA``, else ``data``.
        restarts: directory of the committed restart files; if there is none, the repository's is taken.

    Raises:
        UserError: for an unknown period.

    Example:
        >>> vaevar.SpeedyWorld(period="validation").description
        'SPEEDY nature run (jcm, T31L8), validation period from 2021-11-06T00'
    """

    without_effect: ClassVar = ("directory",)

    def __init__(
        self, period: str = "test", directory: str | None = None, restarts: str = "weights/speedy"
    ) -> None:
        if period not in PERIODS:
            raise UserError(f"no period {period!r} of the embedded world; choose from {', '.join(PERIODS)}")
        self.period_name, self.period = period, PERIODS[period]
        self.directory = Path(expand_path(str(directory or os.environ.get("VAEVAR_DATA", "data"))))
        self.restart = shipped(Path(expand_path(str(restarts)))) / f"{period}.msgpack.gz"
        self.path = self.directory / f"speedy_{period}.zarr"

    @property
    def description(self) -> str:
        return f"SPEEDY nature run (jcm, T31L8), {self.period_name} period from {self.period.start}"

    @property
    def _progress_file(self) -> Path:
        return self.directory / f"speedy_{self.period_name}.progress.json"

    def _restart_after(self, states: int) -> Path:
        """The restart file from which state number ``states`` is the next."""
        if states == 0:
            return self.restart
        return self.directory / f"speedy_{self.period_name}.{states}.msgpack.gz"

    def prepare(self, start: np.datetime64, end: np.datetime64) -> None:
        """Generate the nature run up to ``end``; existing states are kept.

        Raises:
            UserError: when the times are outside the period, the states that are there began from another
                restart file, nothing says how many of them there are, or jcm is not installed.
        """
        times = self.period.times
        if start < times[0] or end > times[-1]:
            raise UserError(
                f"the {self.period_name} period of the embedded world runs from {times[0]} to "
                f"{times[-1]}; {start} to {end} was asked for"
            )
        needed = int((end - times[0]) / STEP) + 1
        needed = min(-(-needed // CHUNK) * CHUNK, self.period.states)
        self._check_origin()
        # Without a lock: where all is there, the directory may be read-only.
        if self._completed() >= needed:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        with file_lock(self.directory / f"speedy_{self.period_name}.lock"):
            if self._completed() < needed:
                self._generate(needed)

    def open(self, spec: StateSpec) -> WeatherStore:
        """Open what has been generated; reading a later state is an error that names its time."""
        return WeatherStore(self.path, spec)

    def _completed(self) -> int:
        if not (self.path.is_dir() and self._progress_file.is_file()):
            return 0
        return int(json.loads(self._progress_file.read_text(encoding="utf-8"))["states"])

    def _check_origin(self) -> None:
        """Refuse states that another restart file led to. Stores of earlier versions do not say which."""
        if not (self._completed() and self.restart.is_file()):
            return
        began = open_zarr(self.path).attrs.get(_RESTART)
        if began is not None and began != sha256(self.restart):
            raise UserError(
                f"{self.path}: was generated from another restart file than {self.restart}; give another "
                f"directory, or {_REMAKE}"
            )

    def _generate(self, needed: int) -> None:
        spec, times, done = StateSpec(), self.period.times, self._completed()
        if self.path.is_dir() and not self._progress_file.is_file():
            raise UserError(
                f"{self.path}: is there without {self._progress_file.name}, which says how much of it is "
                "written; bring that file along, and its .msgpack.gz, or move the store away"
            )
        with progress(f"SPEEDY {self.period_name}: compiling", needed, done) as advance:
            model = NatureRun(self._restart_after(done))
            if done == 0:
                # Left behind by a deleted store, it would declare the new store's states written.
                save_text(self._progress_file, json.dumps({"states": 0}))
                attributes = {"source": self.description, _RESTART: sha256(self.restart)}
                create_store(self.path, times, spec, NatureRun.grid, attributes)
            else:  # laid out when the period was shorter
                extend_store(self.path, times)
            advance(done, f"SPEEDY {self.period_name}: states")
            while done < needed:
                count = min(CHUNK, self.period.states - done)
                values = model.advance(count)
                write_states(self.path, done, values, spec)
                # The progress file alone says how far the run is, and a restart is named after the number
                # of states before it: a kill between any two lines here repeats at most one chunk.
                finished = done + count
                model.save(self._restart_after(finished))
                save_text(self._progress_file, json.dumps({"states": finished}))
                done = finished
                self._remove_restarts_but(self._restart_after(done))
                advance(done)

    def _remove_restarts_but(self, kept: Path) -> None:
        """Remove the restarts of earlier chunks, and the partial files of killed runs."""
        for path in self.directory.glob(f"speedy_{self.period_name}.*.msgpack*"):
            if path != kept:
                path.unlink()


class NatureRun:
    """The SPEEDY model, continued from a restart file in 6 h steps.

    Args:
        restart: a gzipped jcm checkpoint; None: start from rest.

    Raises:
        UserError: when jcm is not installed, or the restart file is missing or of another model.
    """

    grid = Grid.gaussian(48)

    def __init__(self, restart: Path | None) -> None:
        if restart is not None and not restart.is_file():
            raise UserError(
                f"{restart}: no such restart file; run from the repository's root, or set `restarts`; "
                f"if it is beside a store of the embedded world, {_REMAKE}{missing_weights(restart)}"
            )
        warnings.filterwarnings("ignore", module="jcm")
        logging.getLogger("jcm").setLevel(logging.ERROR)
        try:
            import jcm
            from jcm import configurations
        except ImportError:
            raise UserError(
                'the embedded world needs jcm: pip install -c constraints.txt "vaevar[world]"'
            ) from None
        boundary = Path(jcm.__file__).parent / "data" / "bc" / "t63"
        experiment = configurations.load(
            "speedy-t31",
            **{
                "terrain.file": str(boundary / "terrain.nc"),
                "forcing.file": str(boundary / "forcing.nc"),
                "run.start_time": str(SPIN_UP_START.astype("datetime64[D]")),
                "run.time_step": 30,
            },
        )
        self._model: Any = experiment.model
        self._forcing = experiment.forcing
        self._sigma = np.asarray(self._model.coords.vertical.centers, dtype=np.float64)
        self._model.bootstrap_state(None)
        if restart is not None:
            self._load(restart)

    def _load(self, restart: Path) -> None:
        from jcm.checkpoint import load_checkpoint

        try:
            # Not beside the restart, whose directory may be read-only.
            with tempfile.TemporaryDirectory() as directory:
                unpacked = Path(directory) / "restart.msgpack"
                with gzip.open(restart) as packed:
                    content = packed.read(_LARGEST + 1)
                if len(content) > _LARGEST:
                    raise ValueError(f"it unpacks to more than {size_text(_LARGEST)}")
                unpacked.write_bytes(content)
                load_checkpoint(self._model, unpacked)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise UserError(
                f"{restart}: not a restart file of this model ({first_line(error)}); fetch it again; "
                f"if it is beside a store of the embedded world, {_REMAKE}"
            ) from None

    def save(self, path: Path) -> None:
        """Write a restart file."""
        from jcm.checkpoint import save_checkpoint

        with tempfile.TemporaryDirectory() as directory, replacing(path) as partial:
            unpacked = Path(directory) / "restart.msgpack"
            save_checkpoint(self._model, unpacked)
            partial.write_bytes(gzip.compress(unpacked.read_bytes(), 6))

    def advance(self, states: int) -> np.ndarray:
        """Run for ``states`` × 6 h and return the states, [T, 69, 48, 96] float32.

        Raises:
            RuntimeError: when the model blew up.
        """
        prediction = self._model.resume(forcing=self._forcing, save_interval=0.25, total_time=0.25 * states)
        dynamics, surface = prediction.dynamics, prediction.physics["_surface_flux"]

        def field(array: Any) -> np.ndarray:
            # jcm: (..., longitude, latitude) with latitude from the south.
            return np.moveaxis(np.asarray(array, dtype=np.float64), -1, -2)[..., ::-1, :]

        sigma_state = SigmaState(
            sigma=self._sigma,
            u=field(dynamics.u_wind),
            v=field(dynamics.v_wind),
            t=field(dynamics.temperature),
            q=field(dynamics.specific_humidity),
            geopotential=field(dynamics.geopotential),
            surface_pressure=field(dynamics.normalized_surface_pressure) * SPEEDY_REFERENCE_PRESSURE,
        )
        values = channels_of(sigma_state, field(surface.u0), field(surface.v0), field(surface.t0))
        if not np.isfinite(values).all():
            raise RuntimeError("the SPEEDY nature run is no longer finite")
        return values


def channels_of(state: SigmaState, u10: np.ndarray, v10: np.ndarray, t2m: np.ndarray) -> np.ndarray:
    """The 69 channels of a SPEEDY state, [T, 69, H, W] float32."""
    spec = StateSpec()
    upper = to_pressure_levels(state, np.asarray(spec.levels))
    surface = {"u10": u10, "v10": v10, "t2m": t2m, "msl": mean_sea_level_pressure(state)}
    parts = [surface[name][:, None] for name in spec.surface] + [upper[name] for name in spec.upper]
    return np.concatenate(parts, axis=1).astype(np.float32)


def make_restarts(directory: str = "weights/speedy") -> Iterator[Path]:
    """Spin up from rest and write the restart file of each period (about 20 minutes on 2 cores).

    Args:
        directory: of the restart files.

    Yields:
        The path of each file, once it is written.
    """
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    model, now = NatureRun(None), SPIN_UP_START
    for name, period in sorted(PERIODS.items(), key=lambda item: item[1].start):
        # One step before the period, so that its first state is the next one.
        while now < period.start - STEP:
            states = min(CHUNK, int((period.start - STEP - now) / STEP))
            model.advance(states)
            now += states * STEP
        path = target / f"{name}.msgpack.gz"
        with keeping(path):
            model.save(path)
        yield path


if __name__ == "__main__":
    install()
    for written in make_restarts():
        print(f"wrote {written} ({written.stat().st_size / 1e6:.1f} MB)")
