"""Reads what ``torch.save`` writes, from whomever it comes: without pickle, and within bounds.

A file may claim to unpack to any size, and a tensor to have any shape. What does not lie in the file is not
made up in memory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaevar.content.seal import CHANGED, is_changed

# Bytes that a file may grow by when it is read: what is small is worth no question.
_SLACK = 2**26


def read_tensors(path: str | Path, mmap: bool = False, whole: bool = True) -> Any:
    """What ``torch.save`` wrote: tensors, numbers, texts, and lists and dictionaries of them; on the CPU.

    Args:
        path: the file.
        mmap: leave the tensors on the disk until they are needed.
        whole: read the file to its last byte for that, and compare checksums and its digest.

    Raises:
        ValueError: when a checksum or the digest is wrong, or the file, or a tensor in it, claims to be
            larger than what is there.
        Exception: of many kinds, when it is no such file, damaged, or holds other objects.
    """
    size = Path(path).stat().st_size
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > size + _SLACK:
            raise ValueError(f"its {size} bytes would unpack to {unpacked}, which torch.save never writes")
        # torch itself does not look at the checksums that it writes.
        if whole and (broken := archive.testzip()) is not None:
            raise ValueError(f"damaged: the checksum of {broken} in it is wrong")
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    for tensor in _tensors(content):
        if tensor.numel() * tensor.element_size() > size + _SLACK:
            raise ValueError(f"a tensor of the shape {tuple(tensor.shape)} in a file of {size} bytes")
    if whole and is_changed(content):
        raise ValueError(CHANGED)
    return content


def _tensors(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _tensors(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _tensors(value)
