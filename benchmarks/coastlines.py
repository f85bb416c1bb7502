"""Make ``vaevar/sphere/coastlines.json`` from Natural Earth's land at 1:110 m.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python benchmarks/coastlines.py --topology package/land-110m.json

The npm package world-atlas packs Natural Earth's data, which are in the public domain, as TopoJSON: arcs in
whole steps, each point as its difference from the one before.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vaevar.scripts import run
from vaevar.sphere.coastlines import FILE, STEPS_PER_DEGREE


def main(topology: str, output: str = str(FILE)) -> None:
    """Write the coastlines.

    Args:
        topology: the TopoJSON file.
        output: where to.
    """
    content = json.loads(Path(topology).read_text(encoding="utf-8"))
    scale, shift = (np.array(content["transform"][name]) for name in ("scale", "translate"))
    lines = []
    for arc in content["arcs"]:
        degrees = np.cumsum(np.array(arc), axis=0) * scale + shift
        lines += pieces(np.rint(degrees * STEPS_PER_DEGREE).astype(int))
    text = ",\n".join(json.dumps(line.ravel().tolist(), separators=(",", ":")) for line in lines)
    Path(output).write_text(f"[\n{text}\n]\n", encoding="utf-8")


def pieces(line: np.ndarray) -> list[np.ndarray]:
    """A line [N, 2] without what is no coast: its ways along the edges of the map, where polygons are cut.

    Repeated points are left out.
    """
    line = line[np.append(True, (line[1:] != line[:-1]).any(1))]
    longitude, latitude = np.abs(line).T
    at_edge = (longitude >= 180 * STEPS_PER_DEGREE - 1) | (latitude >= 90 * STEPS_PER_DEGREE - 1)
    cuts = np.flatnonzero(at_edge[1:] & at_edge[:-1]) + 1
    return [piece for piece in np.split(line, cuts) if len(piece) > 1]


if __name__ == "__main__":
    run(main)
