"""The tiny made-up world of stress.py: weather, a forecaster, and configs of a fit and of predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from vaevar.data.weather.writer import create_store, write_states
from vaevar.files import save_array, save_text
from vaevar.models.forecaster.export import export
from vaevar.sphere.grid import Grid
from vaevar.standins.climate import typical_climate
from vaevar.standins.forecaster import Drift
from vaevar.standins.weather import SyntheticWeather
from vaevar.state import StateSpec

SPEC: dict[str, Any] = {"surface": ["t2m", "msl"], "upper": ["z", "u"], "levels": [500, 850]}
START, STATES = np.datetime64("2021-01-01T00", "h"), 60


def world(directory: Path) -> None:
    """Made-up weather, a forecaster and configs, in a new directory."""

    directory.mkdir(parents=True)
    spec, grid = StateSpec(**SPEC), Grid.gaussian(16)
    times = START + np.timedelta64(6, "h") * np.arange(STATES)
    weather = SyntheticWeather(spec, grid)
    values = np.stack([weather.state(time) for time in times])
    create_store(directory / "truth.zarr", times, spec, grid, {"source": "made-up weather"})
    write_states(directory / "truth.zarr", 0, values, spec)
    save_array(directory / "climatology.npy", values.std((0, 2, 3)).astype(np.float64))
    with torch.no_grad():
        export(Drift(len(spec), grid.shape[1]), directory / "drift.onnx", spec, grid)
    for name, numbers in zip(("mean", "std"), typical_climate(spec), strict=True):
        save_array(directory / f"drift_{name}.npy", numbers)
    for name, content in configs().items():
        save_text(directory / name, yaml.safe_dump(content, sort_keys=False))


def copy_world(source: Path, target: Path) -> None:
    """Links to the data, and copies of the configs."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        (target / path.name).symlink_to(path)


def configs() -> dict[str, Any]:
    """The configs of the programs, by file name."""
    files = {"model": "drift.onnx", "mean": "drift_mean.npy", "std": "drift_std.npy", "spec": SPEC}
    forecaster = {"class_path": "OnnxForecaster", "init_args": files}
    source = {"class_path": "StoreSource", "init_args": {"path": "truth.zarr"}}
    trainer = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
    making = {
        "class_path": "NMCDifferences",
        "init_args": {
            "source": source, "forecaster": forecaster, "start": "2021-01-01T00", "end": "2021-01-14T00",
            "every_hours": 6,
        },
    }  # fmt: skip
    samples = {"path": "data/errors.zarr", "making": making, "validation_fraction": 0.2, "gap_hours": 24}
    data = {"class_path": "BackgroundErrors", "init_args": samples | {"batch_size": 4}}
    vae = {
        "nlat": 16, "nlon": 32, "gaussian": True, **SPEC, "patch": 2, "stem_width": 4, "head_width": 4,
        "widths": [8, 8], "depths": [1, 1], "heads": [0, 2], "window": 4, "latent_scale": 1,
        "latent_channels": 4, "sigma": 0.5, "warmup_steps": 2,
    }  # fmt: skip
    often = {"every_n_train_steps": 3, "save_last": True, "enable_version_counter": False}
    callbacks = [
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": often},
        {"class_path": "ExportWeights", "init_args": {"path": "vae.ckpt"}},
    ]
    fit = {
        "name": "fit",
        "seed_everything": 1,
        "model": {"class_path": "VAE", "init_args": vae},
        "data": data,
    }
    arms = {"free": "FreeRun", "interpolation": {"class_path": "OptimalInterpolation"}}
    cycle = {
        "source": source, "start": "2021-01-05T00", "analyses": 12, "lead_hours": 12, "spec": SPEC,
        "network": {"class_path": "ColumnNetwork", "init_args": {"count": 20}},
        "climatology": "climatology.npy",
    }  # fmt: skip
    looks = [
        {"class_path": "Scores", "init_args": {"skip": 2}},
        {"class_path": "Forecasts", "init_args": {"every": 4, "lead_hours": [24]}},
    ]
    return {
        "errors.yaml": {
            "name": "errors", "return_predictions": False, "model": "StoreMaking", "data": data,
            "trainer": trainer,
        },
        "fit.yaml": fit | {"trainer": trainer | {"max_epochs": 4, "callbacks": callbacks}},
        "cycle.yaml": {
            "name": "cycle", "seed_everything": 1, "return_predictions": False,
            "model": {
                "class_path": "AssimilationModule", "init_args": {"forecaster": forecaster, "arms": arms}
            },
            "data": {"class_path": "AnalysisTimes", "init_args": cycle},
            "trainer": trainer | {"inference_mode": False, "callbacks": looks},
        },
    }  # fmt: skip
