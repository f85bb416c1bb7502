"""Coastlines as they are drawn, from 0 to 360 degrees."""

from __future__ import annotations

import numpy as np

from vaevar.sphere.coastlines import FILE, coastline_gaps, coastlines


def test_no_line_crosses_the_map() -> None:
    """None jumps from one side to the other, neither at Greenwich nor at the date line."""
    lines = coastlines()
    assert all(len(line) > 1 for line in lines)
    points = np.concatenate(lines)
    assert points[:, 0].min() == 0.0
    assert points[:, 0].max() == 360.0
    assert np.abs(points[:, 1]).max() < 90
    assert max(np.abs(np.diff(line, axis=0)).max() for line in lines) < 15
    assert FILE.stat().st_size < 150_000


def test_africa_and_the_antarctic_are_cut_at_greenwich_at_one_latitude() -> None:
    ends = {
        side: sorted(point[1] for line in coastlines() for point in line[[0, -1]] if point[0] == side)
        for side in (0.0, 360.0)
    }
    # A coast that ends on the meridian itself does so on one side alone.
    shared = set(np.round(ends[0.0], 6)) & set(np.round(ends[360.0], 6))
    assert any(4 < latitude < 6 for latitude in shared)  # Ghana
    assert any(50 < latitude < 54 for latitude in shared)  # England


def test_lines_are_parted_by_gaps() -> None:
    gaps = coastline_gaps()
    assert np.isnan(gaps).all(1).sum() == len(coastlines())
