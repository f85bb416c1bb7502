"""A world small enough for seconds: its truth, forecaster, configs, and a VAE fitted once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.device import DEVICE
from vaevar.assim.cycle.restart import analyses_made
from vaevar.cli import main
from vaevar.data.weather.writer import create_store, write_states
from vaevar.sphere.grid import Grid
from vaevar.sphere.harmonics import SphericalHarmonics
from vaevar.state import StateSpec
from vaevar.verification.dashboards import Dashboards

SPEC = {"surface": ["t2m", "msl"], "upper": ["z", "u"], "levels": [500, 850]}
START = np.datetime64("2021-01-01T00", "h")
STEP = np.timedelta64(6, "h")
CENTRES = {
    "t2m": (280.0, 8.0), "msl": (101_000.0, 800.0), "z500": (55_000.0, 900.0), "z850": (15_000.0, 500.0),
    "u500": (7.0, 8.0), "u850": (3.0, 5.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of smooth fields that wander slowly about their means, its climatology and a VAE config."""
    directory = tmp_path_factory.mktemp("world")
    spec, grid = StateSpec(**SPEC), Grid.gaussian(16)
    times = START + STEP * np.arange(80)
    generator = torch.Generator().manual_seed(0)
    harmonics = SphericalHarmonics(grid, 6, torch.float64)
    shape = (len(spec), 7, 7)
    wave = torch.zeros(shape, dtype=torch.complex128)
    states = []
    for _ in times:
        noise = torch.randn(*shape, 2, dtype=torch.float64, generator=generator)
        wave = 0.95 * wave + 0.06 * torch.tril(torch.view_as_complex(noise))
        states.append(harmonics.synthesise(wave))
    mean, std = np.array([CENTRES[name] for name in spec.names]).T[..., None, None]
    values = (mean + std * torch.stack(states).numpy()).astype(np.float32)
    create_store(directory / "truth.zarr", times, spec, grid, {"source": "test"})
    write_states(directory / "truth.zarr", 0, values, spec)
    np.save(directory / "climatological_std.npy", values.std((0, 2, 3)).astype(np.float64))
    return directory


@pytest.fixture
def configs(
    world: Path, tmp_path: Path, toy_onnx: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> dict[str, Path]:
    """Config files of a fit and of a predict, with everything they need in an empty directory."""
    monkeypatch.chdir(tmp_path)
    spec = StateSpec(**SPEC)
    files = toy_onnx(spec, added=np.zeros(len(spec)), shape=(16, 32))
    forecaster = {
        "class_path": "vaevar.models.forecaster.fengwu.OnnxForecaster",
        "init_args": {
            "model": str(files.model), "mean": str(files.mean), "std": str(files.std),
            "spec": SPEC, "grid": "gaussian",
        },
    }  # fmt: skip
    source = {
        "class_path": "vaevar.data.weather.store.StoreSource",
        "init_args": {"path": str(world / "truth.zarr")},
    }
    logger = {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": "runs", "name": "vae", "version": ""},
    }
    fit = {
        "seed_everything": 1,
        "model": {
            "class_path": "vaevar.models.vae.vae.VAE",
            "init_args": {
                "nlat": 16, "nlon": 32, "gaussian": True, **SPEC, "patch": 2, "stem_width": 4,
                "head_width": 4,
                "widths": [8, 8], "depths": [1, 1], "heads": [0, 2], "window": 4, "latent_scale": 1,
                "latent_channels": 4, "sigma": 0.5, "warmup_steps": 2,
            },
        },
        "data": {
            "class_path": "vaevar.data.samples.background_errors.BackgroundErrors",
            "init_args": {
                "path": "data/errors.zarr",
                "making": {
                    "class_path": "vaevar.data.samples.nmc.NMCDifferences",
                    "init_args": {
                        "source": source, "forecaster": forecaster, "start": "2021-01-01T00",
                        "end": "2021-01-15T00", "every_hours": 6,
                    },
                },
                "validation_fraction": 0.2, "gap_hours": 24, "batch_size": 4,
            },
        },
        "trainer": {
            "accelerator": DEVICE, "max_epochs": 2, "enable_progress_bar": False, "log_every_n_steps": 1,
            "logger": logger,
            "callbacks": [
                {
                    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "init_args": {"filename": "best", "monitor": "val/loss"},
                },
                {
                    "class_path": "vaevar.models.vae.diagnostics.SampleDiagnostics",
                    "init_args": {"every_n_epochs": 2, "samples": 4, "channels": ["z500"]},
                },
            ],
        },
    }  # fmt: skip
    predict = {
        "seed_everything": 1,
        "return_predictions": False,
        "model": {
            "class_path": "vaevar.assim.cycle.module.AssimilationModule",
            "init_args": {
                "forecaster": forecaster,
                "arms": {
                    "free": {"class_path": "vaevar.assim.assimilator.FreeRun"},
                    "vaevar": {
                        "class_path": "vaevar.assim.variational.VariationalAssimilator",
                        "init_args": {
                            "control": {
                                "class_path": "vaevar.assim.control.decoder.DecoderControl",
                                "init_args": {"checkpoint": "runs/vae/checkpoints/best.ckpt"},
                            },
                            "iterations": 5,
                        },
                    },
                },
            },
        },
        "data": {
            "class_path": "vaevar.data.analysis_times.AnalysisTimes",
            "init_args": {
                "source": source, "start": "2021-01-16T00", "analyses": 4, "lead_hours": 12, "spec": SPEC,
                "network": {
                    "class_path": "vaevar.data.observations.networks.ColumnNetwork",
                    "init_args": {"count": 20}
                },
                "climatology": str(world / "climatological_std.npy"),
            },
        },
        "trainer": {
            "accelerator": DEVICE, "devices": 1, "inference_mode": False,
            "logger": {**logger, "init_args": {"save_dir": "runs", "name": "cycle", "version": ""}},
            "callbacks": [
                {"class_path": "vaevar.assim.cycle.cycle.Cycle"},
                {"class_path": "vaevar.assim.cycle.writer.StateWriter"},
                {"class_path": "vaevar.verification.scores.Scores", "init_args": {"skip": 1}},
                {
                    "class_path": "vaevar.verification.dashboards.Dashboards",
                    "init_args": {"channels": ["z500"], "maps": ["z500"], "maps_every": 3},
                },
                {"class_path": "vaevar.assim.cycle.progress.CycleProgress"},
            ],
        },
    }  # fmt: skip
    paths = {"fit": tmp_path / "vae.yaml", "predict": tmp_path / "cycle.yaml"}
    for name, content in (("fit", fit), ("predict", predict)):
        paths[name].write_text(yaml.safe_dump(content, sort_keys=False))
    return paths


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the checkpoint of the one fit of this module is kept."""
    return {"checkpoint": tmp_path_factory.mktemp("trained") / "best.ckpt"}


@pytest.fixture
def ready(configs: dict[str, Path], trained: dict[str, Path]) -> dict[str, Path]:
    """The configs, with a fitted VAE where the predict expects it."""
    target = Path("runs/vae/checkpoints/best.ckpt")
    if trained["checkpoint"].is_file():
        target.parent.mkdir(parents=True)
        shutil.copy(trained["checkpoint"], target)
    else:
        main(["fit", "--config", str(configs["fit"])])
        shutil.copy(target, trained["checkpoint"])
    return configs


@pytest.fixture
def killed_in_the_third_analysis(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Runs something that cycles, and kills it there."""

    def kill(run: Callable[[], None]) -> None:
        real, calls = Dashboards.on_predict_batch_end, []

        def dies(self: Dashboards, *args: Any, **kwargs: Any) -> None:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            real(self, *args, **kwargs)

        monkeypatch.setattr(Dashboards, "on_predict_batch_end", dies)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run()
        monkeypatch.setattr(Dashboards, "on_predict_batch_end", real)
        # Else what comes next would start from the beginning, and come to the same numbers too.
        made = [analyses_made(file.parent) for file in Path().rglob("restart.pt")]
        assert made
        assert min(made) in (2, 3)

    return kill
