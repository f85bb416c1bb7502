"""Changes of settings in the config of a cycle and of a fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from changes.kinds import Case

DATA, TRUTH = "data.init_args.", "data.init_args.source.init_args."
FORECASTER, ARMS = "model.init_args.forecaster.init_args.", "model.init_args.arms."
VAEVAR, SAMPLES = ARMS + "vaevar.init_args.", "data.init_args."
Row = tuple[str, Any, str]


def cases() -> Iterator[Case]:
    """All of them."""
    for target, probe, rows in (("cycle.yaml", "cycle", CYCLE), ("vae.yaml", "fit", FIT)):
        for key, value, names in rows:
            shown = yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()
            yield Case(target, f"`{key}: {shown}`", _set(target, key, value), probe, names)
        for change, edit in _texts():
            yield Case(target, change, _text(target, edit), probe, target)


def _set(target: str, key: str, value: Any) -> Callable[[Path], Any]:
    def apply(directory: Path) -> None:
        path = directory / target
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        place = content
        *parents, last = key.split(".")
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                place[parent] = {}
            place = place[parent]
        place[last] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    return apply


def _text(target: str, edit: Callable[[str], str]) -> Callable[[Path], Any]:
    def apply(directory: Path) -> None:
        path = directory / target
        path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")

    return apply


CYCLE: list[Row] = [
    (DATA + "start", "2021-01-03T06:30", "start"),
    (DATA + "start", "2021-01-03T07", "truth.zarr|start"),
    (DATA + "start", "2021-13-03T06", "start"),
    (DATA + "start", "2021-01-03T06+02:00", "start"),
    (DATA + "start", "03.01.2021", "start"),
    (DATA + "start", "2031-01-03T06", "truth.zarr"),
    (DATA + "start", "2021-01-01T00", "truth.zarr"),
    (DATA + "start", "now", "start"),
    (DATA + "start", 20210103, "start"),
    (DATA + "analyses", 0, "analyses"),
    (DATA + "analyses", 1000, "truth.zarr|analyses"),
    (DATA + "analyses", 2.5, "analyses"),
    (DATA + "analyses", "two", "analyses"),
    (DATA + "step_hours", 12, "step_hours"),
    (DATA + "step_hours", 3, "step_hours"),
    (DATA + "step_hours", 0.25, "step_hours"),
    (DATA + "lead_hours", 13, "lead"),
    (DATA + "lead_hours", -12, "lead"),
    (DATA + "lead_hours", 0, "lead"),
    (DATA + "seed", -1, "seed"),
    (DATA + "network.init_args.count", 0, "count"),
    (DATA + "network.init_args.count", -5, "count"),
    (DATA + "network.init_args.count", 1.5, "count"),
    (DATA + "network.init_args.seed", -1, "seed"),
    (DATA + "network.init_args.quantities", ["temperature"], "quantities"),
    (DATA + "network.init_args.quantities", [], "quantities"),
    (DATA + "network.init_args.quantities", ["t850", "t850"], "quantities"),
    (DATA + "network.init_args.quantities", ["t700"], "quantities|t700|700"),
    (DATA + "network.init_args.density", 5, "density"),
    (DATA + "network.class_path", "ColumNetwork", "ColumnNetwork"),
    (DATA + "errors", {"class_path": "ObservationErrors", "init_args": {"wind": 0.0}}, "wind"),
    (DATA + "errors", {"class_path": "ObservationErrors", "init_args": {"temperature": -1.0}}, "temperature"),
    (DATA + "errors", {"class_path": "ObservationErrors", "init_args": {"pressure": 100.0}}, "pressure"),
    (DATA + "errors", {"class_path": "ObservationErrors", "init_args": {"humidity": 15.0}}, "humidity"),
    (DATA + "errors", {"class_path": "ObservationErrors", "init_args": {"others": {"ws": 1.0}}}, "others|ws"),
    (DATA + "errors", {"class_path": "ObservationErrors", "init_args": {"others": {"t": 5.0}}}, "others|t"),
    (DATA + "climatology", "drift_mean.npy", "drift_mean.npy"),
    (DATA + "climatology", "truth.zarr", "truth.zarr"),
    (DATA + "climatology", "missing.npy", "missing.npy"),
    (DATA + "climatologie", "climatology.npy", "climatologie"),
    (DATA + "spec.levels", [850, 500, 300], "levels"),
    (DATA + "spec.levels", [30000, 50000, 85000], "level"),
    (DATA + "spec.levels", [300, 500], "level|climatology|channel"),
    (DATA + "spec.levels", [300.5, 500, 850], "level"),
    (DATA + "spec.surface", ["t2m", "msl", "u10", "v10"], "channel|climatology"),
    (DATA + "spec.upper", ["z", "t"], "channel|climatology"),
    (DATA + "spec.upper", ["z", "q", "u", "v", "w"], "w"),
    (TRUTH + "path", "missing.zarr", "missing.zarr"),
    (TRUTH + "path", "covariance.nc", "covariance.nc"),
    (TRUTH + "path", "errors.zarr", "errors.zarr"),
    (TRUTH + "path", ".", r"\."),
    (TRUTH + "path", "", "path"),
    (TRUTH + "lead_hours", 6, "lead"),
    (FORECASTER + "model", "vae.ckpt", "vae.ckpt"),
    (FORECASTER + "model", "missing.onnx", "missing.onnx"),
    (FORECASTER + "mean", "drift_std.npy", "drift_std.npy"),
    (FORECASTER + "std", "drift_mean.npy", "drift_mean.npy"),
    (FORECASTER + "mean", "climatology.npy", "climatology.npy"),
    (FORECASTER + "step_hours", 12, "step_hours"),
    (FORECASTER + "step_hours", 1, "step_hours"),
    (FORECASTER + "grid", "equiangular", "grid"),
    (FORECASTER + "grid", "reduced", "grid"),
    (FORECASTER + "shape", [32, 16], "shape"),
    (FORECASTER + "shape", [17, 32], "shape"),
    (FORECASTER + "device", "cuda", "device"),
    (FORECASTER + "device", "gpu", "device"),
    (FORECASTER + "threads", -4, "threads"),
    (FORECASTER + "spec.levels", [850, 500, 300], "levels"),
    (FORECASTER + "spec.upper", ["z", "q", "u", "t", "v"], "channel|drift"),
    (ARMS + "interpolation.init_args.length_km", -800.0, "length_km"),
    (ARMS + "interpolation.init_args.length_km", 0.0, "length_km"),
    (ARMS + "interpolation.init_args.length_km", 800000.0, "length_km"),
    (ARMS + "interpolation.init_args.length", 800.0, "length"),
    (ARMS + "interpolation.init_args.length_km", {"temperature": 500.0}, "length_km|temperature"),
    (ARMS + "threedvar.init_args.lambda_", -1.0, "lambda"),
    (ARMS + "threedvar.init_args.lambda_", 0.0, "lambda"),
    (ARMS + "threedvar.init_args.iterations", 0, "iterations"),
    (ARMS + "threedvar.init_args.iterations", -3, "iterations"),
    (ARMS + "threedvar.init_args.statistics", "vae.ckpt", "vae.ckpt"),
    (ARMS + "threedvar.init_args.statistics", "missing.nc", "missing.nc"),
    (ARMS + "threedvar.init_args.statistic", "covariance.nc", "statistic"),
    (VAEVAR + "control.init_args.checkpoint", "denoiser.ckpt", "denoiser.ckpt"),
    (VAEVAR + "control.init_args.checkpoint", "covariance.nc", "covariance.nc"),
    (VAEVAR + "control.init_args.checkpoint", None, "checkpoint"),
    (VAEVAR + "control", "Decoder", "control"),
    (ARMS + "diffda.init_args.checkpoint_48h", "vae.ckpt", "vae.ckpt"),
    (ARMS + "diffda.init_args.steps", 0, "steps"),
    (ARMS + "diffda.init_args.steps", 5000, "steps"),
    (ARMS + "diffda.init_args.members", 0, "members"),
    (ARMS + "diffda.init_args.mask_width", 0.0, "mask_width"),
    (ARMS + "diffda.init_args.resamples", 0, "resamples"),
    ("model.init_args.arms", {"../elsewhere": "FreeRun"}, "elsewhere"),
    (ARMS + "free", "FreRun", "FreeRun"),
    (ARMS + "free", None, "free"),
    (ARMS + "", "FreeRun", "arms"),
    ("model.init_args.arms", {}, "arms"),
    ("model.init_args.arms", ["FreeRun"], "arms"),
    ("model.init_args.arm", {}, "arm"),
    ("model", "VAE", "model|VAE"),
    ("model.class_path", "AsimilationModule", "AssimilationModule"),
    ("data.class_path", "BackgroundErrors", "BackgroundErrors|data"),
    ("trainer.precision", "16-true", "precision"),
    ("trainer.precision", "half", "precision"),
    ("trainer.accelerator", "gpu", "gpu|accelerator|GPU"),
    ("trainer.accelerator", "cuda:0", "accelerator|cuda"),
    ("trainer.devices", 0, "devices"),
    ("trainer.inference_mode", True, "inference_mode"),
    ("trainer.limit_predict_batches", 0, "limit_predict_batches"),
    ("trainer.limit_predict_batches", 0.1, "limit_predict_batches"),
    ("trainer.callback", [], "callback"),
    ("trainer.callbacks", [{"class_path": "Scores", "init_args": {"skip": 50}}], "skip"),
    ("trainer.callbacks", [{"class_path": "Scores", "init_args": {"skip": -1}}], "skip"),
    (
        "trainer.callbacks",
        [{"class_path": "Cycle", "init_args": {"failures_in_a_row": 0}}],
        "failures_in_a_row",
    ),
    ("trainer.callbacks", ["Cycle", "Cycle"], "Cycle"),
    ("trainer.callbacks", [{"class_path": "Dashboards", "init_args": {"channels": ["z700"]}}], "z700"),
    ("trainer.callbacks", [{"class_path": "Forecasts", "init_args": {"lead_hours": [7]}}], "lead_hours"),
    ("trainer.callbacks", [{"class_path": "Forecasts", "init_args": {"every": 0}}], "every"),
    ("return_prediction", False, "return_prediction"),
    ("seed_everything", "one", "seed_everything"),
    ("name", "../cycle", "name|cycle"),
    ("name", "", "name"),
    ("ckpt_path", "missing.ckpt", "missing.ckpt"),
    ("optimizer", {"class_path": "torch.optim.Adam"}, "optimizer"),
]
FIT: list[Row] = [
    (SAMPLES + "path", "pairs.zarr", "pairs.zarr"),
    (SAMPLES + "path", "truth.zarr", "truth.zarr"),
    (SAMPLES + "path", "", "path"),
    (SAMPLES + "lead_hours", 24, "lead"),
    (SAMPLES + "validation_fraction", 0.0, "validation_fraction"),
    (SAMPLES + "validation_fraction", 20, "validation_fraction"),
    (SAMPLES + "validation_fraction", 0.999, "validation_fraction"),
    (SAMPLES + "gap_hours", -1, "gap_hours"),
    (SAMPLES + "gap_hours", 10000, "gap_hours|training"),
    (SAMPLES + "batch_size", 0, "batch_size"),
    (SAMPLES + "batch_size", 100000, "batch"),
    (SAMPLES + "workers", -1, "workers"),
    (SAMPLES + "roll_longitude", -2, "roll_longitude"),
    (SAMPLES + "roll_longitude", 1000, "roll_longitude"),
    (SAMPLES + "zonal_floor", 0.0, "zonal_floor"),
    (SAMPLES + "making.init_args.every_hours", 10, "every_hours"),
    (SAMPLES + "making.init_args.every_hours", 12, "errors.zarr|every_hours"),
    (SAMPLES + "making.init_args.every_hours", 0, "every_hours"),
    (SAMPLES + "making.init_args.start", "2021-01-20T00", "period|start|errors.zarr"),
    (SAMPLES + "making.init_args.start", "2021-01-01T00:30", "2021-01-01T00:30|start"),
    (SAMPLES + "making.init_args.end", "2021-01-11", "errors.zarr|end"),
    (SAMPLES + "making.init_args.leads", [24, 48], "leads"),
    (SAMPLES + "making.init_args.source.init_args.path", "other.zarr", "other.zarr|errors.zarr"),
    (SAMPLES + "making.class_path", "ForecastErrors", "errors.zarr|leads"),
    ("model.init_args.nlat", 17, "nlat|errors.zarr"),
    ("model.init_args.nlat", 48, "nlat|48"),
    ("model.init_args.gaussian", False, "grid|errors.zarr|gaussian"),
    ("model.init_args.levels", [850, 500, 300], "levels"),
    ("model.init_args.levels", [250, 500, 850], "levels|channel"),
    ("model.init_args.upper", ["q", "z", "u", "v", "t"], "upper|channel"),
    ("model.init_args.patch", 3, "patch"),
    ("model.init_args.patch", 0, "patch"),
    ("model.init_args.widths", [8], "widths|depths"),
    ("model.init_args.widths", [], "widths"),
    ("model.init_args.heads", [0, 3], "heads"),
    ("model.init_args.window", 5, "window"),
    ("model.init_args.sigma", 0.0, "sigma"),
    ("model.init_args.sigma", -1.0, "sigma"),
    ("model.init_args.kl_weight", -1.0, "kl_weight"),
    ("model.init_args.learning_rate", -0.1, "learning_rate"),
    ("model.init_args.learning_rate", 1e6, "learning_rate|loss|diverge|finite"),
    ("model.init_args.warmup_steps", -1, "warmup_steps"),
    ("model.init_args.warmup_steps", 100000, "warmup_steps"),
    ("model.init_args.latent_channels", 0, "latent_channels"),
    ("model.init_args.laten_channels", 4, "laten_channels"),
    ("trainer.max_steps", 0, "max_steps"),
    ("trainer.max_epochs", 0, "max_epochs"),
    ("trainer.limit_train_batches", 0, "limit_train_batches"),
    ("trainer.precision", "64-true", "precision"),
    ("trainer.gradient_clip_val", -1.0, "gradient_clip_val"),
    ("trainer.callbacks", [{"class_path": "ExportWeights", "init_args": {"path": "."}}], r"\.|path"),
    (
        "trainer.callbacks",
        [{"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/los"}}],
        "val/los",
    ),
]


def _texts() -> Iterator[tuple[str, Callable[[str], str]]]:
    yield "a tab for an indent", lambda text: text.replace("\n  ", "\n\t", 1)
    yield "a key twice", lambda text: text + "trainer: {devices: 1}\n"
    yield (
        "cut in the middle of a list",
        lambda text: text[: text.index("[") + 1] if "[" in text else text[:200] + ": :",
    )
    yield "an empty file", lambda text: ""
    yield "a list", lambda text: "- model\n- data\n"
    yield "JSON with a comma too many", lambda text: '{"model": {},,}'
    yield "a web page", lambda text: "<!DOCTYPE html><html>404</html>"
    yield "NUL bytes", lambda text: text[:40] + "\0\0" + text[40:]
