"""Fields that are those of another time, number for number: a chunk that was copied."""

from __future__ import annotations

import numpy as np

from vaevar.state import VARIABLES, StateSpec

_REMEMBERED = 2000  # times
_EVERY = 4  # rows: so many are enough to tell a field by


class Repeats:
    """Remembers the fields of the times seen last, by a number each."""

    def __init__(self, spec: StateSpec) -> None:
        self._spec = spec
        self._times: dict[int, np.datetime64] = {}

    def __call__(self, state: np.ndarray, time: np.datetime64) -> str:
        """Which variable is that of another time; empty if none is.

        Args:
            state: [C, H, W], some rows and columns.
            time: of the state.
        """
        for name in (*self._spec.surface, *self._spec.upper):
            fields = state[self._spec.variable_slice(name), ::_EVERY]
            if fields.min() == fields.max():  # a dry stratosphere is so at all times
                continue
            other = self._times.setdefault(hash((name, fields.tobytes())), time)
            if other != time:
                return (
                    f"{VARIABLES[name].long_name} is that of {other.astype('datetime64[h]')}, number for "
                    "number: one of the two is of another time"
                )
        while len(self._times) > _REMEMBERED * len(self._spec.surface + self._spec.upper):
            self._times.pop(next(iter(self._times)), None)
        return ""
