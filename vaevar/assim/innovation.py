"""y − H(x_b), where observations and a background meet; and what looks wrong with them there.

What an observation cannot be is refused where it is made. Here is told what it can be, but hardly is: places
in radians, winds in knots, errors of hPa given in Pa.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vaevar.data.observations.points import Observations
from vaevar.mistakes.notices import notice
from vaevar.plausible.patterns import area, eddies, every
from vaevar.plausible.ranges import of_stds
from vaevar.sphere.grid import place
from vaevar.state import VARIABLES, State

# So few observations may lie anywhere.
_SEVERAL = 20
# Degrees that places of a network around the world span at least.
_FAR_AND_WIDE = 60.0
# Of the std of weather, as the middle of its range; no observation stands for a grid box as well as that.
_LEAST_ERROR = 5e-3
# Wind of a background that is little worse than weather's predictability has a regression on it near 1. Knots
# are 1.94, miles an hour 2.24, km/h 3.6 times as large.
_STRONG, _SURE = 1.6, 0.7
_WINDS = ("u", "v", "u10", "v10")
# An observation is far from its background beyond so many √(σ_b² + σ_o²). σ_b is the std of weather about its
# zonal mean: of SPEEDY's forecasts for 48 h the worst point is 4 of these off.
_FAR = 6.0


def innovation(at_background: Tensor, background: State, observations: Observations) -> Tensor:
    """d = y − H(x_b), and a notice of what looks wrong.

    Args:
        at_background: H(x_b), [P].
        background: x_b; in a window of several times, that of the first.
        observations: y, P of them.

    Returns:
        [P] float64.
    """
    host = at_background.detach().cpu().double().numpy()
    for doubt in doubts(observations, host):
        notice(doubt)
    for doubt, instance in far(observations, host, background):
        notice(doubt, instance)
    return torch.tensor(observations.value, device=at_background.device) - at_background


def tell_of_none() -> None:
    """Say once that there is nothing to analyse."""
    notice(
        "an analysis has no observations, and is its background; look at the network, or at what reads the "
        "reports"
    )


def doubts(observations: Observations, at_background: np.ndarray) -> Iterator[str]:
    """What looks wrong with observations, a line each.

    Args:
        observations: P of them.
        at_background: [P], what they would be in the background.
    """
    if len(observations) > _SEVERAL:
        yield from _of_places(observations.latitude, observations.longitude)
    for name in VARIABLES:
        rows = np.flatnonzero(observations.variable == name)
        if rows.size:
            yield from _of_errors(name, observations.pressure[rows], observations.error_std[rows])
        if name in _WINDS and rows.size > _SEVERAL:
            yield from _of_winds(name, observations.value[rows], at_background[rows])


def far(
    observations: Observations, at_background: np.ndarray, background: State
) -> Iterator[tuple[str, str]]:
    """Observations that are far from the background, by variable: that there are some, and which.

    Args:
        observations: P of them.
        at_background: [P], what they would be in the background.
        background: x_b, [C, H, W].
    """
    departure = np.abs(observations.value - at_background)
    for name in np.unique(observations.variable).tolist():
        rows = np.flatnonzero(observations.variable == name)
        if not (name in VARIABLES and rows.size):
            continue
        spread = _spread(name, background, observations.pressure[rows])
        times = departure[rows] / np.hypot(spread, observations.error_std[rows])
        worst = rows[int(times.argmax())]
        if not times.max() > _FAR:
            continue
        yield (
            f"observations: some of {name} are farther than {_FAR:g} √(σ_b² + σ_o²) from the background: "
            "gross errors, other units, or a background that is wrong; they are assimilated like the others, "
            "so leave out what is wrong",
            f"{int((times > _FAR).sum())} of {rows.size}, such as {observations.value[worst]:.5g} where the "
            f"background is {at_background[worst]:.5g} {VARIABLES[name].units}, at "
            f"{place(observations.latitude[worst], observations.longitude[worst])}"
            f"{'' if np.isnan(observations.pressure[worst]) else f', {observations.pressure[worst]:g} hPa'}",
        )


def _spread(name: str, background: State, pressure: np.ndarray) -> np.ndarray:
    """σ_b at observations of a variable: the std of weather, of the background or what is usual, [P]."""
    spec, stride = background.spec, every(background.grid)
    fields = background.values[spec.variable_slice(name), ::stride, ::stride].detach().cpu().numpy()
    weight = area(background.grid.latitude[::stride])
    share = weight / (weight.sum() * fields.shape[-1])
    stds = np.sqrt((share * eddies(fields) ** 2).sum((-2, -1)))
    levels = spec.levels if name in spec.upper else (None,)
    limits = [of_stds(name, level) for level in levels]
    stds = np.maximum(stds, [np.sqrt(limit.low * limit.high) for limit in limits])
    if name not in spec.upper:
        return np.broadcast_to(stds, pressure.shape)
    return np.interp(np.log(pressure), np.log(spec.levels), stds)


def _of_places(latitude: np.ndarray, longitude: np.ndarray) -> Iterator[str]:
    east = np.where(longitude > 180.0, longitude - 360.0, longitude)
    narrow = {
        "latitude": bool((np.abs(latitude) <= np.pi / 2).all()),
        "longitude": bool((np.abs(east) <= np.pi).all() or (longitude <= 2 * np.pi).all()),
    }
    wide = {
        "latitude": float(np.ptp(latitude)) >= _FAR_AND_WIDE,
        "longitude": float(np.ptp(longitude)) >= _FAR_AND_WIDE,
    }
    for name, other in (("latitude", "longitude"), ("longitude", "latitude")):
        if narrow[name] and (wide[other] or narrow[other]):
            yield (
                f"observations: every {name} is within {'±1.6' if name == 'latitude' else '±6.3'}: they look "
                "like radians; give degrees"
            )


def _of_errors(name: str, pressure: np.ndarray, error_std: np.ndarray) -> Iterator[str]:
    for value in np.unique(pressure).tolist():
        level = None if np.isnan(value) else value
        stds = of_stds(name, level)
        least = _LEAST_ERROR * float(np.sqrt(stds.low * stds.high))
        smallest = float(error_std[np.isnan(pressure) if level is None else pressure == value].min())
        if smallest < least:
            place = "" if level is None else f" at {level:g} hPa"
            yield (
                f"observations: error_std of {name}{place} is down to {smallest:.2g}, expected {least:.2g} "
                f"or more {VARIABLES[name].units}: is it a variance, or in other units?"
            )
            return


def _of_winds(name: str, observed: np.ndarray, at_background: np.ndarray) -> Iterator[str]:
    squares = float(at_background @ at_background), float(observed @ observed)
    product = float(observed @ at_background)
    if min(squares) <= 0 or product / np.sqrt(squares[0] * squares[1]) < _SURE:
        return
    if (strength := product / squares[0]) > _STRONG:
        yield (
            f"observations: {name} is {strength:.1f} times as strong as in the background, expected 0.7 to "
            "1.3: a knot is 0.514 m/s, a km/h 0.278 m/s"
        )
