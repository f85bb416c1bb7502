"""Changes of the ``.npy`` files of numbers by channel: a forecaster's mean and std, and the climatology."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from changes.damage import damaged
from changes.kinds import Case
from changes.world import SPEC
from vaevar.state import StateSpec

MEAN, STD, CLIMATOLOGY = "drift_mean.npy", "drift_std.npy", "climatology.npy"
LAST_DIGIT = "it is the last digit: DiffDA draws other noise for observations that differ in it"
CLOSE = "a .npy file is bare numbers, and these differ by less than two reanalyses, seasons or models do"
NO_NAMES = "a .npy file has no checksum, and both numbers fit both channels"
_CHANNELS = StateSpec(**SPEC)
Edit = Callable[[np.ndarray], np.ndarray]


def cases() -> Iterator[Case]:
    """All of them."""
    for target in (MEAN, STD, CLIMATOLOGY):
        for change, edit, unknowable in [*_edits(target)]:
            names = target if target != CLIMATOLOGY else f"{target}|climatological"
            yield Case(target, change, _edited(target, edit), "cycle", names, unknowable)
        for change, content in _contents():
            yield Case(target, change, damaged(target, content), "cycle", target)
    for target, other in (
        (MEAN, STD), (STD, MEAN), (CLIMATOLOGY, MEAN), (CLIMATOLOGY, STD), (MEAN, CLIMATOLOGY),
        (STD, CLIMATOLOGY),
    ):  # fmt: skip
        reason = (
            ""
            if MEAN in (target, other)
            else "a .npy file is bare numbers, and both are stds of these channels, of weather and of climate"
        )
        yield Case(target, f"{other} instead", _replaced_by(target, other), "cycle", target, reason)


def _edited(target: str, edit: Edit) -> Callable[[Path], Any]:
    return lambda directory: np.save(directory / target, edit(np.load(directory / target)))


def _replaced_by(target: str, other: str) -> Callable[[Path], Any]:
    return lambda directory: np.save(directory / target, np.load(directory / other))


def _with(variable: str, change: Callable[[np.ndarray], np.ndarray]) -> Edit:
    """Change the numbers of one variable."""

    def edit(numbers: np.ndarray) -> np.ndarray:
        new = numbers.copy()
        part = _CHANNELS.variable_slice(variable)
        new[part] = change(numbers[part])
        return new

    return edit


def _exchanged(one: str, other: str) -> Edit:
    def edit(numbers: np.ndarray) -> np.ndarray:
        new, first, second = numbers.copy(), _CHANNELS.variable_slice(one), _CHANNELS.variable_slice(other)
        new[first], new[second] = numbers[second], numbers[first]
        return new

    return edit


def _edits(target: str) -> Iterator[tuple[str, Edit, str]]:
    is_mean = target == MEAN
    yield "from the last channel to the first", lambda x: x[::-1], ""
    yield "upper air before the surface", lambda x: np.roll(x, -4), ""
    yield "levels from below", lambda x: np.concatenate([x[:4], x[4:].reshape(5, 3)[:, ::-1].ravel()]), ""
    yield (
        "level by level instead of variable by variable",
        lambda x: np.concatenate([x[:4], x[4:].reshape(5, 3).T.ravel()]),
        "",
    )
    yield "z and t exchanged", _exchanged("z", "t"), ""
    yield "t2m and msl exchanged", _exchanged("t2m", "msl"), ""
    yield "q and u exchanged", _exchanged("q", "u"), ""
    yield "u and v exchanged", _exchanged("u", "v"), NO_NAMES
    yield "u10 and v10 exchanged", _exchanged("u10", "v10"), NO_NAMES
    yield "shifted by one channel", lambda x: np.roll(x, 1), ""
    for variable, factor, text in (
        ("msl", 0.01, "hPa"), ("z", 1 / 9.80665, "metres"), ("q", 1000.0, "g/kg"), ("u", 1.94384, "knots"),
    ):  # fmt: skip
        yield (
            f"{variable} in {text}",
            _with(variable, lambda x, f=factor: x * f),
            NO_NAMES if variable == "u" else "",
        )
    if is_mean:
        yield "t in degrees Celsius", _with("t", lambda x: x - 273.15), ""
        yield "t2m in degrees Celsius", _with("t2m", lambda x: x - 273.15), ""
        yield "t 3 K higher", _with("t", lambda x: x + 3), CLOSE
        yield "z with its sign turned", _with("z", lambda x: -x), ""
    else:
        yield "variances", np.square, ""
        yield "t in degrees Fahrenheit", _with("t", lambda x: x * 1.8), CLOSE
        yield "half of it", lambda x: x / 2, CLOSE
        yield "ten times as much", lambda x: x * 10, ""
        yield "a hundredth", lambda x: x / 100, ""
        yield "inverted", lambda x: 1 / x, ""
        yield "one for all", np.ones_like, ""
        yield "negative", np.negative, ""
        yield "logarithms", np.log, ""
        yield "a zero", _with("t2m", lambda x: x * 0), ""
    yield "zero", np.zeros_like, ""
    yield "a NaN", _with("t2m", lambda x: x * np.nan), ""
    yield "an infinity", _with("t2m", lambda x: x * np.inf), ""
    yield "one channel more", lambda x: np.append(x, x[-1]), ""
    yield "one channel less", lambda x: x[:-1], ""
    yield "one number", lambda x: x[:1], ""
    yield "FengWu's 69 channels", lambda x: np.resize(x, 69), ""
    yield "the least bit of a number changed", lambda x: np.nextafter(x, np.inf), LAST_DIGIT
    yield "in float32", lambda x: x.astype(np.float32), ""
    yield "big-endian", lambda x: x.astype(">f8"), ""
    yield "as [C, 1, 1]", lambda x: x[:, None, None], ""
    yield "as [1, C]", lambda x: x[None], ""
    yield "as text", lambda x: x.astype(str), ""
    yield "as complex numbers", lambda x: x.astype(complex), ""
    yield "as integers", lambda x: x.astype(np.int64), ""


def _archive(content: bytes) -> bytes:
    file = io.BytesIO()
    np.savez(file, values=np.load(io.BytesIO(content)))
    return file.getvalue()


def _contents() -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    yield "an archive of arrays", _archive
    yield "a pickle", lambda content: pickle.dumps(np.load(io.BytesIO(content)))
    yield "half of the file", lambda content: content[: len(content) // 2]
    yield "without its last byte", lambda content: content[:-1]
    yield "a byte more", lambda content: content + b"\0"
    yield "an empty file", lambda content: b""
    yield "a web page", lambda content: b"<!DOCTYPE html><html>404</html>"
    yield (
        "a pointer of Git LFS",
        lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    )
    yield "numbers as text", lambda content: "\n".join(map(str, np.load(io.BytesIO(content)))).encode()
