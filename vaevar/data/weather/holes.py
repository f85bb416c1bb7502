"""Times of a store that cannot be read, found before they are needed and without reading the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from vaevar.data.weather.store import WeatherStore
from vaevar.errors import UserError
from vaevar.state import VARIABLES

# A chunk that is not there may be a field of zeros that nobody had to write. So the first few are read.
_LOOKED_AT = 20


def holes(store: WeatherStore, times: np.ndarray) -> dict[np.datetime64, str]:
    """The times that a store lacks, and in a local store those whose chunks are missing.

    Only the names of files are looked at, and one state for each suspicion; a chunk that is there but damaged
    is found when it is read.

    Args:
        store: the truth.
        times: that will be needed.

    Returns:
        why a time cannot be read, by time, in the order of ``times``.
    """
    there = np.isin(times.astype("datetime64[ns]"), store.times)
    suspects = [time for time, found in zip(times, there, strict=True) if not found]
    suspects += _without_files(store, times[there])[:_LOOKED_AT]
    causes = {}
    for time in sorted(suspects):
        try:
            store.read([time])
        except UserError as error:
            causes[time] = str(error)
    return causes


def _without_files(store: WeatherStore, times: np.ndarray) -> Sequence[np.datetime64]:
    """The times of which a local directory store lacks a chunk, or has an empty one."""
    root = Path(store.path)
    if not root.is_dir():
        return []
    position = {time: number for number, time in enumerate(store.times)}
    numbers = np.array([position[time] for time in times.astype("datetime64[ns]")], dtype=int)
    lacking = np.zeros(times.size, dtype=bool)
    group = zarr.open_group(root, mode="r")
    for name in (*store.spec.surface, *store.spec.upper):
        array: Any = group[VARIABLES[name].long_name]
        names = getattr(array.metadata, "dimension_names", None)  # of zarr v3
        dimensions = names or array.attrs.get("_ARRAY_DIMENSIONS", ())
        if "time" not in dimensions or array.ndim == 0:
            continue
        axis = list(dimensions).index("time")
        chunks = numbers // (array.shards or array.chunks)[axis]
        for chunk in np.unique(chunks[~lacking]):
            where = [0] * array.ndim
            where[axis] = int(chunk)
            file = root / array.path / array.metadata.encode_chunk_key(tuple(where))
            try:
                empty = file.stat().st_size == 0
            except OSError:
                empty = True
            if empty:
                lacking |= chunks == chunk
    return list(times[lacking])
