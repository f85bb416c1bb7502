"""Where two grids differ, for people."""

from __future__ import annotations

import numpy as np

from vaevar.sphere.grid import Grid


def grid_difference(grid: Grid, other: Grid) -> str:
    """What a grid is, and what another one is instead; empty for equal grids.

    Args:
        grid: the one that is spoken of.
        other: what was expected.
    """
    if grid == other:
        return ""
    if grid.shape != other.shape or repr(grid) != repr(other):
        return f"on {grid}, not {other}"
    axes = (("latitude", grid.latitude, other.latitude), ("longitude", grid.longitude, other.longitude))
    for name, mine, theirs in axes:
        differ = np.flatnonzero(np.abs(mine - theirs) > 1e-3)
        if differ.size:
            first = int(differ[0])
            return f"on {grid} whose {name} {first} is {mine[first]:.6g}, not {theirs[first]:.6g}"
    return f"on {grid}, not {other}"
