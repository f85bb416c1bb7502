"""The states of a store, judged as they are read, one after the other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vaevar.errors import UserError
from vaevar.plausible.fields import described, fault, place
from vaevar.plausible.geostrophic import contradiction
from vaevar.plausible.hydrostatic import imbalance
from vaevar.plausible.ranges import of_jumps
from vaevar.sphere.grid import Grid
from vaevar.state import Channel, StateSpec

# A coarse piece of a state is enough to notice what is wrong with a part of it.
_ROWS_LOOKED_AT = 120
# Beyond this, weather may have become another: nothing is compared.
_LONGEST_STEP = np.timedelta64(12, "h")
# The root mean square of changes over the sphere is about the same from step to step: within 7 % in SPEEDY.
# Near the ground the time of the day counts.
_USUAL_RATIOS = {"z": 1.7, "msl": 1.7}
_USUAL_RATIO = 2.5


class _Last(NamedTuple):
    """A piece of the state before, [levels, h, w], and how it had changed, relative to what is allowed."""

    time: np.datetime64
    fields: np.ndarray
    step: np.timedelta64
    change: float


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
        self._area = grid.area_weights.numpy()[:: self._stride]
        self._last: dict[str, _Last] = {}

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
        coarse = np.ascontiguousarray(fields[..., :: self._stride, :: self._stride])
        for now, some, time in zip(fields, coarse, times, strict=True):
            for values, piece, channel in zip(now, some, channels, strict=True):
                if found := fault(values, channel, self.grid, piece):
                    raise self._refused(f"{described(channel)} at {_hour(time)} {found}")
            if self.in_sequence:
                self._compare(variable, channels, some, time)

    def together(self, states: np.ndarray, times: np.ndarray) -> None:
        """Judge whole states, [T, C, H, W]: whether their variables belong together.

        Raises:
            UserError: when they do not.
        """
        for values, time in zip(states[..., :: self._stride, :: self._stride], times, strict=True):
            found = imbalance(values, self.spec, self._area)
            found = found or contradiction(values, self.spec, self.grid, self._stride)
            if found:
                raise self._refused(f"at {_hour(time)} {found}")

    def _compare(
        self, variable: str, channels: tuple[Channel, ...], fields: np.ndarray, time: np.datetime64
    ) -> None:
        before = self._last.get(variable)
        step: np.timedelta64 = np.timedelta64(0, "h")
        change = 0.0
        if before is not None and time != before.time and abs(time - before.time) <= _LONGEST_STEP:
            step = time - before.time
            relative = [
                self._change(channel, past, now, before.time, time)
                for channel, past, now in zip(channels, before.fields, fields, strict=True)
            ]
            change = float(np.mean(relative))
            usual = _USUAL_RATIOS.get(variable, _USUAL_RATIO)
            if step == before.step and 0 < usual * before.change < change:
                raise self._refused(
                    f"{described(channels[-1])} changes {change / before.change:.2g} times as much from "
                    f"{_hour(before.time)} to {_hour(time)} as in the step before, all over the sphere: one "
                    "of the two is of another time, or damaged"
                )
        self._last[variable] = _Last(time, fields.copy(), step, change)

    def _change(
        self,
        channel: Channel,
        past: np.ndarray,
        now: np.ndarray,
        earlier: np.datetime64,
        time: np.datetime64,
    ) -> float:
        """The root mean square of a change, relative to the largest that is possible."""
        change = np.abs(now - past)
        limits = of_jumps(channel.variable, channel.level)
        flat = change.reshape(-1)
        size = float(np.sqrt(np.dot(flat, flat) / flat.size))
        if change.max() > limits.high or size > limits.low:
            row, column = np.unravel_index(int(change.argmax()), change.shape)
            where = place(self.grid.latitude[row * self._stride], self.grid.longitude[column * self._stride])
            raise self._refused(
                f"{described(channel)} changes from {past[row, column]:.4g} at {_hour(earlier)} to "
                f"{now[row, column]:.4g} {channel.units} at {_hour(time)} at {where}, and by {size:.3g} as a "
                f"root mean square; weather changes by at most {limits.high:.3g} and {limits.low:.3g}: one "
                "of the two is damaged, or of another time"
            )
        return size / limits.low

    def _refused(self, found: str) -> UserError:
        return UserError(f"{self.path}: {found}; regenerate or repair the store")


def _hour(time: np.datetime64) -> str:
    return str(time.astype("datetime64[h]"))
