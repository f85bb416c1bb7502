"""A cycle that goes on after its inputs, its restart files or its records were changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from changes import forecasters, numbers, stores, weights
from changes.damage import Damage, bit_flipped, damaged
from changes.kinds import Case

RUN, ARM = "runs/begun", "interpolation"
NAMES = r"runs/begun|restart"
SCORED = "a table of results is nobody's input; it is the reader's who changed it"
Apply = Callable[[Path], Any]


def cases() -> Iterator[Case]:
    """All of them."""
    for target, change, apply in _inputs():
        yield Case(target, f"{change}, in a cycle that goes on", apply, "go on", target)
    for change, apply, unknowable in _restarts():
        yield Case("runs", f"restart: {change}", apply, "go on", NAMES, unknowable)
    for change, apply, unknowable in _records():
        yield Case("runs", change, apply, "go on", NAMES, unknowable)


def _inputs() -> Iterator[tuple[str, str, Apply]]:
    """Changes that a new cycle cannot know about: one that goes on can."""
    yield "truth.zarr", "t 1 K warmer", stores.rewritten(stores.values("t", lambda x: x + 1))
    yield (
        "truth.zarr",
        "times shifted by a day",
        stores.rewritten(stores.coordinate("time", lambda t: t - np.timedelta64(1, "D"))),
    )
    yield "truth.zarr", "longitudes turned", stores.rewritten(stores.rolled("longitude", stores.ROLL))
    yield "drift.onnx", "weights in float16", _case(forecasters.cases, "weights in float16")
    yield "drift.onnx", "weights zero", _case(forecasters.cases, "its weights zero")
    yield (
        "drift.onnx",
        "its output with the sign turned",
        _case(forecasters.cases, "its output with the sign turned"),
    )
    for target in (numbers.MEAN, numbers.STD, numbers.CLIMATOLOGY):
        yield target, "u and v exchanged", _case(numbers.cases, "u and v exchanged", target)
    yield "vae.ckpt", "error_std 10 % larger", _case(weights.cases, "error_std 10 % larger")
    yield "vae.ckpt", "weights zero", _case(weights.cases, "weights: zero", "vae.ckpt")
    yield "denoiser.ckpt", "weights zero", _case(weights.cases, "weights: zero", "denoiser.ckpt")


def _case(cases: Callable[[], Iterator[Case]], change: str, target: str = "") -> Apply:
    return next(c.apply for c in cases() if c.change == change and c.target.startswith(target))


def _restart(edit: Callable[[dict[str, Any]], Any], arm: str = ARM) -> Apply:
    def apply(directory: Path) -> None:
        path = directory / RUN / arm / "restart.pt"
        content = torch.load(path, weights_only=True)
        edit(content)
        torch.save(content, path)

    return apply


def _restarts() -> Iterator[tuple[str, Apply, str]]:
    def states(change: Callable[[torch.Tensor], torch.Tensor]) -> Apply:
        return _restart(lambda c: c.update(trajectory=change(c["trajectory"])))

    def bytes_of(damage: Damage) -> Apply:
        return damaged(f"{RUN}/{ARM}/restart.pt", damage)

    yield "the next analysis is number 0", _restart(lambda c: c.update(next_index=0)), ""
    yield "the next analysis is number 2", _restart(lambda c: c.update(next_index=2)), ""
    yield "the next analysis is number 7", _restart(lambda c: c.update(next_index=7)), ""
    yield "the next analysis is number −1", _restart(lambda c: c.update(next_index=-1)), ""
    yield "a time of a day later", _restart(lambda c: c.update(time="2021-01-04T12:00:00")), ""
    yield "channels in another order", _restart(lambda c: c["channels"].reverse()), ""
    yield "latitudes from south to north", _restart(lambda c: c["latitude"].reverse()), ""
    yield (
        "longitudes in radians",
        _restart(lambda c: c.update(longitude=np.radians(c["longitude"]).tolist())),
        "",
    )
    yield "states with channels from last to first", states(lambda x: x.flip(1)), ""
    yield "states upside down", states(lambda x: x.flip(2)), ""
    yield "states in another order", states(lambda x: x.flip(0)), ""
    yield "states a hundred times as large", states(lambda x: x * 100), ""
    yield "states NaN", states(lambda x: x * torch.nan), ""
    yield "states zero", states(torch.zeros_like), ""
    yield "states of a point 0", states(_point), ""
    yield "states in float64", states(torch.Tensor.double), ""
    yield "a state missing", states(lambda x: x[1:]), ""
    yield "no states", _restart(lambda c: c.pop("trajectory")), ""
    yield "no coverage", _restart(lambda c: c.pop("coverage")), ""
    yield "coverage NaN", _restart(lambda c: c.update(coverage=c["coverage"] * torch.nan)), ""
    yield (
        "another arm's",
        lambda d: shutil.copy(d / RUN / "vaevar/restart.pt", d / RUN / ARM / "restart.pt"),
        "",
    )
    yield "missing", lambda d: (d / RUN / ARM / "restart.pt").unlink(), ""
    for at in (0.2, 0.5, 0.8):
        yield f"a bit flipped at {at:.0%}", bytes_of(bit_flipped(at)), ""
    yield "half of the file", bytes_of(lambda b: b[: len(b) // 2]), ""
    yield "an empty file", bytes_of(lambda b: b""), ""
    yield "a web page", bytes_of(lambda b: b"<html></html>"), ""
    yield "a checkpoint", lambda d: shutil.copy(d / "vae.ckpt", d / RUN / ARM / "restart.pt"), ""


def _point(states: torch.Tensor) -> torch.Tensor:
    new = states.clone()
    new[-1, 2, 3, 3] = 0.0
    return new


def _records() -> Iterator[tuple[str, Apply, str]]:
    def text(name: str, change: Callable[[str], str]) -> Apply:
        def apply(directory: Path) -> None:
            path = directory / RUN / name
            path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")

        return apply

    def chunk(directory: Path) -> None:
        zarr_directory = directory / RUN / ARM / "analysis.zarr" / "temperature"
        next(p for p in sorted(zarr_directory.iterdir()) if not p.name.startswith(".")).unlink()

    def damaged(directory: Path) -> None:
        array: Any = zarr.open_array(directory / RUN / ARM / "analysis.zarr" / "temperature", mode="r+")
        array[0] = 0.0

    def forgot(record: str) -> str:
        content = json.loads(record)
        content.pop("run", None)
        return json.dumps(content)

    yield "provenance.json: cut", text("provenance.json", lambda t: t[: len(t) // 2]), ""
    yield "provenance.json: empty", text("provenance.json", lambda t: ""), ""
    yield "provenance.json: a list", text("provenance.json", lambda t: "[]"), ""
    yield "provenance.json: without the run's number", text("provenance.json", forgot), ""
    yield "provenance.json: missing", lambda d: (d / RUN / "provenance.json").unlink(), ""
    yield "config.yaml: missing", lambda d: (d / RUN / "config.yaml").unlink(), ""
    yield "config.yaml: cut", text("config.yaml", lambda t: t[: len(t) // 2]), ""
    yield (
        "scores.csv of an arm: a row missing",
        text(f"{ARM}/scores.csv", lambda t: "\n".join(t.split("\n")[:-2]) + "\n"),
        "",
    )
    yield "scores.csv of an arm: missing", lambda d: (d / RUN / f"{ARM}/scores.csv").unlink(), ""
    yield (
        "scores.csv of an arm: another header",
        text(f"{ARM}/scores.csv", lambda t: "a,b\n" + t.split("\n", 1)[1]),
        "",
    )
    yield "scores.csv of an arm: cut in a row", text(f"{ARM}/scores.csv", lambda t: t[:-7]), ""
    yield "scores.csv of an arm: a number changed", text(f"{ARM}/scores.csv", _changed), SCORED
    yield "analysis.zarr of an arm: a chunk missing", chunk, ""
    yield "analysis.zarr of an arm: t is 0", damaged, "an analysis that is written is nobody's input"
    yield "analysis.zarr of an arm: missing", lambda d: shutil.rmtree(d / RUN / ARM / "analysis.zarr"), ""


def _changed(text: str) -> str:
    lines = text.split("\n")
    cells = lines[1].split(",")
    lines[1] = ",".join([*cells[:-2], "1.5", cells[-1]])
    return "\n".join(lines)
