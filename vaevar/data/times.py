"""Evenly spaced times."""

from __future__ import annotations

import numpy as np

from vaevar.errors import UserError


def six_hourly(start: str, end: str) -> np.ndarray:
    """Times from ``start`` to ``end`` inclusive, every 6 hours, datetime64[h].

    Raises:
        UserError: when one is not a date, or ``end`` is before ``start``.
    """
    try:
        first, last = np.datetime64(start, "h"), np.datetime64(end, "h")
    except ValueError as error:
        raise UserError(f"{start} to {end}: expected dates such as 2020-01-01T06 ({error})") from None
    if last < first:
        raise UserError(f"the period ends ({end}) before it starts ({start})")
    return np.arange(first, last + np.timedelta64(1, "h"), np.timedelta64(6, "h"))
