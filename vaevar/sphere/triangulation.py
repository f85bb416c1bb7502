"""The Delaunay triangulation of points on the sphere, and linear interpolation on it.

The triangles are the faces of the points' convex hull (Renka, 1997, ACM TOMS 23). Within a triangle
a field is linear in the barycentric coordinates of where the ray from the centre of the sphere meets
the flat face. The sphere has no edges, so there is neither a date line nor a pole to mind.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull, QhullError

_CHUNK = 512  # targets located at a time: bounds the memory at 0.25°


def barycentric(points: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which three points surround each target, and with which weights.

    Args:
        points: [P, 3] unit vectors, no two alike.
        targets: [M, 3] unit vectors.

    Returns:
        corner: [M, 3] int, positions in ``points``.
        weight: [M, 3], non-negative, summing to 1; all zero for a target that no triangle holds,
            as where points lie in one hemisphere only, or fewer than four were given.
    """
    corner = np.zeros((len(targets), 3), dtype=np.int64)
    weight = np.zeros((len(targets), 3))
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):  # fewer than four points, or all of them on one circle
        return corner, weight
    # Faces turned away from the centre belong to the hull of a partly covered sphere, and close it.
    triangles = hull.simplices[hull.equations[:, 3] < -1e-12]
    if not len(triangles):
        return corner, weight
    # target = Σ λ_i corner_i, so that λ = target · (corners)⁻¹
    inverse = np.linalg.inv(points[triangles])  # [F, 3, 3]
    flat = inverse.transpose(1, 0, 2).reshape(3, -1)
    for start in range(0, len(targets), _CHUNK):
        some = slice(start, start + _CHUNK)
        share = (targets[some] @ flat).reshape(-1, len(triangles), 3)
        # The triangle that holds a target is the one where its smallest coordinate is not negative.
        least = share.min(-1)
        best = least.argmax(1)
        rows = np.arange(len(best))
        found = least[rows, best] > -1e-9
        chosen = np.clip(share[rows, best], 0.0, None) * found[:, None]
        total = chosen.sum(1, keepdims=True)
        weight[some] = np.divide(chosen, total, out=np.zeros_like(chosen), where=total > 0)
        corner[some] = triangles[best]
    return corner, weight
