"""Ordinary kriging from the nearest places, as DiffDA's authors interpolate observations (ICML 2024).

    x_a = x_b + Σ_i w_i d_i,   d = y − H(x_b),   of minimal variance under Σ_i w_i = 1,

over the nine places nearest to a grid point, with the correlation exp(−r/L) and without observation errors:
the field goes through every observation, and nothing holds it between them. r is the chord.

The authors krige the values y, Σ_i w_i y_i, and take only what lies within a cell or two of a place. At 0.25°
that is 40 km, and values change little. On a coarse grid it is hundreds of kilometres, and values bring the
error of interpolating the weather itself.
"""

from __future__ import annotations

import math
import time
from typing import Literal

import numpy as np
import torch
from scipy.spatial import cKDTree

from vaevar.assim.assimilator import Analysis, Assimilator, add_increment
from vaevar.assim.context import STANDALONE, AnalysisContext
from vaevar.assim.interpolation.places import group_by_places
from vaevar.constants import EARTH_RADIUS_KM
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.sphere.interpolation import grid_vectors, unit_vectors
from vaevar.state import State

_TOGETHER = 65536  # systems solved at once: 50 MB with nine places
# Of the correlations' diagonal: two places within rounding of each other would make them singular.
_NUGGET = 1e-10


def kriging_weights(
    points: np.ndarray, targets: np.ndarray, neighbours: int, length_km: float
) -> tuple[np.ndarray, np.ndarray]:
    """The places that each target takes, and their weights.

    Args:
        points: [N, 3] unit vectors of the places.
        targets: [M, 3] unit vectors.
        neighbours: k, at most; all places where there are fewer.
        length_km: L.

    Returns:
        Positions in ``points`` [M, k], and weights [M, k], which sum to 1.
    """
    k = min(neighbours, len(points))
    distance, nearest = cKDTree(points).query(targets, k)
    distance, nearest = distance.reshape(-1, k), nearest.reshape(-1, k)
    between = np.linalg.norm(points[nearest][:, :, None] - points[nearest][:, None], axis=-1)
    system = np.ones((len(targets), k + 1, k + 1))
    system[:, :k, :k] = np.exp(-between * EARTH_RADIUS_KM / length_km) + _NUGGET * np.eye(k)
    system[:, k, k] = 0.0
    right = np.ones((len(targets), k + 1, 1))
    right[:, :k, 0] = np.exp(-distance * EARTH_RADIUS_KM / length_km)
    return nearest, np.linalg.solve(system, right)[:, :k, 0]


class Kriging(Assimilator):
    """Each observed channel by kriging; for DiffDA's known part, and no analysis to cycle with.

    Args:
        neighbours: places that each grid point takes; published 9.
        length_km: L; 600 km in the authors' code.
        of: what is interpolated; the authors take values.

    Raises:
        UserError: for a number that is not positive, or another ``of``.
    """

    def __init__(
        self,
        neighbours: int = 9,
        length_km: float = 600.0,
        of: Literal["innovations", "values"] = "innovations",
    ) -> None:
        super().__init__()
        if neighbours < 1 or not (length_km > 0 and math.isfinite(length_km)):
            raise UserError(f"Kriging: neighbours {neighbours} and length_km {length_km} must be positive")
        if of not in ("innovations", "values"):
            raise UserError(f"Kriging: of is {of!r}, not innovations or values")
        self.neighbours, self.length_km, self.of = neighbours, length_km, of

    def forward(
        self, background: State, observations: Observations, context: AnalysisContext = STANDALONE
    ) -> Analysis:
        """Interpolate; a channel without observations is the background's.

        Raises:
            UserError: for an observation that measures no channel of the state.
        """
        began = time.perf_counter()
        spec, grid = background.spec, background.grid
        increment, targets = np.zeros((len(spec), grid.shape[0] * grid.shape[1])), grid_vectors(grid)
        for group in group_by_places(background, observations):
            points = unit_vectors(group.latitude, group.longitude)
            given = group.innovation if self.of == "innovations" else group.value
            for start in range(0, len(targets), _TOGETHER):
                some = slice(start, start + _TOGETHER)
                nearest, weight = kriging_weights(points, targets[some], self.neighbours, self.length_km)
                increment[group.channel, some] = np.einsum("kmi,mi->km", given[:, nearest], weight)
            if self.of == "values":
                increment[group.channel] -= background.values[group.channel].cpu().double().flatten(1).numpy()
        values = torch.from_numpy(increment).reshape(len(spec), *grid.shape)
        return Analysis(add_increment(background, values), {"seconds": time.perf_counter() - began})
