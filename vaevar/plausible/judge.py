"""The states of a store, judged as they are read, one after the other."""

from __future__ import annotations

import numpy as np

from vaevar.errors import UserError
from vaevar.plausible.fields import described, fault, place
from vaevar.plausible.ranges import of_jumps
from vaevar.sphere.grid import Grid
from vaevar.state import Channel, StateSpec

# A coarse piece of a state is enough to notice what is wrong with a part of it.
_ROWS_LOOKED_AT = 180
# Beyond this, weather may have become another: nothing is compared.
_LONGEST_STEP = np.timedelta64(12, "h")


class StateJudge:
    """Refuses fields that cannot be weather, and changes that weather cannot make. Threads may share it.

    Each field is judged at every point by the range of its variable at its level. Some rows and columns of
    it are compared with those of the state before, if that is at most 12 hours away: damage that a codec
    does not notice makes other numbers of the right size.

    Args:
        path: of the store, for messages.
        spec, grid: of its states.
        in_sequence: whether states that follow each other are of one evolution. Forecasts of a long lead are
            not.
    """

    def __init__(self, path: str, spec: StateSpec, grid: Grid, in_sequence: bool = True) -> None:
        self.path, self.spec, self.grid, self.in_sequence = path, spec, grid, in_sequence
        self._stride = max(1, grid.shape[0] // _ROWS_LOOKED_AT)
        self._last: dict[str, tuple[np.datetime64, np.ndarray]] = {}

    def __call__(self, variable: str, fields: np.ndarray, times: np.ndarray) -> None:
        """Judge the fields of one variable.

        Args:
            variable: a short name, such as ``t``.
            fields: [T, levels, H, W], physical units.
            times: [T].

        Raises:
            UserError: when a field cannot be what it says; it names the variable, level, time and place.
        """
        channels = self.spec.channels[self.spec.variable_slice(variable)]
        coarse = fields[..., :: self._stride, :: self._stride]
        for now, some, time in zip(fields, coarse, times, strict=True):
            for values, piece, channel in zip(now, some, channels, strict=True):
                if found := fault(values, channel, self.grid, piece):
                    raise UserError(
                        f"{self.path}: {described(channel)} at {_hour(time)} {found}; regenerate or repair "
                        "the store"
                    )
            if self.in_sequence:
                self._compare(variable, channels, some, time)

    def _compare(
        self, variable: str, channels: tuple[Channel, ...], fields: np.ndarray, time: np.datetime64
    ) -> None:
        earlier, before = self._last.get(variable, (time, fields))
        if earlier != time and abs(time - earlier) <= _LONGEST_STEP:
            for values, past, channel in zip(fields, before, channels, strict=True):
                change = np.abs(values - past)
                limits = of_jumps(channel.variable, channel.level)
                size = float(np.sqrt(np.square(change).mean()))
                if change.max() <= limits.high and size <= limits.low:
                    continue
                row, column = np.unravel_index(int(change.argmax()), change.shape)
                where = place(
                    self.grid.latitude[row * self._stride], self.grid.longitude[column * self._stride]
                )
                raise UserError(
                    f"{self.path}: {described(channel)} changes from {past[row, column]:.4g} at "
                    f"{_hour(earlier)} to {values[row, column]:.4g} {channel.units} at {_hour(time)} at "
                    f"{where}, and by {size:.3g} as a root mean square; weather changes by at most "
                    f"{limits.high:.3g} and {limits.low:.3g}: one of the two is damaged, or their times are "
                    "wrong; regenerate or repair the store"
                )
        self._last[variable] = (time, fields.copy())


def _hour(time: np.datetime64) -> str:
    return str(time.astype("datetime64[h]"))
