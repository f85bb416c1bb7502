"""Do geopotential and temperature belong together? The thickness of a layer is its mean temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vaevar.constants import GAS_CONSTANT

if TYPE_CHECKING:
    from vaevar.state.spec import StateSpec

# K, over the sphere: of a single layer, and of the mean of several layers. Temperature is taken as linear in
# ln p between levels, and moisture is left out. In ERA5, GFS and SPEEDY they are within 1.4 and 0.2.
_LAYER_LIMIT, _MEAN_LIMIT, _SEVERAL = 8.0, 3.0, 4
THICKEST = 0.75  # in ln p: beyond, levels say too little of what is between them


def imbalance(values: np.ndarray, spec: StateSpec, area: np.ndarray) -> str:
    """How geopotential contradicts temperature; empty if it does not, or if there is nothing to compare.

    Args:
        values: [C, H, W], physical units.
        spec: the C channels.
        area: [H], weights of the rows.
    """
    depth = np.diff(np.log(np.array(spec.levels, dtype=float)))
    layers = np.flatnonzero(depth <= THICKEST)
    if not {"z", "t"} <= set(spec.upper) or not layers.size:
        return ""
    weight = area / area.sum()
    z, t = (values[spec.variable_slice(name)].mean(-1, dtype=np.float64) @ weight for name in ("z", "t"))
    from_heights = -np.diff(z)[layers] / (GAS_CONSTANT * depth[layers])
    excess = from_heights - 0.5 * (t[1:] + t[:-1])[layers]
    worst = int(np.abs(excess).argmax())
    consistent = layers.size < _SEVERAL or abs(excess.mean()) <= _MEAN_LIMIT
    if consistent and abs(excess[worst]) <= _LAYER_LIMIT:
        return ""
    upper, lower = spec.levels[layers[worst]], spec.levels[layers[worst] + 1]
    return (
        f"the geopotential of {upper} and {lower} hPa is that of air of {from_heights[worst]:.4g} K, but its "
        f"temperature is {from_heights[worst] - excess[worst]:.4g} K; they agree within {_LAYER_LIMIT:g} K, "
        f"and within {_MEAN_LIMIT:g} K in the mean of several layers: levels, variables or times were "
        "exchanged"
    )
