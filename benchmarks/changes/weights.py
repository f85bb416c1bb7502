"""Changes of checkpoints, of the VAE and of DiffDA's denoiser: what they say, their numbers and bytes."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from changes.damage import bit_flipped, damaged
from changes.kinds import Case
from vaevar.content.seal import SEAL

VAE, DENOISER = "vae.ckpt", "denoiser.ckpt"
STATISTICS = {VAE: ("error_std",), DENOISER: ("residual_std", "forecast_mean", "forecast_std")}
UNSEALED = "a checkpoint of an earlier version has no digest, and the numbers are possible"
Edit = Callable[[dict[str, Any]], Any]


def cases() -> Iterator[Case]:
    """All of them."""
    for target, arm in ((VAE, "vaevar"), (DENOISER, "diffda")):
        names = f"{target}|arm {arm}|{arm} at"
        for change, edit, unknowable in [*_settings(), *_numbers(target)]:
            yield Case(target, change, _edited(target, edit), "cycle", names, unknowable)
        for change, edit, unknowable in _of_earlier_versions(target):
            edit = _unsealed(edit)
            yield Case(
                target, f"without a digest: {change}", _edited(target, edit), "cycle", names, unknowable
            )
        for change, damage in _bytes(target):
            yield Case(target, change, damage, "cycle", target)


def _edited(target: str, edit: Edit) -> Callable[[Path], Any]:
    def apply(directory: Path) -> None:
        content = torch.load(directory / target, weights_only=True)
        edit(content)
        torch.save(content, directory / target)

    return apply


def _settings() -> Iterator[tuple[str, Edit, str]]:
    def hyper(**values: Any) -> Edit:
        return lambda content: content["hyper_parameters"].update(values)

    yield "hyperparameters: levels in another order", hyper(levels=[850, 500, 300]), ""
    yield "hyperparameters: other levels", hyper(levels=[250, 500, 850]), ""
    yield "hyperparameters: u before q", hyper(upper=["z", "u", "q", "v", "t"]), ""
    yield "hyperparameters: msl before t2m", hyper(surface=["u10", "v10", "msl", "t2m"]), ""
    yield "hyperparameters: an equiangular grid", hyper(gaussian=False), ""
    yield "hyperparameters: 17 rows", hyper(nlat=17), ""
    yield "hyperparameters: other widths", hyper(widths=[8, 16]), ""
    yield "hyperparameters: no window", hyper(window=0), ""
    yield "hyperparameters: one unknown", hyper(colour="blue"), ""
    yield "hyperparameters: gone", lambda content: content.pop("hyper_parameters"), ""
    yield "weights: gone", lambda content: content.pop("state_dict"), ""
    yield "another format", lambda content: content.update(format="vaevar-something-1"), ""
    yield "no format", lambda content: content.pop("format"), ""
    yield "another learning rate", hyper(learning_rate=1.0), ""


def _entry(name: str, change: Callable[[Tensor], Tensor]) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        content["state_dict"][name] = change(content["state_dict"][name])

    return edit


def _numbers(target: str) -> Iterator[tuple[str, Edit, str]]:
    for name in STATISTICS[target]:
        yield f"{name} from the last channel to the first", _entry(name, lambda x: x.flip(0)), ""
        yield f"{name} shifted by one channel", _entry(name, lambda x: x.roll(1, 0)), ""
        yield f"{name} a thousand times as large", _entry(name, lambda x: x * 1000), ""
        yield f"{name} negative", _entry(name, torch.negative), ""
        yield f"{name} zero", _entry(name, torch.zeros_like), ""
        yield f"{name} NaN in one channel", _entry(name, _one_nan), ""
        yield f"{name} in float64", _entry(name, torch.Tensor.double), ""
        yield f"{name} with one channel less", _entry(name, lambda x: x[:-1]), ""
        if name.endswith("std"):
            yield f"{name} squared", _entry(name, torch.square), ""
            yield f"{name} 10 % larger", _entry(name, lambda x: x * 1.1), ""

    def first_matrix(content: dict[str, Any]) -> str:
        return next(
            n for n, values in content["state_dict"].items() if n.endswith("weight") and values.ndim > 1
        )

    def weights(change: Callable[[Tensor], Tensor]) -> Edit:
        def edit(content: dict[str, Any]) -> None:
            for name, values in content["state_dict"].items():
                if values.is_floating_point() and name not in STATISTICS[target]:
                    content["state_dict"][name] = change(values)

        return edit

    yield "weights: NaN", weights(lambda x: x * torch.nan), ""
    yield "weights: infinite", weights(lambda x: x / 0), ""
    yield "weights: zero", weights(torch.zeros_like), ""
    yield "weights: with their signs turned", weights(torch.negative), ""
    yield "weights: as drawn at random", weights(lambda x: torch.randn_like(x) * 0.1), ""
    yield "weights: one of them missing", lambda c: c["state_dict"].pop(first_matrix(c)), ""
    yield "weights: one more", lambda c: c["state_dict"].update(extra=torch.zeros(3)), ""
    yield (
        "weights: one of another name",
        lambda c: c["state_dict"].update(other=c["state_dict"].pop(first_matrix(c))),
        "",
    )
    yield (
        "weights: one of another shape",
        lambda c: c["state_dict"].update({first_matrix(c): torch.zeros(2, 2)}),
        "",
    )
    if target == DENOISER:
        yield "lead_hours 4800", _entry("lead_hours", lambda x: x * 0 + 4800), ""
        yield "lead_hours 0", _entry("lead_hours", lambda x: x * 0), ""


def _one_nan(values: Tensor) -> Tensor:
    new = values.clone()
    new[2] = torch.nan
    return new


def _unsealed(edit: Edit) -> Edit:
    def unsealed(content: dict[str, Any]) -> None:
        content.pop(SEAL)
        edit(content)

    return unsealed


def _of_earlier_versions(target: str) -> Iterator[tuple[str, Edit, str]]:
    """What ranges and names tell without a digest, and what they do not."""
    untold = ("10 % larger", "weights: zero", "weights: with their signs", "weights: as drawn", "equiangular")
    for change, edit, _ in [*_settings(), *_numbers(target)]:
        yield change, edit, UNSEALED if any(text in change for text in untold) else ""


class _Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("a checkpoint must not run this",)


def _bytes(target: str) -> Iterator[tuple[str, Callable[[Path], Any]]]:
    def flipped_in_values(directory: Path) -> None:
        """In the values of the largest entry, wherever it lies in the archive."""
        path = directory / target
        with zipfile.ZipFile(path) as archive:
            entry = max(archive.infolist(), key=lambda item: item.file_size)
            start = entry.header_offset + 30 + len(entry.filename) + 64
        data = bytearray(path.read_bytes())
        data[start + entry.file_size // 2] ^= 64
        path.write_bytes(bytes(data))

    for at in (0.1, 0.3, 0.5, 0.7):
        yield f"a bit flipped at {at:.0%} of the file", damaged(target, bit_flipped(at))
    yield "a bit flipped in the largest weight", flipped_in_values
    yield "half of the file", damaged(target, lambda b: b[: len(b) // 2])
    yield "without its last bytes", damaged(target, lambda b: b[:-30])
    yield "bytes more at the end", damaged(target, lambda b: b + b"more")
    yield "an empty file", damaged(target, lambda b: b"")
    yield "a web page", damaged(target, lambda b: b"<!DOCTYPE html><html>404</html>")
    yield (
        "a pointer of Git LFS",
        damaged(target, lambda b: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    )
    yield "a pickle", damaged(target, lambda b: pickle.dumps({"state_dict": {}, "hyper_parameters": {}}))
    yield (
        "a pickle inside that runs something",
        lambda d: torch.save({"state_dict": _Malicious()}, d / target),
    )
    yield (
        "weights alone",
        lambda d: torch.save(torch.load(d / target, weights_only=True)["state_dict"], d / target),
    )
    other = DENOISER if target == VAE else VAE
    yield f"{other} instead", lambda d: shutil.copy(d / other, d / target)
    yield "an ONNX file", lambda d: shutil.copy(d / "drift.onnx", d / target)
    yield "B", lambda d: shutil.copy(d / "covariance.nc", d / target)
    yield (
        "a restart file",
        lambda d: shutil.copy(d / "runs/begun/interpolation/restart.pt", d / target),
    )
    yield "missing", lambda d: (d / target).unlink()
