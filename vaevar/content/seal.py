"""A digest of everything in a file, kept in it: whoever changes a number and writes it anew is noticed.

Checksums of bytes tell damage on a disk. They are made anew with the file when somebody changes a statistic,
turns an axis around, or puts one model's weights in another's place.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

SEAL = "content_digest"
CHANGED = (
    f"it is not what vaevar wrote: something in it was changed since, its {SEAL} does not match; take the "
    f"file as it was, or remove {SEAL} from it if the change is meant"
)
_PLAIN = (str, int, float, bool, type(None))


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A content with its digest."""
    return {**content, SEAL: digest_of(content)}


def is_changed(content: Any) -> bool:
    """Whether a content has a digest, of something else. Files of earlier versions have none."""
    return isinstance(content, Mapping) and SEAL in content and content[SEAL] != digest_of(content)


def digest_of(content: Mapping[str, Any]) -> str:
    """A digest of names, plain values, arrays and tensors, wherever they lie; that of the seal apart."""
    lines = _lines("", {name: value for name, value in content.items() if name != SEAL})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _lines(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _lines(f"{name}/{key}", value[key])
    elif isinstance(value, list | tuple):
        yield f"{name} {len(value)}"
        for number, item in enumerate(value):
            yield from _lines(f"{name}/{number}", item)
    elif isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        yield f"{name} {value.dtype} {tuple(value.shape)} {_checksum(flat.view(torch.uint8).numpy())}"
    elif isinstance(value, np.ndarray):
        native = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).reshape(-1)
        yield f"{name} {value.dtype.name} {value.shape} {_checksum(native.view(np.uint8))}"
    elif isinstance(value, _PLAIN):
        yield f"{name} {value!r}"


def _checksum(values: np.ndarray) -> int:
    return zlib.crc32(values.data)
