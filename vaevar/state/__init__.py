"""The state vector: which channels, in which order, on which grid, in which units.

FengWu's 69 channels are ``u10, v10, t2m, msl``, then ``z, q, u, v, t``, each on 13 pressure levels from
50 to 1000 hPa. A :class:`StateSpec` with other arguments describes any other set. Fields have physical units
everywhere outside the networks (:class:`vaevar.state.normalizer.Normalizer`).

Shapes: B batch, C channel, H latitude (north to south), W longitude (eastward from 0).
"""

from vaevar.state.finite import not_finite
from vaevar.state.regridding import regrid
from vaevar.state.spec import (
    PRESSURE_LEVELS,
    SURFACE_VARIABLES,
    UPPER_VARIABLES,
    VARIABLES,
    Channel,
    StateSpec,
    Variable,
    difference,
)
from vaevar.state.state import Fields, State

__all__ = [
    "PRESSURE_LEVELS",
    "SURFACE_VARIABLES",
    "UPPER_VARIABLES",
    "VARIABLES",
    "Channel",
    "Fields",
    "State",
    "StateSpec",
    "Variable",
    "difference",
    "not_finite",
    "regrid",
]
