"""How many states of a store are whole, from its first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from vaevar.assim.cycle.writer import written
from vaevar.data.weather.writer import create_store, write_states
from vaevar.sphere.grid import Grid
from vaevar.state import VARIABLES, StateSpec

GRID = Grid.gaussian(4)
TIMES = np.datetime64("2021-01-01T00", "h") + np.timedelta64(6, "h") * np.arange(4)


@pytest.mark.parametrize(
    ("spec", "array"),
    [
        (StateSpec(["t2m"], [], []), "2m_temperature"),
        (StateSpec(["t2m"], ["t"], [500, 850]), "2m_temperature"),
        (StateSpec(["t2m"], ["t"], [500, 850]), "temperature"),
    ],
)
def test_states_are_counted_up_to_the_first_that_is_not_whole(
    tmp_path: Path, spec: StateSpec, array: str
) -> None:
    path = tmp_path / "analysis.zarr"
    names = [VARIABLES[name].long_name for name in (*spec.surface, *spec.upper)]
    assert written(path, names) == 0
    create_store(path, TIMES, spec, GRID, {})
    assert written(path, names) == 0
    write_states(path, 0, np.full((3, len(spec), *GRID.shape), 280.0, dtype=np.float32), spec)
    assert written(path, names) == 3
    ending = ".0" * (zarr.open_group(path)[array].ndim - 1)
    (path / array / f"2{ending}").write_bytes(b"torn")
    assert written(path, names) == 2
    (path / array / f"1{ending}").unlink()
    assert written(path, names) == 1
    (path / array / f"0{ending}").write_bytes(b"")
    assert written(path, names) == 0
