"""The codecs of zarr arrays: none that unpickles, which would run whatever a store holds."""

from __future__ import annotations

from numcodecs.registry import codec_registry


def forbid_pickle() -> None:
    """Let zarr refuse arrays of Python objects that were pickled, as a codec that it does not know."""
    codec_registry.pop("pickle", None)
