"""The simplest assimilator: innovations interpolated linearly between the places of observation.

    x_a = x_b + τ(r) I(d),   d = y − H(x_b),

where I interpolates on the sphere's triangulation. The taper τ depends on the distance r to the nearest
place: 1 up to half of the range, then falling as cos² to 0 at the range. Winds are interpolated by
component.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from vaevar.assim.assimilator import Analysis, Assimilator, add_increment
from vaevar.assim.context import STANDALONE, AnalysisContext
from vaevar.assim.interpolation.places import Places, group_by_places
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.sphere.interpolation import grid_vectors, nearest_km, unit_vectors
from vaevar.sphere.triangulation import barycentric
from vaevar.state import State

# Where nothing is observed within the range, these places (± each axis) hold the increment at zero, so
# that the triangles cover the sphere even for a handful of observations.
_ANCHORS = np.concatenate([np.eye(3), -np.eye(3)])
_TOGETHER = 65536  # points interpolated at once: 110 MB with 69 channels


def taper(distance_km: np.ndarray, range_km: float) -> np.ndarray:
    """τ: 1 up to half of the range, then cos² down to 0 at the range; any shape."""
    beyond = np.clip(2 * distance_km / range_km - 1, 0.0, 1.0)
    return np.cos(np.pi / 2 * beyond) ** 2


def interpolate(places: Sequence[Places], channels: int, grid: Grid, range_km: float) -> np.ndarray:
    """τ I(d): groups of innovations -> [C, H, W] float64, zero for channels without any.

    Args:
        places: from :func:`vaevar.assim.interpolation.places.group_by_places`.
        channels: C.
        grid: of the result.
        range_km: distance from which the increment is zero.
    """
    increment = np.zeros((channels, grid.shape[0] * grid.shape[1]))
    targets = grid_vectors(grid)
    for group in places:
        points = unit_vectors(group.latitude, group.longitude)
        anchors = _ANCHORS[nearest_km(points, _ANCHORS) > range_km]
        corner, weight = barycentric(np.concatenate([points, anchors]), targets)
        weight = weight * taper(nearest_km(points, targets), range_km)[:, None]
        held = np.pad(group.innovation, ((0, 0), (0, len(anchors))))
        for start in range(0, len(targets), _TOGETHER):
            some = slice(start, start + _TOGETHER)
            increment[group.channel, some] = np.einsum("kmi,mi->km", held[:, corner[some]], weight[some])
    return increment.reshape(channels, *grid.shape)


class LinearInterpolation(Assimilator):
    """The background plus innovations interpolated linearly on the sphere's triangulation.

    Args:
        range_km: beyond this distance from the nearest observation the background is not changed.

    Raises:
        UserError: for a range that is not positive.

    Example:
        >>> float(abs(vaevar.LinearInterpolation()(state, observations).increment["t2m"]).max()) > 0
        True
    """

    def __init__(self, range_km: float = 1500.0) -> None:
        super().__init__()
        if not (range_km > 0 and math.isfinite(range_km)):
            raise UserError(f"LinearInterpolation: range_km is {range_km}, must be positive")
        self.range_km = range_km

    def forward(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> Analysis:
        """Interpolate; without observations the background is the analysis.

        Raises:
            UserError: for an observation that measures no channel of the state.
        """
        began = time.perf_counter()
        groups = group_by_places(background, observations)
        increment = interpolate(groups, len(background.spec), background.grid, self.range_km)
        return Analysis(add_increment(background, increment), {"seconds": time.perf_counter() - began})
