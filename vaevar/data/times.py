"""Times that people write: read to the hour or refused, and evenly spaced times. Nothing is cut off."""

from __future__ import annotations

import re

import numpy as np

from vaevar.errors import UserError

STEP_HOURS = 6  # between the states of a store that a forecaster learns from
_HOUR = np.timedelta64(1, "h")
# Only numbers: "now" and "today" would be another time in each run, and an offset would be taken for UTC.
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d(\.0+)?)?)?)?Z?")


def hour_of(text: str, name: str) -> np.datetime64:
    """A time on the full hour, UTC, datetime64[h].

    Args:
        text: such as ``2022-01-03T06`` or ``2022-01-03 06:00``; a date alone is its midnight.
        name: of the setting, for the message.

    Raises:
        UserError: for anything else, and for minutes or seconds.
    """
    if not _TIME.fullmatch(text.strip()):
        raise UserError(f"{name}: {text!r} is not a time; write 2022-01-03T06, in UTC")
    try:
        time = np.datetime64(text.strip().removesuffix("Z"))
    except ValueError:
        raise UserError(f"{name}: {text!r} is not a time of the calendar; write 2022-01-03T06") from None
    hour: np.datetime64 = time.astype("datetime64[h]")
    if hour != time:
        raise UserError(
            f"{name}: {text!r} is not on the full hour, as states are; write {hour} or {hour + 1}"
        )
    return hour


def period_of(start: str, end: str, names: tuple[str, str] = ("start", "end")) -> tuple[np.datetime64, ...]:
    """Two times, the second not before the first, datetime64[h].

    Args:
        start, end: of the period.
        names: of the settings, for the messages.

    Raises:
        UserError: as :func:`hour_of`, and for a period that ends before it starts.
    """
    first, last = hour_of(start, names[0]), hour_of(end, names[1])
    if last < first:
        raise UserError(f"the period ends ({names[1]} {end}) before it starts ({names[0]} {start})")
    return first, last


def six_hourly(start: str, end: str, names: tuple[str, str] = ("start", "end")) -> np.ndarray:
    """Times from ``start`` to ``end`` inclusive, every 6 hours, datetime64[h].

    Args:
        start, end: of the period.
        names: of the settings, for the messages.

    Raises:
        UserError: as :func:`period_of`, and for an end that is not one of the times.
    """
    first, last = period_of(start, end, names)
    times = np.arange(first, last + _HOUR, STEP_HOURS * _HOUR)
    if times[-1] != last:
        raise UserError(
            f"{names[1]}: {end} is not a multiple of {STEP_HOURS} h after {names[0]}, {start}; write "
            f"{times[-1]}"
        )
    return times


def steps_in(hours: int, name: str, step_hours: int = STEP_HOURS) -> int:
    """How many steps a number of hours is.

    Args:
        hours: of an interval.
        name: of the setting, for the message.
        step_hours: of one step.

    Raises:
        UserError: when it is not positive, or not a multiple of the step.
    """
    if hours < 1 or hours % step_hours:
        raise UserError(
            f"{name}: {hours} h is not a positive multiple of the {step_hours} h between states; write "
            f"{max(step_hours, hours // step_hours * step_hours)}"
        )
    return hours // step_hours
