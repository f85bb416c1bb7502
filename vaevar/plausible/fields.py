"""Fields judged at every point: is a field of temperature one, or a hole, another unit, another variable?"""

from __future__ import annotations

import numpy as np
import torch

from vaevar.constants import GRAVITY, SEA_LEVEL_PRESSURE
from vaevar.plausible.atmosphere import standard_temperature
from vaevar.plausible.ranges import Range
from vaevar.sphere.grid import Grid, place
from vaevar.state import VARIABLES, Channel

# What stands for a missing value: netCDF's default, CMIP's, GRIB's, and those that people choose.
_FILL_VALUES = (9.96921e36, 1e20, 9.999e20, 1e15, 9999.0, -9999.0, -999.0, -32767.0, -32768.0, -99.0, -1e10)
# Factor and offset to the variable's units from others.
_OTHER_UNITS: dict[str, dict[str, tuple[float, float]]] = {
    "temperature": {"°C": (1.0, 273.15), "°F": (5 / 9, 255.372)},
    "msl": {"hPa": (100.0, 0.0), "kPa": (1000.0, 0.0)},
    "q": {"g/kg": (1e-3, 0.0)},
    "z": {"m of height": (GRAVITY, 0.0), "dam of height": (10 * GRAVITY, 0.0)},
}
# Where zero lies within the range, a hole of zeros is told by their number: real winds are hardly ever 0.0,
# and humid air near the ground is rarely dry.
_ZEROS_OF_WIND, _ZEROS_OF_HUMIDITY = 0.02, 0.15
_HUMID_BELOW = 600  # hPa


def fault(values: np.ndarray, channel: Channel, grid: Grid, coarse: np.ndarray | None = None) -> str:
    """What is wrong with a field; empty if nothing is.

    Args:
        values: [H, W], physical units.
        channel: what the field is.
        grid: the H × W points.
        coarse: some of its rows and columns, which is enough to look for holes of zeros; by default all.
    """
    limits = channel.points
    # One pass, where NumPy takes two; NaN is passed on.
    low, high = (float(extreme) for extreme in torch.aminmax(torch.from_numpy(values)))
    if low in limits and high in limits:
        if low == high and channel.variable != "q":  # the stratosphere may be dry everywhere
            return f"is {low + 0.0:.4g} at every point"  # 0 rather than -0
        some = values if coarse is None else coarse
        mean = float(some.mean(dtype=np.float64))
        if mean not in channel.means:
            return (
                f"has the mean {mean:.4g}, expected {channel.means} {channel.units}: it is another variable, "
                "level or sign, or in other units"
            )
        return _zeros(some, channel)
    with np.errstate(invalid="ignore"):
        wrong = ~((values >= limits.low) & (values <= limits.high))
    row, column = np.argwhere(wrong)[0]
    count = int(wrong.sum())
    where = place(grid.latitude[row], grid.longitude[column])
    if not np.isfinite(values[row, column]):
        return (
            "has values that are not finite (not written, or damaged) at "
            f"{_points(count, wrong.size)}, such as {where}"
        )
    looks = _likeness(values, float(values[row, column]), channel)
    return (
        f"is {values[row, column]:.4g} at {where}, expected {limits} {channel.units}, and wrong at "
        f"{_points(count, wrong.size)}{looks}"
    )


def described(channel: Channel) -> str:
    """A channel as a store names it, such as ``temperature at 500 hPa``."""
    level = "" if channel.level is None else f" at {channel.level} hPa"
    return f"{VARIABLES[channel.variable].long_name}{level}"


def _points(count: int, size: int) -> str:
    return f"{count} of {size} points"


def _zeros(values: np.ndarray, channel: Channel) -> str:
    if 0.0 not in channel.points:
        return ""
    usual = _ZEROS_OF_WIND
    if channel.variable == "q":
        usual = _ZEROS_OF_HUMIDITY if (channel.level or 0) >= _HUMID_BELOW else 1.0
    inside = values[1:-1]  # some models set the wind to zero at the poles
    count = inside.size - np.count_nonzero(inside)
    if count <= max(usual * inside.size, 2):
        return ""
    share = f"{count / inside.size:.0%}"
    return f"is exactly 0 at {share} of its points: it looks like a part that was not written"


def _likeness(values: np.ndarray, wrong: float, channel: Channel) -> str:
    """What a field that is out of range may be instead."""
    if any(np.isclose(wrong, fill, rtol=1e-4, atol=0.0) for fill in _FILL_VALUES) or abs(wrong) > 1e15:
        return ": it looks like a fill value for what is missing"
    if wrong == 0:
        return ": it looks like a part that was not written"
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite[:: max(1, finite.size // 10_000)], [0.05, 0.95])
    kind = "temperature" if channel.variable in ("t", "t2m") else channel.variable
    fitting = {
        units: abs(0.5 * (low + high) * factor + offset - _typical(channel))
        for units, (factor, offset) in _OTHER_UNITS.get(kind, {}).items()
        if _both_in(low * factor + offset, high * factor + offset, channel.points)
    }
    if fitting:
        return f": it looks like {' or '.join(sorted(fitting, key=fitting.__getitem__))}"
    if not _both_in(low, high, channel.points):
        return ": it is in other units, another variable or at another level"
    return ": it looks damaged"


def _typical(channel: Channel) -> float:
    """The middle of what a field is: cold °F are possible °C."""
    if channel.variable in ("t", "t2m"):
        return standard_temperature(channel.level or SEA_LEVEL_PRESSURE)
    return 0.5 * (channel.means.low + channel.means.high)


def _both_in(low: float, high: float, limits: Range) -> bool:
    return low in limits and high in limits
