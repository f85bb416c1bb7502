"""Times that a config names, and evenly spaced ones."""

from __future__ import annotations

import warnings

import numpy as np

from vaevar.errors import UserError


def whole_hour(text: str, name: str) -> np.datetime64:
    """The time that a setting says, datetime64[h].

    Args:
        text: such as ``2020-01-01T06`` or ``2020-01-01``; UTC.
        name: of the setting, for the message.

    Raises:
        UserError: when it is no date, names a time zone, or is not on the hour.
    """
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


def six_hourly(start: str, end: str) -> np.ndarray:
    """Times from ``start`` to ``end`` inclusive, every 6 hours, datetime64[h].

    Raises:
        UserError: when one is not a date on the hour, or ``end`` is before ``start``.
    """
    first, last = whole_hour(start, "start"), whole_hour(end, "end")
    if last < first:
        raise UserError(f"the period ends ({end}) before it starts ({start})")
    return np.arange(first, last + np.timedelta64(1, "h"), np.timedelta64(6, "h"))


def moment(time: np.datetime64) -> str:
    """A time as short as it can be said exactly: ``2020-01-01T06``, or with minutes or seconds."""
    for unit in ("h", "m", "s"):
        if (rounded := time.astype(f"datetime64[{unit}]")) == time:
            return str(rounded)
    return str(time)
