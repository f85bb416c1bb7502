"""Times that a config names, and evenly spaced ones. What is off the hour or the step is refused."""

from __future__ import annotations

import warnings

import numpy as np

from vaevar.errors import UserError

STEP_HOURS = 6  # between the states of a store that a forecaster learns from


def whole_hour(text: str, name: str) -> np.datetime64:
    """The time that a setting says, datetime64[h].

    Args:
        text: such as ``2020-01-01T06`` or ``2020-01-01``; UTC.
        name: of the setting, for the message.

    Raises:
        UserError: when it is no date, names a time zone, or is not on the hour.
    """
    # numpy knows "now" and "today" too, which would be another time in each run.
    if not str(text)[:1].isdigit() and str(text) != "NaT":
        raise UserError(f"{name}: {text!r} is not a time; write it in UTC, such as 2020-01-01T06")
    with warnings.catch_warnings():
        # numpy would take the time zone away with a warning.
        warnings.simplefilter("error", UserWarning)
        try:
            time = np.datetime64(str(text))
            hour = time.astype("datetime64[h]")
        except (ValueError, UserWarning) as error:
            raise UserError(
                f"{name}: {text!r} is not a time; write it in UTC and without a zone, such as "
                f"2020-01-01T06 ({error})"
            ) from None
    if np.isnat(time) or hour != time:
        raise UserError(f"{name}: {text!r} is not on the hour; write such as 2020-01-01T06")
    return hour


def period_of(
    start: str, end: str, names: tuple[str, str] = ("start", "end")
) -> tuple[np.datetime64, np.datetime64]:
    """Two times, the second not before the first, datetime64[h].

    Args:
        start, end: of the period.
        names: of the settings, for the messages.

    Raises:
        UserError: as :func:`whole_hour`, and for a period that ends before it starts.
    """
    first, last = whole_hour(start, names[0]), whole_hour(end, names[1])
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
    times = np.arange(first, last + np.timedelta64(1, "h"), np.timedelta64(STEP_HOURS, "h"))
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
        UserError: when it is not a positive multiple of the step.
    """
    if hours < 1 or hours % step_hours:
        near = max(step_hours, hours // step_hours * step_hours)
        raise UserError(
            f"{name}: {hours} hours, expected a positive multiple of {step_hours}, the hours between states, "
            f"such as {near}"
        )
    return hours // step_hours


def moment(time: np.datetime64) -> str:
    """A time as short as it can be said exactly: ``2020-01-01T06``, or with minutes or seconds."""
    for unit in ("h", "m", "s"):
        if (rounded := time.astype(f"datetime64[{unit}]")) == time:
            return str(rounded)
    return str(time)
