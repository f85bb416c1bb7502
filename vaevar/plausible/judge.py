"""The states of a store, judged as they are read, one after the other."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from vaevar.errors import UserError
from vaevar.mistakes.notices import notice
from vaevar.plausible.belonging import disagreement, other_than_before
from vaevar.plausible.fields import described, fault
from vaevar.plausible.geostrophic import contradiction
from vaevar.plausible.hydrostatic import imbalance
from vaevar.plausible.patterns import every
from vaevar.plausible.ranges import of_jumps
from vaevar.plausible.relations import Relation, is_atmosphere, relations, unexplained
from vaevar.plausible.repeats import Repeats
from vaevar.plausible.sequence import against_the_wind, other_weather
from vaevar.sphere.grid import Grid, place
from vaevar.state import Channel, StateSpec

# A variable of the environment: with the value "tell", what is no matter of ranges is told, not refused.
RELATIONS = "VAEVAR_RELATIONS"
# Beyond this, weather may have become another: nothing is compared.
_LONGEST_STEP = np.timedelta64(12, "h")
# The root mean square of changes over the sphere is about the same from step to step: within 7 % in SPEEDY.
# Near the ground the time of the day counts.
_USUAL_RATIOS = {"z": 1.7, "msl": 1.7}
_USUAL_RATIO = 2.5


class _Last(NamedTuple):
    """A piece of the state before, [C, h, w], and how each variable had changed, relative to what it may."""

    time: np.datetime64
    state: np.ndarray
    step: np.timedelta64
    changes: dict[str, float]
    unexplained: dict[tuple[str, str], float]


class StateJudge:
    """Refuses fields that cannot be weather, and changes that weather cannot make. Threads may share it.

    Each field is judged at every point by the range of its variable at its level. Some rows and columns of a
    state tell whether its fields belong together, and whether it follows from the state before, if that is
    at most 12 hours away: damage that a codec does not notice makes other numbers of the right size.

    Args:
        path: of the store, for messages.
        spec, grid: of its states.
        in_sequence: whether states that follow each other are of one evolution. Forecasts of a long lead are
            not; and they may be poor.

    Attributes:
        piece_shape: [h, w], of what it keeps of a field.
    """

    def __init__(self, path: str, spec: StateSpec, grid: Grid, in_sequence: bool = True) -> None:
        self.path, self.spec, self.grid, self.in_sequence = path, spec, grid, in_sequence
        self._stride = every(grid)
        self.piece_shape = tuple(len(range(0, size, self._stride)) for size in grid.shape)
        self._area = grid.area_weights.numpy()[:: self._stride]
        self._latitude = grid.latitude[:: self._stride]
        self._last: _Last | None = None
        self._repeats = Repeats(spec)

    def field(self, values: np.ndarray, channel: Channel, time: np.datetime64) -> np.ndarray:
        """Judge a field.

        Args:
            values: [H, W], physical units.
            channel: what it is.
            time: of the field.

        Returns:
            the piece of it that :meth:`together` takes, [h, w].

        Raises:
            UserError: when it cannot be what it says; it names the variable, level, time and place.
        """
        piece = np.ascontiguousarray(values[:: self._stride, :: self._stride])
        if found := fault(values, channel, self.grid, piece):
            raise self._refused(f"{described(channel)} at {_hour(time)} {found}")
        return piece

    def together(self, pieces: np.ndarray, times: np.ndarray) -> None:
        """Judge states: whether their fields belong together, and to the state before.

        Args:
            pieces: [T, C, h, w], what :meth:`field` gave.
            times: [T].

        Raises:
            UserError: when they do not.
        """
        for state, time in zip(pieces, times, strict=True):
            last, step = self._last, np.timedelta64(0, "h")
            if last is not None and (time == last.time or abs(time - last.time) > _LONGEST_STEP):
                last = None
            if not self.in_sequence:
                last = None
            # A forecaster may well persist.
            if self.in_sequence and (repeated := self._repeats(state, time)):
                self._object(f"at {_hour(time)} {repeated}")
            changes: dict[str, float] = {}
            if last is not None:
                step = time - last.time
                changes = self._changes(last, state, time)
            found = relations(state, self.spec, self._latitude)
            wrong = imbalance(state, self.spec, self._area)
            wrong = wrong or contradiction(state, self.spec, self._latitude)
            if is_atmosphere(found):
                wrong = wrong or self._as_an_atmosphere(found, state, last, step)
            if wrong:
                self._object(f"at {_hour(time)} {wrong}")
            self._last = _Last(time, state, step, changes, unexplained(found))

    def _as_an_atmosphere(
        self, found: list[Relation], state: np.ndarray, last: _Last | None, step: np.timedelta64
    ) -> str:
        """What is wrong with a state in which fields follow each other as in an atmosphere."""
        latitude, hours = self._latitude, float(step / np.timedelta64(1, "h"))
        wrong = disagreement(found, state, self.spec, latitude, forecast=not self.in_sequence)
        if wrong or last is None:
            return wrong
        wrong = (
            other_weather(last.state, state, self.spec, hours)
            or other_than_before(last.unexplained, unexplained(found))
            or against_the_wind(last.state, state, self.spec, latitude, hours)
        )
        return f"and {_hour(last.time)} {wrong}" if wrong else ""

    def _changes(self, last: _Last, state: np.ndarray, time: np.datetime64) -> dict[str, float]:
        """How much each variable changes, relative to what it may; it is refused if that is too much."""
        changes = {}
        for variable in (*self.spec.surface, *self.spec.upper):
            part = self.spec.variable_slice(variable)
            channels = self.spec.channels[part]
            relative = [
                self._change(channel, past, now, last.time, time)
                for channel, past, now in zip(channels, last.state[part], state[part], strict=True)
            ]
            changes[variable] = change = float(np.mean(relative))
            before = last.changes.get(variable, 0.0)
            usual = _USUAL_RATIOS.get(variable, _USUAL_RATIO)
            if time - last.time == last.step and 0 < usual * before < change:
                self._object(
                    f"{described(channels[-1])} changes {change / before:.2g} times as much from "
                    f"{_hour(last.time)} to {_hour(time)} as in the step before, all over the sphere: one "
                    "of the two is of another time, or damaged"
                )
        return changes

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
            self._object(
                f"{described(channel)} changes from {past[row, column]:.4g} at {_hour(earlier)} to "
                f"{now[row, column]:.4g} {channel.units} at {_hour(time)} at {where}, and by {size:.3g} as a "
                f"root mean square; weather changes by at most {limits.high:.3g} and {limits.low:.3g}: one "
                "of the two is damaged, or of another time"
            )
        return size / limits.low

    def _object(self, found: str) -> None:
        """Refuse what fields say of each other; or tell it, to somebody who knows them better.

        Raises:
            UserError: unless the environment says that it is enough to tell.
        """
        if os.environ.get(RELATIONS) == "tell":
            notice(f"{self.path}: {found}; it is used all the same, as {RELATIONS} says")
            return
        raise UserError(
            f"{self.path}: {found}; regenerate or repair the store (where it is known to be right, "
            f"{RELATIONS}=tell makes this a warning)"
        )

    def _refused(self, found: str) -> UserError:
        return UserError(f"{self.path}: {found}; regenerate or repair the store")


def _hour(time: np.datetime64) -> str:
    return str(time.astype("datetime64[h]"))
