"""Files from elsewhere are read without pickle and within bounds, and named for what they are."""

from __future__ import annotations

import gzip
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

import vaevar.data  # noqa: F401
from vaevar.content.arrays import read_array
from vaevar.content.kinds import what_is
from vaevar.content.tensors import read_tensors
from vaevar.errors import UserError
from vaevar.models.training.checkpoint_io import check_checkpoint
from vaevar.models.vae.vae import VAE


class Evil:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(Path(__file__).with_suffix(".ran")), "w"))


def zipped(name: str, content: bytes = b"x", how: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", how) as archive:
            archive.writestr(name, content)

    return write


def saved(content: Any, **how: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path, **how)


LIGHTNING = {"pytorch-lightning_version": "2.6.0", "state_dict": {}, "epoch": 1}
FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda p: p.touch(), "an empty file"),
    "directory": (lambda p: p.mkdir(), "a directory"),
    "web page": (lambda p: p.write_text("<!DOCTYPE html><html>404</html>"), "a web page"),
    "XML": (lambda p: p.write_text('<?xml version="1.0"?><Error/>'), "a web page"),
    "LFS": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid x"), "git lfs pull"),
    "text": (lambda p: p.write_text("epoch: 3\n"), "a text"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps(Evil())), "a pickle"),
    "old torch": (saved({"a": torch.ones(2)}, _use_new_zipfile_serialization=False), "a pickle"),
    "objects": (saved({"state_dict": {}, "hyper_parameters": {"a": Evil()}}), "more in it than tensors"),
    "npz": (lambda p: np.savez(p.open("wb"), a=np.ones(3)), "archive of numpy"),
    "npy": (lambda p: np.save(p.open("wb"), np.ones(3)), "array of numpy"),
    "gzip": (lambda p: p.write_bytes(gzip.compress(b"x")), "gzip"),
    "zip": (zipped("readme.txt"), "a zip archive"),
    "netCDF": (lambda p: p.write_bytes(b"CDF\x02" + bytes(90)), "a netCDF"),
    "HDF5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90)), "HDF5"),
    "GRIB": (lambda p: p.write_bytes(b"GRIB" + bytes(90)), "a GRIB"),
    "safetensors": (lambda p: p.write_bytes((2).to_bytes(8, "little") + b"{}" + bytes(9)), "safetensors"),
    "ONNX": (lambda p: p.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x04onnx" + bytes(9)), "an ONNX model"),
    "TorchScript": (zipped("model/constants.pkl"), "TorchScript"),
    "restart": (saved({"next_index": 3, "trajectory": torch.ones(2)}), "restart file of a cycle"),
    "state_dict": (saved({"a.weight": torch.ones(2)}), "a plain state_dict"),
    "other project": (saved(LIGHTNING | {"hyper_parameters": {"lr": 1}}), "of another project"),
    "other model": (
        saved(LIGHTNING | {"hyper_parameters": {"_class_path": "vaevar.models.diffusion.denoiser.Denoiser"}}),
        "a checkpoint of Denoiser",
    ),
    "weights": (saved({"format": "vaevar-denoiser-1", "state_dict": {}, "hyper_parameters": {}}), "denoiser"),
    "list": (saved([1, 2]), "a list in a file of torch"),
    "bytes": (lambda p: p.write_bytes(bytes(range(255, 0, -1))), "unknown kind"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_in_place_of_weights_is_named_for_what_it_is(tmp_path: Path, name: str) -> None:
    write, told = FILES[name]
    path = tmp_path / "weights.ckpt"
    write(path)
    assert told in what_is(path)
    if name != "directory":
        with pytest.raises(UserError) as refused:
            VAE.load(path)
        assert str(refused.value).startswith(f"{path}: ")
        assert told in str(refused.value)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"weights\.ckpt: "):
        check_checkpoint(path, of_a_fit=True)
    assert not Path(__file__).with_suffix(".ran").exists()


def test_an_archive_that_unpacks_to_far_more_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "restart.pt"
    zipped("archive/data/0", bytes(2**28), zipfile.ZIP_DEFLATED)(path)
    assert path.stat().st_size < 2**20
    with pytest.raises(ValueError, match="would unpack to 268435456"):
        read_tensors(path)


def test_a_tensor_is_no_larger_than_its_file(tmp_path: Path) -> None:
    path = tmp_path / "restart.pt"
    torch.save({"trajectory": [torch.zeros(1).expand(10**6, 10**6)]}, path)
    with pytest.raises(ValueError, match=r"a tensor of the shape \(1000000, 1000000\)"):
        read_tensors(path)
    torch.save({"std": torch.ones(3, 1).expand(3, 721)}, path)
    assert read_tensors(path)["std"].shape == (3, 721)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "weights.ckpt"
    torch.save({"weight": torch.arange(1000.0)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"the checksum of .* is wrong"):
        read_tensors(path)


def header(shape: tuple[int, ...], kind: str = "<f8", version: int = 1) -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header((10**12,)) + bytes(8), r"takes 8000000000000 bytes, and 8 are there"),
        (header((3,)) + bytes(16), "takes 24 bytes, and 16 are there"),
        (header((3,)) + bytes(32), "takes 24 bytes, and 32 are there"),
        (header((1,), "|O") + pickle.dumps([Evil()]), "Python objects, which are never opened"),
        (header((3,), version=3) + bytes(24), "version 3.0"),
        (b"<html>", "it is a web page"),
    ],
)
def test_an_array_is_as_large_as_its_file(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "mean.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=told):
        read_array(path)


def test_an_array_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.arange(6.0).reshape(2, 3).T)
    assert (read_array(tmp_path / "mean.npy") == np.arange(6.0).reshape(2, 3).T).all()


def test_zarr_unpickles_nothing(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "evil.zarr", mode="w", zarr_format=2)
    group.create_array("t2m", shape=(1,), chunks=(1,), dtype="f8")
    (tmp_path / "evil.zarr" / "t2m" / ".zarray").write_text(
        '{"chunks": [1], "compressor": null, "dtype": "|O", "fill_value": null, "filters": '
        '[{"id": "pickle", "protocol": 5}], "order": "C", "shape": [1], "zarr_format": 2}'
    )
    (tmp_path / "evil.zarr" / "t2m" / "0").write_bytes(pickle.dumps(np.array([Evil()], object)))
    with pytest.raises(Exception, match="pickle"):
        print(zarr.open_group(tmp_path / "evil.zarr", mode="r", use_consolidated=False)["t2m"][:])  # type: ignore[index]
    assert not Path(__file__).with_suffix(".ran").exists()
