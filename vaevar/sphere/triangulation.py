"""The Delaunay triangulation of points on the sphere, and linear interpolation on it.

The triangles are the faces of the points' convex hull (Renka, 1997, ACM TOMS 23). Within a triangle a field
is linear in barycentric coordinates, taken where the ray from the centre of the sphere meets the flat face.
The date line and the poles need no special case.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull, QhullError, cKDTree

_CHUNK = 512  # targets compared with every face at a time, to bound the memory
_OUTSIDE = -1e-9  # a target is in the triangle where its smallest coordinate is greater


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
    outer = hull.equations[:, 3] < -1e-12
    triangles, planes = hull.simplices[outer], hull.equations[outer]
    if not len(triangles):
        return corner, weight
    # target = Σ λ_i corner_i, so that λ = target · (corners)⁻¹
    inverse = np.linalg.inv(points[triangles])  # [F, 3, 3]
    face = _face_of(planes, targets)
    coordinates = np.einsum("mi,mij->mj", targets, inverse[face])
    # Rounding can choose wrongly between faces near the centre of the sphere: those targets try every face.
    lost = np.flatnonzero(coordinates.min(1) <= _OUTSIDE)
    for start in range(0, len(lost), _CHUNK):
        some = lost[start : start + _CHUNK]
        every = np.einsum("mi,fij->mfj", targets[some], inverse)
        face[some] = every.min(-1).argmax(1)
        coordinates[some] = every[np.arange(len(some)), face[some]]
    inside = coordinates.min(1) > _OUTSIDE
    chosen = np.clip(coordinates, 0.0, None) * inside[:, None]
    total = chosen.sum(1, keepdims=True)
    weight = np.divide(chosen, total, out=weight, where=total > 0)
    return triangles[face], weight


def _face_of(planes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The face that the ray to each target leaves the hull by.

    The ray s t meets the plane n · x = c at s = c / (n · t), so it leaves by the face with the greatest
    t · n / c. A greatest product with one of many vectors is the nearest of them once they are given one
    more coordinate that makes them equally long (Bachrach and others, 2014, RecSys), which a tree finds.

    Args:
        planes: [F, 4], n and −c of faces with c > 0.
        targets: [M, 3].
    """
    vectors = planes[:, :3] / -planes[:, 3:]
    squares = (vectors**2).sum(1)
    vectors = np.concatenate([vectors, np.sqrt(squares.max() - squares)[:, None]], axis=1)
    return cKDTree(vectors).query(np.pad(targets, ((0, 0), (0, 1))))[1]
