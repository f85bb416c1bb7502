"""Changes of an ONNX forecaster: its contract, what it says of itself, its weights and its bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from changes.damage import damaged
from changes.kinds import Case
from vaevar.models.forecaster.fengwu import METADATA_KEY

MODEL = "drift.onnx"
NO_CHECKSUM = "an ONNX file has no checksum, and what a network computes is all that says what it computes"
Edit = Callable[[onnx.ModelProto], Any]


def cases() -> Iterator[Case]:
    """All of them."""
    for change, edit, unknowable in [*_contract(), *_weights()]:
        yield Case(MODEL, change, _edited(edit), "cycle", MODEL, unknowable)
    for change, update in _metadata():
        yield Case(MODEL, f"says {change}", _edited(_said(update)), "cycle", MODEL)
    for change, damage in _bytes():
        yield Case(MODEL, change, damage, "cycle", MODEL)


def _edited(edit: Edit) -> Callable[[Path], Any]:
    def apply(directory: Path) -> None:
        model = onnx.load(str(directory / MODEL))
        edit(model)
        onnx.save(model, str(directory / MODEL))

    return apply


def _dim(value: onnx.ValueInfoProto, axis: int, size: int | str) -> None:
    dim = value.type.tensor_type.shape.dim[axis]
    if isinstance(size, int):
        dim.dim_value = size
    else:
        dim.dim_param = size


def _renamed(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            for number, name in enumerate(names):
                if name == old:
                    names[number] = new
    for value in (*model.graph.input, *model.graph.output):
        if value.name == old:
            value.name = new


def _insert_at_end(model: onnx.ModelProto, kind: str, **constants: np.ndarray) -> None:
    """One more operation before the output."""
    _renamed(model, "output", "before")
    model.graph.output[0].name = "output"
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.graph.node.append(helper.make_node(kind, ["before", *constants], ["output"]))


def _gather_at_start(model: onnx.ModelProto, order: np.ndarray) -> None:
    """The input's channels in another order."""
    for node in model.graph.node:
        for number, name in enumerate(node.input):
            if name == "input":
                node.input[number] = "ordered"
    model.graph.initializer.append(numpy_helper.from_array(order.astype(np.int64), "order"))
    model.graph.node.insert(0, helper.make_node("Gather", ["input", "order"], ["ordered"], axis=1))


def _typed(kind: int) -> Edit:
    """An input of another type, cast to float32 inside."""

    def edit(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for number, name in enumerate(node.input):
                if name == "input":
                    node.input[number] = "cast"
        model.graph.node.insert(0, helper.make_node("Cast", ["input"], ["cast"], to=TensorProto.FLOAT))
        model.graph.input[0].type.tensor_type.elem_type = kind

    return edit


def _turned(model: onnx.ModelProto) -> None:
    _dim(model.graph.input[0], 2, 32)
    _dim(model.graph.input[0], 3, 16)


def _second_output(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Identity", ["output"], ["again"]))
    model.graph.output.append(
        helper.make_tensor_value_info("again", TensorProto.FLOAT, ["batch", 38, 16, 32])
    )


def _second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("hour", TensorProto.FLOAT, [1]))


def _contract() -> Iterator[tuple[str, Edit, str]]:
    yield "its input called x", lambda m: _renamed(m, "input", "x"), ""
    yield "its output called y", lambda m: _renamed(m, "output", "y"), ""
    yield "a second output", _second_output, ""
    yield "a second input", _second_input, ""
    yield "an input in float16", _typed(TensorProto.FLOAT16), ""
    yield "an input in float64", _typed(TensorProto.DOUBLE), ""
    yield "a batch of four", lambda m: _dim(m.graph.input[0], 0, 4), ""
    yield "a batch of one", lambda m: _dim(m.graph.input[0], 0, 1), ""
    yield "an open number of channels", lambda m: _dim(m.graph.input[0], 1, "channels"), ""
    yield "138 channels", lambda m: _dim(m.graph.input[0], 1, 138), ""
    yield "one state of input", lambda m: _dim(m.graph.input[0], 1, 19), ""
    yield "open rows", lambda m: _dim(m.graph.input[0], 2, "rows"), ""
    yield "17 rows", lambda m: _dim(m.graph.input[0], 2, 17), ""
    yield (
        "rows and columns exchanged",
        _turned,
        "",
    )
    yield "output channels left open", lambda m: _dim(m.graph.output[0], 1, "many"), ""
    yield "an output on other rows", lambda m: _dim(m.graph.output[0], 2, 8), ""
    yield "an output of 18 channels", lambda m: _dim(m.graph.output[0], 1, 18), ""
    yield (
        "an output of three dimensions",
        lambda m: m.graph.output[0].type.tensor_type.shape.dim.pop(),
        "",
    )


def _weights() -> Iterator[tuple[str, Edit, str]]:
    def weight(change: Callable[[np.ndarray], np.ndarray]) -> Edit:
        def edit(model: onnx.ModelProto) -> None:
            (stored,) = model.graph.initializer
            stored.CopyFrom(
                numpy_helper.from_array(change(numpy_helper.to_array(stored)).copy(), stored.name)
            )

        return edit

    halves = np.r_[19:38, 0:19]
    yield "the two past states exchanged inside", lambda m: _gather_at_start(m, halves), NO_CHECKSUM
    yield (
        "channels in another order inside",
        lambda m: _gather_at_start(m, np.arange(38)[::-1].copy()),
        NO_CHECKSUM,
    )
    yield (
        "an increment as output",
        lambda m: _insert_at_end(m, "Sub", state=np.ones((), np.float32)),
        NO_CHECKSUM,
    )
    yield (
        "physical units as output",
        lambda m: _insert_at_end(m, "Mul", size=np.full((), 1e4, np.float32)),
        "",
    )
    yield "its output with the sign turned", lambda m: _insert_at_end(m, "Neg"), NO_CHECKSUM
    yield "its weights twice as large", weight(lambda w: w * 2), NO_CHECKSUM
    yield "its weights a thousand times as large", weight(lambda w: w * 1000), ""
    yield "its weights zero", weight(np.zeros_like), NO_CHECKSUM
    yield "the order of its weights turned around", weight(lambda w: w[..., ::-1]), NO_CHECKSUM
    yield (
        "a weight NaN",
        weight(lambda w: np.where(np.arange(w.size).reshape(w.shape) == 3, np.nan, w).astype("f4")),
        "",
    )
    yield "one weight's least bit changed", weight(lambda w: np.nextafter(w, np.float32(9))), NO_CHECKSUM
    yield "weights in float16", weight(lambda w: w.astype(np.float16).astype(np.float32)), NO_CHECKSUM


def _said(update: Callable[[dict[str, Any]], Any]) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        (entry,) = [entry for entry in model.metadata_props if entry.key == METADATA_KEY]
        content = json.loads(entry.value)
        update(content)
        entry.value = json.dumps(content)

    return edit


def _metadata() -> Iterator[tuple[str, Callable[[dict[str, Any]], Any]]]:
    def exchanged(content: dict[str, Any]) -> None:
        names = content["channels"]
        names[4], names[5] = names[5], names[4]

    yield "two channels in another order", exchanged
    yield "channels from last to first", lambda c: c["channels"].reverse()
    yield "a channel less", lambda c: c["channels"].pop()
    yield (
        "levels in Pa",
        lambda c: c.update(
            channels=[f"{n}00" if n[-1] == "0" and n[0] in "zquvt" else n for n in c["channels"]]
        ),
    )
    yield "a step of 12 h", lambda c: c.update(step_hours=12)
    yield "a step of 6 s", lambda c: c.update(step_hours="6 s")
    yield "latitudes from south to north", lambda c: c["latitude"].reverse()
    yield "other latitudes", lambda c: c.update(latitude=np.linspace(90, -90, 16).tolist())
    yield "longitudes from −180", lambda c: c.update(longitude=(np.array(c["longitude"]) - 180).tolist())
    yield (
        "longitudes half a step further",
        lambda c: c.update(longitude=(np.array(c["longitude"]) + 5.6).tolist()),
    )
    yield "no grid", lambda c: c.pop("latitude")
    yield "channels as text", lambda c: c.update(channels=", ".join(c["channels"]))
    yield "something unknown", lambda c: c.update(colour="blue")


def _bytes() -> Iterator[tuple[str, Callable[[Path], Any]]]:
    def directory_instead(directory: Path) -> None:
        (directory / MODEL).unlink()
        (directory / MODEL).mkdir()

    yield "half of the file", damaged(MODEL, lambda b: b[: len(b) // 2])
    yield "without its last bytes", damaged(MODEL, lambda b: b[:-10])
    yield "an empty file", damaged(MODEL, lambda b: b"")
    yield "a web page", damaged(MODEL, lambda b: b"<!DOCTYPE html><html>404</html>")
    yield (
        "a pointer of Git LFS",
        damaged(MODEL, lambda b: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    )
    yield "a checkpoint of a VAE", lambda d: shutil.copy(d / "vae.ckpt", d / MODEL)
    yield "numbers of numpy", lambda d: shutil.copy(d / "drift_mean.npy", d / MODEL)
    yield "a directory", directory_instead
    yield "missing", lambda d: (d / MODEL).unlink()
    yield (
        "zeros in the middle",
        damaged(MODEL, lambda b: b[: len(b) // 2] + bytes(200) + b[len(b) // 2 + 200 :]),
    )
    yield "metadata that are no JSON", _edited(_not_json)


def _not_json(model: onnx.ModelProto) -> None:
    (entry,) = [entry for entry in model.metadata_props if entry.key == METADATA_KEY]
    entry.value = entry.value[:50]
