"""Where two grids differ, for people."""

from __future__ import annotations

import numpy as np

from vaevar.sphere.grid import Grid


def family_hint(grid: Grid, other: Grid) -> str:
    """What to do where the points of a model are taken for those of another family; else empty.

    Args:
        grid: that the model is taken to work on.
        other: of its data.
    """
    if grid.shape != other.shape or grid.family == other.family or not other.family:
        return ""
    return f"; if the model was made for the grid of the data, say so with `grid: {other.family}`"


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
