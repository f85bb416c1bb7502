"""Coastlines for maps: Natural Earth at 1:110 m, which is in the public domain.

``benchmarks/coastlines.py`` made the file.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("coastlines.json")
STEPS_PER_DEGREE = 20


@cache
def coastlines() -> tuple[np.ndarray, ...]:
    """Lines of longitude and latitude, each [N, 2] in degrees, with longitudes from 0 to 360.

    A line that crosses the meridian of Greenwich is cut there, so that each can be drawn as it is.
    """
    lines = [np.array(line).reshape(-1, 2) / STEPS_PER_DEGREE for line in json.loads(FILE.read_bytes())]
    return tuple(piece for line in lines for piece in _at_greenwich(line))


def coastline_gaps() -> np.ndarray:
    """All lines as one, [N, 2], with NaN between them: one call draws them."""
    gap = np.full((1, 2), np.nan)
    return np.concatenate([part for line in coastlines() for part in (line, gap)])


def _at_greenwich(line: np.ndarray) -> list[np.ndarray]:
    """The pieces of a line, moved to longitudes from 0 to 360, that lie on one side of the meridian."""
    around = np.stack([line[:, 0] % 360.0, line[:, 1]], axis=1)
    steps = np.diff(around[:, 0])
    pieces = np.split(around, np.flatnonzero(np.abs(steps) > 180.0) + 1)
    for number, (before, after) in enumerate(pairwise(list(pieces))):
        # The crossing belongs to both, at 360 to the western one and at 0 to the eastern one.
        west, east = (before[-1], after[0]) if before[-1, 0] > 180 else (after[0], before[-1])
        fraction = (360.0 - west[0]) / (360.0 - west[0] + east[0])
        latitude = west[1] + fraction * (east[1] - west[1])
        ends = {True: np.array([[360.0, latitude]]), False: np.array([[0.0, latitude]])}
        pieces[number] = np.concatenate([pieces[number], ends[bool(before[-1, 0] > 180)]])
        pieces[number + 1] = np.concatenate([ends[bool(after[0, 0] > 180)], pieces[number + 1]])
    return pieces
