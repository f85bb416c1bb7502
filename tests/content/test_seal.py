"""Files of torch have a digest of all that is in them: one that was changed and written anew is refused."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaevar.content.seal import SEAL, digest_of, is_changed, sealed
from vaevar.content.tensors import read_tensors
from vaevar.files import save_tensors
from vaevar.models.training.checkpoint_io import WholeCheckpoints

GENERATOR = torch.Generator().manual_seed(0)
CONTENT: dict[str, Any] = {
    "hyper_parameters": {
        "nlat": 16,
        "widths": [8, 12],
        "rate": 1e-3,
        "name": "small",
        "path": None,
        "on": True,
    },
    "state_dict": {
        "conv.weight": torch.randn(4, 3, 2, 2, generator=GENERATOR).to(memory_format=torch.channels_last),
        "half": torch.randn(5, generator=GENERATOR).half(),
        "brain": torch.randn(5, generator=GENERATOR).bfloat16(),
        "lead_hours": torch.tensor(48),
        "mask": torch.tensor([True, False]),
        "none": torch.zeros(0, 3),
    },
    "arm": "interpolation",
}


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return value.clone() if isinstance(value, torch.Tensor) else value


def of_state(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["state_dict"].update({name: change(content["state_dict"][name])})


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "zero": of_state("conv.weight", torch.zeros_like),
    "signs turned": of_state("half", torch.negative),
    "one number": of_state("brain", lambda x: x.index_fill(0, torch.tensor([2]), 3.0)),
    "turned around": of_state("conv.weight", lambda x: x.flip(0)),
    "a scalar": of_state("lead_hours", lambda x: x * 100),
    "a flag": of_state("mask", torch.logical_not),
    "another precision": of_state("half", torch.Tensor.float),
    "another shape": of_state("none", lambda x: x.reshape(3, 0)),
    "an entry less": lambda content: content["state_dict"].pop("half"),
    "an entry more": lambda content: content["state_dict"].update(more=torch.zeros(1)),
    "another name": lambda c: c["state_dict"].update(other=c["state_dict"].pop("half")),
    "a setting": lambda content: content["hyper_parameters"].update(nlat=17),
    "a setting in a list": lambda content: content["hyper_parameters"].update(widths=[12, 8]),
    "a setting that is none": lambda content: content["hyper_parameters"].update(path="None"),
    "another arm": lambda content: content.update(arm="vaevar"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_and_written_anew_is_refused(change: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    save_tensors(path, CONTENT)
    content = torch.load(path, weights_only=True)
    CHANGES[change](content)
    torch.save(content, path)
    for mmap in (False, True):
        with pytest.raises(ValueError, match=f"changed since, its {SEAL} does not match"):
            read_tensors(path, mmap=mmap)
    read_tensors(path, whole=False)  # who only looks does not pay for it
    del content[SEAL]  # of an earlier version, or on purpose
    torch.save(content, path)
    read_tensors(path)


def test_what_is_the_same_has_the_same_digest(tmp_path: Path) -> None:
    digest = digest_of(CONTENT)
    other = OrderedDict(reversed(list(copied(CONTENT).items())))
    other["hyper_parameters"]["widths"] = (8, 12)
    other["state_dict"]["conv.weight"] = other["state_dict"]["conv.weight"].contiguous()
    assert digest_of(other) == digest
    assert sealed(sealed(CONTENT))[SEAL] == digest
    assert not is_changed(sealed(CONTENT))
    assert not is_changed(CONTENT)
    assert not is_changed([CONTENT])
    path = tmp_path / "x.ckpt"
    save_tensors(path, CONTENT)
    shutil.copy(path, tmp_path / "copy.ckpt")
    assert read_tensors(tmp_path / "copy.ckpt")[SEAL] == digest
    torch.save(read_tensors(path), path)  # written anew, but not changed
    assert read_tensors(path, mmap=True)["arm"] == "interpolation"


def test_arrays_count_by_their_numbers_and_not_by_the_order_of_their_bytes() -> None:
    values = np.arange(6, dtype="<f8").reshape(2, 3)
    digest = digest_of({"std": values})
    assert digest_of({"std": values.astype(">f8")}) == digest
    assert digest_of({"std": np.asfortranarray(values)}) == digest
    for other in (values[::-1], values.T, values.astype("<f4"), values * 2):
        assert digest_of({"std": other}) != digest


def test_checkpoints_of_fits_have_one(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint(copied(CONTENT), path)
    content = read_tensors(path)
    assert content[SEAL] == digest_of(CONTENT)
    content["state_dict"]["lead_hours"] += 1
    torch.save(content, path)
    with pytest.raises(ValueError, match="changed since"):
        read_tensors(path)
