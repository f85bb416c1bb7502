"""The good world whose inputs are changed: weather, a forecaster, B, networks, samples and configs, all tiny.

Its weather is balanced, as that of any atmosphere.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from vaevar.cli import main
from vaevar.constants import EARTH_RADIUS, EARTH_ROTATION, GAS_CONSTANT
from vaevar.data.observations.errors import ObservationErrors
from vaevar.data.observations.networks import ColumnNetwork
from vaevar.data.observations.simulate import simulate
from vaevar.data.weather.writer import create_store, write_states
from vaevar.files import save_array, save_text
from vaevar.models.forecaster.export import export
from vaevar.plausible.moisture import saturation
from vaevar.sphere.grid import Grid
from vaevar.standins.climate import typical_climate
from vaevar.standins.forecaster import Drift
from vaevar.standins.weather import SyntheticWeather
from vaevar.state import State, StateSpec

SPEC: dict[str, Any] = {
    "surface": ["u10", "v10", "t2m", "msl"],
    "upper": ["z", "q", "u", "v", "t"],
    "levels": [300, 500, 850],
}
START, STATES = np.datetime64("2021-01-01T00", "h"), 52
FIRST_ANALYSIS = START + np.timedelta64(54, "h")
ROWS = 16
OBSERVATIONS = "observations.npz"
CHANNELS = {name: SPEC[name] for name in ("surface", "upper", "levels")}


@contextlib.contextmanager
def inside(directory: Path) -> Iterator[None]:
    """Work in a directory."""
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


def world(directory: Path) -> None:
    """Make everything, in a new directory."""
    directory.mkdir(parents=True)
    spec, grid = StateSpec(**SPEC), Grid.gaussian(ROWS)
    times = START + np.timedelta64(6, "h") * np.arange(STATES)
    values = weather(spec, grid, times)
    create_store(directory / "truth.zarr", times, spec, grid, {"source": "made-up weather"})
    write_states(directory / "truth.zarr", 0, values, spec)
    save_array(directory / "climatology.npy", values.std((0, 2, 3)).astype(np.float64) / 2)
    with torch.no_grad():
        export(Drift(len(spec), grid.shape[1]), directory / "drift.onnx", spec, grid)
    for name, numbers in zip(("mean", "std"), typical_climate(spec), strict=True):
        save_array(directory / f"drift_{name}.npy", numbers)
    np.savez(directory / OBSERVATIONS, **observations(spec, grid, values[times == FIRST_ANALYSIS][0]))
    for name, content in configs().items():
        save_text(directory / name, yaml.safe_dump(content, sort_keys=False))
    with inside(directory), quiet():
        for config in ("covariance", "vae", "denoiser"):
            main(["fit", "--config", f"{config}.yaml"])
        main(["predict", "--config", "begun.yaml"])


def weather(spec: StateSpec, grid: Grid, times: np.ndarray) -> np.ndarray:
    """[T, C, H, W] float32: made-up weather whose fields follow each other as those of the atmosphere do.

    Geopotential rests on temperature, drives the wind outside the tropics, and makes the pressure below; air
    is half saturated.
    """
    made_up = SyntheticWeather(spec, grid)
    states = np.stack([made_up.state(time) for time in times]).astype(np.float64)
    parts = {name: states[:, spec.variable_slice(name)] for name in (*spec.surface, *spec.upper)}
    t, z, low = parts["t"], parts["z"], spec.levels[-1]
    depth = GAS_CONSTANT * np.diff(np.log(spec.levels))[:, None, None]
    layers = depth * 0.5 * (t[:, 1:] + t[:, :-1])
    z[:, :-1] = z[:, -1:] + np.cumsum(layers[:, ::-1], axis=1)[:, ::-1]
    latitude = np.radians(grid.latitude)[:, None]
    coriolis = 2 * EARTH_ROTATION * np.sin(latitude)
    inverse = coriolis / (coriolis**2 + (2 * EARTH_ROTATION * np.sin(np.radians(15))) ** 2)
    step = np.radians(grid.longitude[1] - grid.longitude[0])
    east = (np.roll(z, -1, -1) - np.roll(z, 1, -1)) / (2 * step * EARTH_RADIUS * np.cos(latitude))
    parts["u"][:] = -inverse * np.gradient(z, latitude[:, 0] * EARTH_RADIUS, axis=-2)
    parts["v"][:] = inverse * east
    parts["u10"][:, 0], parts["v10"][:, 0] = 0.6 * parts["u"][:, -1], 0.6 * parts["v"][:, -1]
    parts["msl"][:, 0] = 100 * low * np.exp(z[:, -1] / (GAS_CONSTANT * t[:, -1]))
    parts["t2m"][:, 0] = t[:, -1] + 8 + 0.03 * (parts["t2m"][:, 0] - parts["t2m"].mean())
    for number, level in enumerate(spec.levels):
        q = np.log(parts["q"][:, number])
        humidity = 0.5 + 0.2 * np.tanh((q - q.mean((0, 2), keepdims=True)) / q.std())
        parts["q"][:, number] = humidity * saturation(t[:, number], level)
    return states.astype(np.float32)


def observations(spec: StateSpec, grid: Grid, truth: np.ndarray) -> dict[str, np.ndarray]:
    """What a network observes of the truth, field by field."""
    state = State(torch.from_numpy(truth), spec, grid)
    errors = ObservationErrors(humidity_std={level: 1e-3 * level / 850 for level in spec.levels})
    observed = simulate(state, ColumnNetwork(30), errors, FIRST_ANALYSIS, 0)
    return {entry.name: getattr(observed, entry.name) for entry in fields(observed)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the output of commands."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def configs() -> dict[str, Any]:
    """The configs of the commands, by file name."""
    files = {"model": "drift.onnx", "mean": "drift_mean.npy", "std": "drift_std.npy", "spec": SPEC}
    forecaster = {"class_path": "OnnxForecaster", "init_args": files}
    source = {"class_path": "StoreSource", "init_args": {"path": "truth.zarr"}}
    trainer = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
    period = {"source": source, "forecaster": forecaster, "start": str(START), "every_hours": 6}
    nmc = {"class_path": "NMCDifferences", "init_args": period | {"end": "2021-01-11T12"}}
    forecasts = {"class_path": "ForecastErrors", "init_args": period | {"end": "2021-01-12T12", "leads": [6]}}
    samples = {"validation_fraction": 0.2, "gap_hours": 12, "batch_size": 4}
    errors = {
        "class_path": "BackgroundErrors",
        "init_args": {"path": "errors.zarr", "making": nmc, **samples},
    }
    pairs = {
        "class_path": "BackgroundErrorPairs",
        "init_args": {"path": "pairs.zarr", "making": forecasts, **samples},
    }
    grid = {"nlat": ROWS, "nlon": 2 * ROWS, "gaussian": True, **CHANNELS}
    small = {"widths": [8, 8], "depths": [1, 1], "heads": [0, 2], "window": 4, "warmup_steps": 2, "patch": 2}
    vae = grid | small | {
        "stem_width": 4, "head_width": 4, "latent_scale": 1, "latent_channels": 4, "sigma": 0.5,
    }  # fmt: skip
    denoiser = grid | small | {"head_width": 4, "embedding": 8}
    short = trainer | {"max_steps": 3, "num_sanity_val_steps": 0, "limit_val_batches": 1}

    def fit(name: str, model: dict[str, Any], data: dict[str, Any], **more: Any) -> dict[str, Any]:
        keep = [{"class_path": "ExportWeights", "init_args": {"path": f"{name}.ckpt"}}]
        settings = {"trainer": short | {"callbacks": keep, **more}}
        return {"name": name, "seed_everything": 1, "model": model, "data": data, **settings}

    passes = {
        "callbacks": [], "max_steps": -1, "max_epochs": 2, "check_val_every_n_epoch": 2,
        "enable_checkpointing": False,
    }  # fmt: skip
    statistics = {
        "class_path": "CovarianceCalibration",
        "init_args": {"path": "covariance.nc", "lmax": 6},
    }
    own = {**errors, "init_args": errors["init_args"] | {"flip_sign": False}}
    arms = {
        "interpolation": {"class_path": "OptimalInterpolation"},
        "threedvar": {
            "class_path": "ThreeDVar",
            "init_args": {"statistics": "covariance.nc", "lambda_": 2.0, "iterations": 4},
        },
        "vaevar": {
            "class_path": "VariationalAssimilator",
            "init_args": {
                "control": {"class_path": "DecoderControl", "init_args": {"checkpoint": "vae.ckpt"}},
                "lambda_": 2.0,
                "iterations": 4,
            },
        },
        "diffda": {
            "class_path": "DiffDA",
            "init_args": {"checkpoint_48h": "denoiser.ckpt", "steps": 2, "jump_length": 1, "members": 2},
        },
    }
    times = {
        "source": source, "start": str(FIRST_ANALYSIS), "analyses": 2, "lead_hours": 12, "spec": SPEC,
        "network": {"class_path": "ColumnNetwork", "init_args": {"count": 12}},
        "climatology": "climatology.npy",
    }  # fmt: skip
    writer = {"class_path": "StateWriter", "init_args": {"states": ["analysis"]}}
    cycle = {
        "name": "cycle", "seed_everything": 1, "return_predictions": False,
        "model": {"class_path": "AssimilationModule", "init_args": {"forecaster": forecaster, "arms": arms}},
        "data": {"class_path": "AnalysisTimes", "init_args": times},
        "trainer": trainer | {"inference_mode": False, "callbacks": [writer]},
    }  # fmt: skip
    begun = {**cycle, "name": "begun", "data": {**cycle["data"], "init_args": times | {"analyses": 1}}}
    return {
        "covariance.yaml": fit("covariance", statistics, own, **passes),
        "vae.yaml": fit("vae", {"class_path": "VAE", "init_args": vae}, errors),
        "denoiser.yaml": fit("denoiser", {"class_path": "Denoiser", "init_args": denoiser}, pairs),
        "cycle.yaml": cycle,
        "begun.yaml": begun,
    }
