"""Bad files, configs, command lines and arguments: one line that names the input, what was found and what is
expected, exit code 2, and nothing written, changed or removed."""

from __future__ import annotations

import hashlib
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import xarray as xr
import yaml

from tests.end_to_end.commands import FREE_AND_OI
from vaevar import scripts
from vaevar.cli import main
from vaevar.data.weather import climatology
from vaevar.standins import forecaster, weather

Change = Callable[[Path], Any]
# Name of the input, the command, what is changed beforehand, and patterns that the line must contain: the
# name, what was found, and what was expected or is to be done.
Bad = tuple[str, list[str], Change, tuple[str, ...]]

DATA, ARMS, FORECASTER = "data.init_args.", "model.init_args.arms.", "model.init_args.forecaster.init_args."
TRUTH, TRAINER = "truth.zarr", "trainer."


def nothing(directory: Path) -> None:
    """The command alone is bad."""


def setting(key: str, value: Any, config: str = "cycle.yaml") -> Change:
    """Set a key of a config."""

    def change(directory: Path) -> None:
        content = yaml.safe_load((directory / config).read_text())
        place = content
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
        (directory / config).write_text(yaml.safe_dump(content, sort_keys=False))

    return change


def file(name: str, content: bytes) -> Change:
    return lambda directory: (directory / name).write_bytes(content)


def store(edit: Callable[[xr.Dataset], xr.Dataset]) -> Change:
    """Write the truth again with an edit."""

    def change(directory: Path) -> None:
        dataset = xr.open_zarr(directory / TRUTH, chunks=None).load()
        for variable in dataset.variables.values():
            variable.encoding = {}
        shutil.rmtree(directory / TRUTH)
        edit(dataset).to_zarr(directory / TRUTH, zarr_format=2, consolidated=True)

    return change


def variable(name: str, change: Callable[[xr.DataArray], xr.DataArray], **attributes: str) -> Change:
    def edit(dataset: xr.Dataset) -> xr.Dataset:
        new = change(dataset[name]).astype(dataset[name].dtype)
        return dataset.assign({name: new.assign_attrs(dataset[name].attrs | attributes)})

    return store(edit)


def coordinate(name: str, change: Callable[[np.ndarray], np.ndarray], **attributes: str) -> Change:
    return store(lambda d: d.assign_coords({name: (name, change(d[name].values), attributes)}))


def numbers(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda directory: np.save(directory / name, change(np.load(directory / name)))


def model(edit: Callable[[onnx.ModelProto], Any]) -> Change:
    def change(directory: Path) -> None:
        content = onnx.load(str(directory / "toy.onnx"))
        edit(content)
        onnx.save(content, str(directory / "toy.onnx"))

    return change


def checkpoint(content: Any) -> Change:
    return lambda directory: torch.save(content, directory / "vae.ckpt")


def arm(path: str, **settings: Any) -> Change:
    return setting(f"{ARMS}other", {"class_path": path, "init_args": settings})


def damaged(name: str, change: Callable[[bytes], bytes]) -> Change:
    def apply(directory: Path) -> None:
        path = next(p for p in sorted((directory / TRUTH / name).iterdir()) if p.name.startswith("61."))
        path.write_bytes(change(path.read_bytes()))

    return apply


PREDICT, FIT = ["predict", "--config", "cycle.yaml"], ["fit", "--config", "vae.yaml"]
# What shows when a run has done some work, which is whole and stays.
MIDWAY = {"a metric that is not logged", "a chunk that is cut"}
T2M, MSL, Z = "2m_temperature", "mean_sea_level_pressure", "geopotential"

SETTINGS: list[Bad] = [
    ("start at half past", PREDICT, setting(DATA + "start", "2021-01-16T00:30"), ("start", "00:30")),
    ("start in month 13", PREDICT, setting(DATA + "start", "2021-13-16T00"), ("start", "2021-13-16T00")),
    (
        "start as text",
        PREDICT,
        setting(DATA + "start", "tomorrow"),
        ("start", "tomorrow", "2022-01-03T06|such as"),
    ),
    ("start with a zone", PREDICT, setting(DATA + "start", "2021-01-16T00+02:00"), ("start", r"\+02:00")),
    (
        "start before the truth",
        PREDICT,
        setting(DATA + "start", "2020-01-16T00"),
        (TRUTH, "2021-01-01", "2020-01-"),
    ),
    (
        "start after the truth",
        PREDICT,
        setting(DATA + "start", "2031-01-16T00"),
        (TRUTH, "2021-01-", "2031-01-"),
    ),
    ("start off the step", PREDICT, setting(DATA + "start", "2021-01-16T01"), (TRUTH, "T07", "nearest")),
    ("no analyses", PREDICT, setting(DATA + "analyses", 0), ("analyses", "0", "positive")),
    ("half an analysis", PREDICT, setting(DATA + "analyses", 2.5), ("analyses", r"2\.5", "whole number")),
    ("analyses as a word", PREDICT, setting(DATA + "analyses", "ten"), ("analyses", "ten", "whole number")),
    ("a step of nothing", PREDICT, setting(DATA + "step_hours", 0), ("step_hours", "0", "positive")),
    ("another step than the forecaster's", PREDICT, setting(DATA + "step_hours", 12), ("step", "12", "6")),
    ("a lead off the step", PREDICT, setting(DATA + "lead_hours", 13), ("lead", "13", "multiple")),
    ("a negative seed", PREDICT, setting(DATA + "seed", -1), ("seed", "-1", "negative")),
    ("no columns", PREDICT, setting(DATA + "network.init_args.count", 0), ("count", "0", "positive")),
    (
        "no quantities",
        PREDICT,
        setting(DATA + "network.init_args.quantities", []),
        ("quantities", "empty", "name"),
    ),
    (
        "an unknown quantity",
        PREDICT,
        setting(DATA + "network.init_args.quantities", ["temp"]),
        ("quantities", "temp", "z500|choose|observe"),
    ),
    (
        "a misspelt option",
        PREDICT,
        setting(DATA + "network.init_args.cuont", 5),
        ("cuont", "count|not expected|nrecognized|does not accept"),
    ),
    (
        "a misspelt class",
        PREDICT,
        setting(DATA + "network.class_path", "ColumNetwork"),
        ("ColumNetwork", "ColumnNetwork"),
    ),
    (
        "a wind error of zero",
        PREDICT,
        setting(DATA + "errors", {"class_path": "ObservationErrors", "init_args": {"wind": 0.0}}),
        ("wind", r"0\.0|is 0", "positive"),
    ),
    (
        "an error of something unknown",
        PREDICT,
        setting(DATA + "errors", {"class_path": "ObservationErrors", "init_args": {"others": {"w10": 1.0}}}),
        ("others", "w10"),
    ),
    ("levels from below", PREDICT, setting(DATA + "spec.levels", [850, 500]), ("levels", "850", "ascend")),
    ("levels in Pa", PREDICT, setting(DATA + "spec.levels", [50000, 85000]), ("level", "50000", "hPa")),
    ("a variable twice", PREDICT, setting(DATA + "spec.surface", ["t2m", "t2m"]), ("t2m", "repeat|twice")),
    ("an unknown variable", PREDICT, setting(DATA + "spec.upper", ["z", "w"]), ("'w'", "choose")),
    (
        "a truth that is not there",
        PREDICT,
        setting(DATA + "source.init_args.path", "no.zarr"),
        (r"no\.zarr", "no such", "path"),
    ),
    (
        "a lead of a store of states",
        PREDICT,
        setting(DATA + "source.init_args.lead_hours", 6),
        (TRUTH, "6 h", "leave lead_hours out"),
    ),
    (
        "a climatology that is not there",
        PREDICT,
        setting(DATA + "climatology", "no.npy"),
        (r"no\.npy", "No such|no such"),
    ),
    (
        "a forecaster that is not there",
        PREDICT,
        setting(FORECASTER + "model", "no.onnx"),
        (r"no\.onnx", "no such", r"\.onnx file"),
    ),
    (
        "mean and std exchanged",
        PREDICT,
        lambda d: (setting(FORECASTER + "mean", "std.npy")(d), setting(FORECASTER + "std", "mean.npy")(d)),
        (r"std\.npy", "mean", "std file|order"),
    ),
    (
        "an unknown kind of grid",
        PREDICT,
        setting(FORECASTER + "grid", "reduced"),
        ("grid", "reduced", "gaussian"),
    ),
    (
        "a shape that is not the file's",
        PREDICT,
        setting(FORECASTER + "shape", [17, 32]),
        (r"toy\.onnx", "16", "17"),
    ),
    (
        "a device that is not there",
        PREDICT,
        setting(FORECASTER + "device", "cuda"),
        ("device", "cuda", "auto or cpu"),
    ),
    ("an unknown device", PREDICT, setting(FORECASTER + "device", "npu7"), ("device", "npu7", "cpu")),
    ("no arms", PREDICT, setting("model.init_args.arms", {}), ("arms", "at least one")),
    (
        "an arm that leaves the run",
        PREDICT,
        lambda d: setting("model.init_args.arms", {"../up": "FreeRun"})(d),
        ("arms", r"\.\./up", "letters"),
    ),
    (
        "an arm without a class",
        PREDICT,
        setting("model.init_args.arms", {"one": None}),
        ("arms|one", "None|null|Assimilator"),
    ),
    (
        "a negative length",
        PREDICT,
        setting(ARMS + "oi.init_args.length_km", -5.0),
        ("length", "-5", "positive"),
    ),
    (
        "lambda of zero",
        PREDICT,
        arm("ThreeDVar", statistics="b.nc", lambda_=0.0),
        ("lambda|b.nc", "0|no such"),
    ),
    (
        "B that is not there",
        PREDICT,
        arm("ThreeDVar", statistics="no.nc"),
        (r"no\.nc", "no such", "covariance.yaml"),
    ),
    (
        "a VAE that is not there",
        PREDICT,
        arm("VAEVar", checkpoint="no.ckpt"),
        (r"no\.ckpt", "no such", "fit --config"),
    ),
    (
        "a denoiser that is not there",
        PREDICT,
        arm("DiffDA", checkpoint_48h="no.ckpt"),
        (r"no\.ckpt", "no such", "diffda.yaml"),
    ),
    (
        "DiffDA without members",
        PREDICT,
        arm("DiffDA", checkpoint_48h="no.ckpt", members=0),
        ("members", "0", "positive"),
    ),
    (
        "half precision",
        PREDICT,
        setting(TRAINER + "precision", "16-true"),
        ("precision", "16-true", "32-true"),
    ),
    (
        "an unknown precision",
        PREDICT,
        setting(TRAINER + "precision", "half"),
        ("precision", "half", "32-true"),
    ),
    (
        "a GPU that is not there",
        PREDICT,
        setting(TRAINER + "accelerator", "cuda"),
        ("accelerator|cuda|CUDA", "No supported|available|not"),
    ),
    ("inference mode", PREDICT, setting(TRAINER + "inference_mode", True), ("inference_mode", "false")),
    (
        "no batches",
        PREDICT,
        setting(TRAINER + "limit_predict_batches", 0),
        ("limit_predict_batches", "0", "1"),
    ),
    (
        "a misspelt option of the trainer",
        PREDICT,
        setting(TRAINER + "callback", []),
        ("callback", "callbacks|not expected|does not accept"),
    ),
    (
        "a channel of a dashboard that is not there",
        PREDICT,
        setting(TRAINER + "callbacks", [{"class_path": "Dashboards", "init_args": {"channels": ["z700"]}}]),
        ("z700", "z500"),
    ),
    (
        "a forecast off the step",
        PREDICT,
        setting(TRAINER + "callbacks", [{"class_path": "Forecasts", "init_args": {"lead_hours": [7]}}]),
        ("7", "multiple|step"),
    ),
    (
        "no validation samples",
        FIT,
        setting(DATA + "validation_fraction", 0.0, "vae.yaml"),
        ("validation_fraction", r"0\.0", "between"),
    ),
    ("a batch of nothing", FIT, setting(DATA + "batch_size", 0, "vae.yaml"), ("batch_size", "0", "positive")),
    (
        "a lead that is not made",
        FIT,
        setting(DATA + "lead_hours", 24, "vae.yaml"),
        ("lead_hours", "24", "48"),
    ),
    (
        "samples every ten hours",
        FIT,
        setting(DATA + "making.init_args.every_hours", 10, "vae.yaml"),
        ("every_hours", "10", "divide 24"),
    ),
    (
        "a period that ends first",
        FIT,
        setting(DATA + "making.init_args.end", "2020-12-15T00", "vae.yaml"),
        ("2020-12-15", "before|start"),
    ),
    ("a VAE without a width", FIT, setting("model.init_args.widths", [], "vae.yaml"), ("widths",)),
    (
        "a patch that does not fit",
        FIT,
        setting("model.init_args.patch", 3, "vae.yaml"),
        ("patch|VAE", "3", "divide"),
    ),
    ("sigma of zero", FIT, setting("model.init_args.sigma", 0.0, "vae.yaml"), ("sigma", "0", "positive")),
    (
        "a learning rate below zero",
        FIT,
        setting("model.init_args.learning_rate", -1.0, "vae.yaml"),
        ("learning_rate|learning rate", "-1", "positive"),
    ),
    (
        "a metric that is not logged",
        FIT,
        setting(
            TRAINER + "callbacks",
            [{"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/los"}}],
            "vae.yaml",
        ),
        ("val/los", "val/loss"),
    ),
]

FILES: list[Bad] = [
    (
        "an empty config",
        PREDICT,
        file("cycle.yaml", b""),
        (r"cycle\.yaml", "empty|no config|not a config|no sections"),
    ),
    (
        "a config with a tab",
        PREDICT,
        file("cycle.yaml", b"model:\n\tclass_path: VAE\n"),
        (r"cycle\.yaml", "tab|line 2|t'"),
    ),
    (
        "a config that is a list",
        PREDICT,
        file("cycle.yaml", b"- a\n- b\n"),
        (r"cycle\.yaml", "list|config|sections"),
    ),
    (
        "a config in binary",
        PREDICT,
        file("cycle.yaml", bytes(range(256))),
        (r"cycle\.yaml", "UTF-8|text|read|binary"),
    ),
    (
        "a config that is a web page",
        PREDICT,
        file("cycle.yaml", b"<!DOCTYPE html><html>404</html>"),
        (r"cycle\.yaml",),
    ),
    (
        "a config that is a directory",
        PREDICT,
        lambda d: ((d / "cycle.yaml").unlink(), (d / "cycle.yaml").mkdir()),
        (r"cycle\.yaml", "directory"),
    ),
    ("a truth in Celsius", PREDICT, variable(T2M, lambda x: x, units="degC"), (T2M, "degC", "'K'")),
    (
        "a truth in Celsius that does not say so",
        PREDICT,
        variable(T2M, lambda x: x - 273.15),
        ("t2m|2m_temp", "K|mean"),
    ),
    (
        "pressure in hPa that does not say so",
        PREDICT,
        variable(MSL, lambda x: x / 100),
        ("msl|mean_sea", "Pa|mean"),
    ),
    (
        "a truth with NaN",
        PREDICT,
        variable(T2M, lambda x: x.where(x["latitude"] > 0)),
        (TRUTH, T2M, "not finite|NaN"),
    ),
    ("a truth of zeros", PREDICT, variable(T2M, lambda x: x * 0), ("t2m|2m_temp", "0|mean")),
    (
        "a truth with fill values",
        PREDICT,
        variable(T2M, lambda x: x.where(x["latitude"] > 60, 9.97e36)),
        ("t2m|2m_temp",),
    ),
    ("a truth without msl", PREDICT, store(lambda d: d.drop_vars(MSL)), (TRUTH, MSL, "lacks")),
    ("a truth without a level", PREDICT, store(lambda d: d.isel(level=[0])), (TRUTH, "850", "lacks|has")),
    (
        "a truth on model levels",
        PREDICT,
        coordinate("level", lambda x: np.array([1, 2]), units="1"),
        (TRUTH, "level"),
    ),
    ("a truth without times", PREDICT, store(lambda d: d.drop_vars("time")), (TRUTH, "time", "expected")),
    (
        "a truth with a time twice",
        PREDICT,
        coordinate("time", lambda t: np.where(t == t[5], t[4], t)),
        (TRUTH, "time", "repeat|twice"),
    ),
    (
        "a truth with plain numbers for times",
        PREDICT,
        coordinate("time", lambda t: np.arange(t.size)),
        (TRUTH, "time", "hours since"),
    ),
    ("a truth with a gap", PREDICT, store(lambda d: d.drop_isel(time=62)), (TRUTH, "2021-01-16T12")),
    (
        "a truth of the south",
        PREDICT,
        store(lambda d: d.isel(latitude=slice(8, None))),
        ("truth|grid|latitude",),
    ),
    (
        "a truth of the west",
        PREDICT,
        store(lambda d: d.isel(longitude=slice(0, 16))),
        (TRUTH, "longitude", "circle|even|region"),
    ),
    (
        "a truth on another grid",
        PREDICT,
        coordinate("latitude", lambda x: np.linspace(80, -80, 16)),
        ("truth", "rid"),
    ),
    (
        "a truth that is a file",
        PREDICT,
        lambda d: (shutil.rmtree(d / TRUTH), (d / TRUTH).write_text("x")),
        (TRUTH, "zarr|store"),
    ),
    (
        "a truth with metadata that are cut",
        PREDICT,
        file(f"{TRUTH}/.zmetadata", b'{"metadata"'),
        (TRUTH, "opened|read"),
    ),
    (
        "a chunk that is cut",
        PREDICT,
        damaged(T2M, lambda b: b[: len(b) // 2]),
        (TRUTH, T2M, "cannot be read|damaged"),
    ),
    (
        "a chunk that is empty",
        PREDICT,
        damaged(T2M, lambda b: b""),
        (TRUTH, T2M, "cannot be read|damaged|empty"),
    ),
    (
        "an ONNX file that is a web page",
        PREDICT,
        file("toy.onnx", b"<!DOCTYPE html><html>404</html>"),
        (r"toy\.onnx", "model|page"),
    ),
    (
        "an ONNX file that is cut",
        PREDICT,
        lambda d: (d / "toy.onnx").write_bytes((d / "toy.onnx").read_bytes()[:200]),
        (r"toy\.onnx", "open"),
    ),
    (
        "an ONNX file with an input called x",
        PREDICT,
        model(lambda m: rename(m, "input", "x")),
        (r"toy\.onnx", "x", "input"),
    ),
    ("an ONNX file of other channels", PREDICT, model(lambda m: dim(m, 1, 138)), (r"toy\.onnx", "138", "12")),
    (
        "an ONNX file with a batch of four",
        PREDICT,
        model(lambda m: dim(m, 0, 4)),
        (r"toy\.onnx", "4", "1 or an open one"),
    ),
    (
        "a mean with a channel more",
        PREDICT,
        numbers("mean.npy", lambda x: np.append(x, 1.0)),
        (r"mean\.npy", "7", "6"),
    ),
    (
        "a mean in another order",
        PREDICT,
        numbers("mean.npy", lambda x: x[::-1]),
        (r"mean\.npy", "t2m", "order"),
    ),
    ("a mean with NaN", PREDICT, numbers("mean.npy", lambda x: x * np.nan), (r"mean\.npy", "finite")),
    ("a std of zero", PREDICT, numbers("std.npy", lambda x: x * 0), (r"std\.npy", "t2m is 0", "expected")),
    ("a mean that is a pickle", PREDICT, file("mean.npy", pickle.dumps([1.0])), (r"mean\.npy", "npy")),
    (
        "a climatology of one channel",
        PREDICT,
        numbers("climatology.npy", lambda x: x[:1]),
        (r"climatology\.npy", "1", "6"),
    ),
    (
        "a negative climatology",
        PREDICT,
        numbers("climatology.npy", np.negative),
        (r"climatology\.npy", "-1", "expected"),
    ),
    ("a climatology as text", PREDICT, file("climatology.npy", b"1 2 3 4 5 6"), (r"climatology\.npy", "npy")),
    (
        "a VAE that is a web page",
        PREDICT,
        lambda d: (file("vae.ckpt", b"<html>")(d), arm("VAEVar", checkpoint="vae.ckpt")(d)),
        (r"vae\.ckpt", "checkpoint"),
    ),
    (
        "a VAE that is something else",
        PREDICT,
        lambda d: (checkpoint({"a": 1})(d), arm("VAEVar", checkpoint="vae.ckpt")(d)),
        (r"vae\.ckpt", "hyper_parameters|checkpoint"),
    ),
    (
        "a VAE of another format",
        PREDICT,
        lambda d: (
            checkpoint({"format": "vaevar-denoiser-1", "hyper_parameters": {}, "state_dict": {}})(d),
            arm("VAEVar", checkpoint="vae.ckpt")(d),
        ),
        (r"vae\.ckpt", "denoiser", "vae"),
    ),
    (
        "B that is a checkpoint",
        PREDICT,
        lambda d: (checkpoint({})(d), arm("ThreeDVar", statistics="vae.ckpt")(d)),
        (r"vae\.ckpt", "netCDF|checkpoint", "covariance.yaml"),
    ),
    (
        "samples that are weather",
        FIT,
        lambda d: (
            setting(DATA + "path", TRUTH, "vae.yaml")(d),
            setting(DATA + "making", None, "vae.yaml")(d),
        ),
        (TRUTH, "format", "vaevar-samples-1"),
    ),
    (
        "samples that are not there",
        FIT,
        lambda d: (
            setting(DATA + "path", "no.zarr", "vae.yaml")(d),
            setting(DATA + "making", None, "vae.yaml")(d),
        ),
        (r"no\.zarr", "no such", "making"),
    ),
]

WORDS: list[Bad] = [
    ("no config", ["predict"], nothing, ("config|model|data",)),
    ("no command", [], nothing, ("fit", "predict")),
    ("an unknown command", ["assimilate"], nothing, ("assimilate", "predict")),
    ("a config that is not there", ["predict", "--config", "no.yaml"], nothing, (r"no\.yaml",)),
    (
        "an option that is misspelt",
        [*PREDICT, "--data.init_args.analysis", "3"],
        nothing,
        ("analysis", "analyses"),
    ),
    ("an option of nothing", [*PREDICT, "--speed", "3"], nothing, ("speed",)),
    ("a value that is missing", [*PREDICT, "--name"], nothing, ("name", "argument")),
    (
        "a name that leaves runs",
        [*PREDICT, "--name", "../elsewhere"],
        nothing,
        ("name", r"\.\./elsewhere|elsewhere"),
    ),
    ("an empty name", [*PREDICT, "--name", ""], nothing, ("name",)),
    ("a checkpoint that is not there", [*FIT, "--ckpt_path", "no.ckpt"], nothing, (r"no\.ckpt", "no such")),
    (
        "a checkpoint that is a store",
        [*FIT, "--ckpt_path", "climatology.npy"],
        nothing,
        (r"climatology\.npy", "checkpoint"),
    ),
    ("fit with a config of predict", ["fit", "--config", "cycle.yaml"], nothing, ("fit|predict",)),
    ("predict with a config of fit", ["predict", "--config", "vae.yaml"], nothing, ("predict|fit",)),
    (
        "a climatology of a period that ends first",
        [
            "climatology",
            "--source",
            "StoreSource",
            "--source.path",
            TRUTH,
            "--start",
            "2021-02-01",
            "--end",
            "2021-01-01",
        ],
        nothing,
        ("ends", "2021-01-01", "before"),
    ),
    (
        "a climatology of a missing store",
        [
            "climatology",
            "--source",
            "StoreSource",
            "--source.path",
            "no.zarr",
            "--start",
            "2021-01-01",
            "--end",
            "2021-01-02",
        ],
        nothing,
        (r"no\.zarr", "no such"),
    ),
    (
        "a climatology every ten hours",
        [
            "climatology",
            "--source",
            "StoreSource",
            "--source.path",
            TRUTH,
            "--start",
            "2021-01-01",
            "--end",
            "2021-01-02",
            "--every",
            "10",
        ],
        nothing,
        ("every", "10", "6"),
    ),
    ("weather on three columns", ["weather", "--path", "w.zarr", "--columns", "3"], nothing, ("3", "even")),
    (
        "weather on one row",
        ["weather", "--path", "w.zarr", "--rows", "1", "--columns", "8"],
        nothing,
        ("1", "impossible"),
    ),
    (
        "weather over another store",
        ["weather", "--path", TRUTH, "--rows", "9", "--columns", "16"],
        nothing,
        (TRUTH, "another store", "another path"),
    ),
    (
        "weather that ends first",
        ["weather", "--path", "w.zarr", "--start", "2020-02-01T00", "--end", "2020-01-01T00"],
        nothing,
        ("ends", "2020-01-01", "before"),
    ),
    (
        "a forecaster without columns",
        ["forecaster", "--path", "f.onnx", "--columns", "0"],
        nothing,
        ("0", "one or more"),
    ),
]
PROGRAMS = {"climatology": climatology.write, "weather": weather.write, "forecaster": forecaster.write}
BAD = [*SETTINGS, *FILES, *WORDS]


def rename(content: onnx.ModelProto, old: str, new: str) -> None:
    content.graph.input[0].name = new
    for node in content.graph.node:
        for number, name in enumerate(node.input):
            node.input[number] = new if name == old else name


def dim(content: onnx.ModelProto, axis: int, size: int) -> None:
    content.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size


@pytest.fixture
def directory(world: Path, configs: dict[str, Path], tmp_path: Path) -> Path:
    """Everything that a cycle needs, to be spoilt, with two arms that need no weights."""
    shutil.copytree(world / "truth.zarr", tmp_path / "truth.zarr")
    shutil.copy(world / "climatological_std.npy", tmp_path / "climatology.npy")
    for name, key in (
        ("cycle.yaml", "data.init_args.source"),
        ("vae.yaml", "data.init_args.making.init_args.source"),
    ):
        setting(f"{key}.init_args.path", TRUTH, name)(tmp_path)
    setting("data.init_args.climatology", "climatology.npy")(tmp_path)
    setting("model.init_args.arms", FREE_AND_OI)(tmp_path)
    for name in ("model", "mean", "std"):
        stem = "toy.onnx" if name == "model" else f"{name}.npy"
        setting(FORECASTER + name, stem)(tmp_path)
        setting(f"data.init_args.making.init_args.forecaster.init_args.{name}", stem, "vae.yaml")(tmp_path)
    return tmp_path


def contents(directory: Path) -> dict[str, str]:
    """Everything in a directory, to the last byte."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in sorted(directory.rglob("*"))
    }


def give(words: list[str]) -> None:
    if words and words[0] in PROGRAMS:
        scripts.run(PROGRAMS[words[0]], words[1:])
    else:
        main(words)


@pytest.mark.parametrize(("words", "change", "said"), [pytest.param(*row[1:], id=row[0]) for row in BAD])
def test_a_bad_input_is_named(
    words: list[str],
    change: Change,
    said: tuple[str, ...],
    directory: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(directory)
    before = contents(directory)
    with pytest.raises(SystemExit) as stop:
        give(words)
    output = capsys.readouterr()
    (line,) = [line for line in output.err.splitlines() if line.startswith("error:")]
    assert stop.value.code == 2
    assert "Traceback" not in output.err + output.out
    for pattern in said:
        assert re.search(pattern, line), f"{pattern} is not in: {line}"
    assert len(line) < 500, line
    after = contents(directory)
    if any(change is row[2] for row in BAD if row[0] in MIDWAY):
        assert before.items() <= after.items()
        assert not any(".partial" in path for path in after)
        return
    assert after == before, sorted(set(after.items()) ^ set(before.items()))


def test_all_that_show_midway_are_tried() -> None:
    assert {row[0] for row in BAD} >= MIDWAY


def test_there_are_many() -> None:
    names = [row[0] for row in BAD]
    assert len(set(names)) == len(names) >= 80
