"""The Delaunay triangulation of points on the sphere, and linear interpolation on it.

The triangles are the faces of the points' convex hull (Renka, 1997, ACM TOMS 23). Within a triangle a field
is linear in barycentric coordinates, taken where the ray from the centre of the sphere meets the flat face.
The date line and the poles need no special case.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull, QhullError

_CHUNK = 512  # targets located at a time, to bound the memory at 0.25°


def barycentric(points: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The three points around each target, and their weights.

    Args:
        points: [P, 3] unit vectors, all different.
        targets: [M, 3] unit vectors.

    Returns:
        corner: [M, 3] int, positions in ``points``.
        weight: [M, 3], non-negative, summing to 1. All zero for a target outside every triangle, for
            example when all points are in one hemisphere, or when there are fewer than four.
    """
    corner = np.zeros((len(targets), 3), dtype=np.int64)
    weight = np.zeros((len(targets), 3))
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):  # fewer than four points, or all of them on one circle
        return corner, weight
    # Other faces only close the hull of points that cover part of the sphere.
    triangles = hull.simplices[hull.equations[:, 3] < -1e-12]
    if not len(triangles):
        return corner, weight
    # target = Σ λ_i corner_i, so that λ = target · (corners)⁻¹
    inverse = np.linalg.inv(points[triangles])  # [F, 3, 3]
    flat = inverse.transpose(1, 0, 2).reshape(3, -1)
    for start in range(0, len(targets), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        coordinates = (targets[chunk] @ flat).reshape(-1, len(triangles), 3)
        # A target is in the triangle where its smallest coordinate is not negative.
        least = coordinates.min(-1)
        best = least.argmax(1)
        rows = np.arange(len(best))
        inside = least[rows, best] > -1e-9
        chosen = np.clip(coordinates[rows, best], 0.0, None) * inside[:, None]
        total = chosen.sum(1, keepdims=True)
        weight[chunk] = np.divide(chosen, total, out=np.zeros_like(chosen), where=total > 0)
        corner[chunk] = triangles[best]
    return corner, weight
