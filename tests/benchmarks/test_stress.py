"""A handful of kills at random moments, and what the program calls a file that does not open."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import zarr
from stress import stress
from stress_files import check, require_equal
from stress_world import world

from vaevar.errors import UserError


@pytest.mark.slow
@pytest.mark.parametrize("name", ["errors", "predict"])
def test_killed_programs_end_as_if_nothing_had_been(name: str, tmp_path: Path) -> None:
    world(tmp_path / "world")
    kills, ended, _, looked = stress(name, 2, tmp_path, random.Random(0))
    assert int(kills) == 2
    assert int(ended) >= 1
    assert int(looked) > 0


def test_files_that_do_not_open_are_found(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("time,rmse\n0,1\n1")  # a cut last row says so itself
    (tmp_path / "restart.pt.7.partial").write_text("half")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("x", data=np.arange(1000.0))
    assert check(tmp_path) == 2
    chunk = tmp_path / "a.zarr" / "x" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.zarr: does not open after a kill"):
        check(tmp_path)
    chunk.write_bytes(whole)
    for name, content in (("restart.pt", "half"), ("scores.csv", "a,b\n1\n"), ("provenance.json", "{")):
        path = tmp_path / name
        path.write_text(content)
        with pytest.raises(UserError, match=f"{name}: does not open after a kill"):
            check(tmp_path)
        path.unlink()


def test_a_single_bit_counts() -> None:
    one, other = np.ones(3), np.ones(3)
    require_equal("fit", {"a": one}, {"a": other})
    other[1] = np.nextafter(1.0, 2.0)
    with pytest.raises(UserError, match="fit: ended with other a than without a kill"):
        require_equal("fit", {"a": one}, {"a": other})
    with pytest.raises(UserError, match="fit: ended with other b"):
        require_equal("fit", {"a": one}, {"a": one, "b": one})
