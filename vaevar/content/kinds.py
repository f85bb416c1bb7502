"""Names a file for what it is, where something else was expected."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor

from vaevar.content.tensors import read_tensors

_BEGINNINGS = {
    b"\x93NUMPY": "an array of numpy, a .npy file",
    b"\x89HDF": "a netCDF or HDF5 file",
    b"CDF": "a netCDF file",
    b"GRIB": "a GRIB file",
    b"BUFR": "a BUFR file of observations",
    b"\x0e\x03\x13\x01": "an HDF4 file",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "a gzip archive: unpack it with tar -xzf or gunzip",
    b"BZh": "a bzip2 archive: unpack it with tar -xjf or bunzip2",
    b"\xfd7zXZ": "an xz archive: unpack it with tar -xJf or unxz",
    b"\x28\xb5\x2f\xfd": "a zstd archive: unpack it with unzstd",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"%PDF": "a PDF",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch it with git lfs pull",
}
ONNX_MODEL = "an ONNX model, which belongs to `model` of OnnxForecaster"
_WEB_PAGE = re.compile(rb"\s*<(!doctype|html|head|\?xml)", re.IGNORECASE)
# By the beginning of a format of weights: what they are, and the assimilator or control that takes them.
_WEIGHTS = {
    "vaevar-vae-": "weights of a VAE, for `checkpoint` of DecoderControl",
    "vaevar-spectral-vae-": "weights of a VAE with B inside, for `checkpoint` of VAEVar",
    "vaevar-denoiser-": "weights of a denoiser, for DiffDA",
}


def what_is(path: str | Path) -> str:
    """What lies at a path, for people, such as ``an ONNX model``; it is read no further than that takes."""
    path = Path(path)
    if path.is_dir():
        return "a directory"
    with path.open("rb") as file:
        beginning = file.read(4096)
    if not beginning:
        return "an empty file"
    if beginning.startswith(b"CDF") and b"vaevar-covariance-" in beginning:
        return "statistics of B, for `statistics` of ThreeDVar"
    if (name := of_beginning(beginning)) is not None:
        return name
    if _WEB_PAGE.match(beginning):
        return "a web page, such as a failed download leaves"
    if zipfile.is_zipfile(path):
        return _of_archive(path)
    if beginning.startswith(b"\x80") and beginning[1] <= 5:
        return "a pickle, perhaps of an old version of torch, which is never opened"
    if beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") < path.stat().st_size:
        return "a file of safetensors"
    # The first field of a model is the version of its format.
    if beginning.startswith(b"\x08") and (path.suffix == ".onnx" or b"onnx" in beginning.lower()):
        return ONNX_MODEL
    return "a text" if _is_text(beginning) else "bytes of an unknown kind, or damaged"


def of_beginning(beginning: bytes) -> str | None:
    """What a file is that begins so; None where its first bytes are no sign of a format."""
    return next((name for start, name in _BEGINNINGS.items() if beginning.startswith(start)), None)


def what_holds(content: Any) -> str:
    """What the content of a file of ``torch.save`` is, for people."""
    if not isinstance(content, dict):
        return f"a {type(content).__name__} in a file of torch"
    if "next_index" in content and "trajectory" in content:
        return "a restart file of a cycle, which the cycle itself finds in its run directory"
    if "format" in content:
        told = (text for start, text in _WEIGHTS.items() if str(content["format"]).startswith(start))
        return next(told, f"weights of the format {content['format']!r}")
    if "state_dict" in content and "pytorch-lightning_version" in content:
        return f"a checkpoint of {model_of(content) or 'a Lightning module of another project or version'}"
    if "state_dict" in content and "hyper_parameters" in content:
        return "weights with hyperparameters"
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return "a plain state_dict, without the settings of its model"
    return f"a dictionary of {', '.join(map(str, list(content)[:5])) or 'nothing'} in a file of torch"


def model_of(content: dict[str, Any]) -> str | None:
    """The class whose checkpoint it is, without its module; None if it does not say."""
    path = (content.get("hyper_parameters") or {}).get("_class_path")
    return path.rpartition(".")[2] if isinstance(path, str) else None


def _of_archive(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("constants.pkl") for name in names):
        return "a program of TorchScript, which is never run"
    if any(name.endswith("data.pkl") for name in names):
        try:
            return what_holds(read_tensors(path, mmap=True, whole=False))
        except Exception:  # of many kinds; each means the same
            return "a file of torch with more in it than tensors, or damaged"
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of numpy (.npz)"
    return "a zip archive: unpack it"


def _is_text(beginning: bytes) -> bool:
    try:
        return beginning[:-4].decode().isprintable() or (b"\n" in beginning and b"\0" not in beginning)
    except UnicodeDecodeError:
        return False
