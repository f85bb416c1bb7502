"""Means and standard deviations by channel, judged by their ranges: files swapped, of other channels, units.

An ``.npy`` file does not say of which channels its numbers are. Ranges tell most of what can go wrong: the
std file given for the mean, the surface last, hPa, levels from below. Two neighbouring levels of a wind, or
the statistics of another year, they do not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from vaevar.errors import UserError
from vaevar.plausible.ranges import Range, of_error_stds, of_means, of_stds
from vaevar.state import StateSpec

_Limits = Callable[[str, float | None], Range]


def judge_means(where: str | Path, values: np.ndarray, spec: StateSpec) -> None:
    """Check means of fields.

    Args:
        where: the file, or the file and a name in it, for the message.
        values: [C], physical units.
        spec: the C channels.

    Raises:
        UserError: for a mean that a channel cannot have, or geopotential that does not rise with height.
    """
    _judge(where, "mean", values, spec, of_means)
    if "z" in spec.upper and (np.diff(values[spec.variable_slice("z")]) > 0).any():
        raise UserError(
            f"{where}: mean geopotential rises from a level to the one below, expected levels in the order "
            f"{spec.levels} hPa; order the channels from the top down"
        )


def judge_stds(where: str | Path, values: np.ndarray, spec: StateSpec) -> None:
    """Check standard deviations of fields; arguments as for :func:`judge_means`.

    Raises:
        UserError: for a std that a channel cannot have, or humidity that varies more high up than low down.
    """
    _judge(where, "std", values, spec, of_stds)
    # At 850 hPa it varies twenty times as much as at 300.
    if "q" in spec.upper and spec.levels[0] >= 100 and spec.levels[-1] >= max(500, 2 * spec.levels[0]):
        humidity = values[spec.variable_slice("q")]
        if humidity[-1] <= humidity[0]:
            raise UserError(
                f"{where}: the std of q at {spec.levels[-1]} hPa is {humidity[-1]:.3g}, not above that at "
                f"{spec.levels[0]} hPa, {humidity[0]:.3g}; expected levels in the order {spec.levels} hPa"
            )


def judge_error_stds(where: str | Path, values: np.ndarray, spec: StateSpec) -> None:
    """Check standard deviations of forecast errors; arguments as for :func:`judge_means`.

    Raises:
        UserError: for a std that the errors of no forecast have.
    """
    _judge(where, "error std", values, spec, of_error_stds)


def judge_error_means(where: str | Path, values: np.ndarray, spec: StateSpec) -> None:
    """Check means of forecast errors; arguments as for :func:`judge_means`.

    Raises:
        UserError: for a mean beyond what a std can be: then the field is no error.
    """

    def limits(variable: str, pressure: float | None) -> Range:
        high = of_stds(variable, pressure).high
        return Range(-high, high)

    _judge(where, "error mean", values, spec, limits)


def _judge(where: str | Path, kind: str, values: np.ndarray, spec: StateSpec, limits: _Limits) -> None:
    wrong = [
        (channel, value, limits(channel.variable, channel.level))
        for channel, value in zip(spec.channels, values.tolist(), strict=True)
        if value not in limits(channel.variable, channel.level)
    ]
    if not wrong:
        return
    channel, value, allowed = wrong[0]
    others = f" and of {len(wrong) - 1} more channels" if len(wrong) > 1 else ""
    raise UserError(
        f"{where}: the {kind} of {channel.name} is {value:.4g}{others}, expected {allowed} {channel.units}; "
        "is it another file, of other channels, or in another order or other units? Expected are "
        f"{len(spec)} values in the order {_order(spec)}"
    )


def _order(spec: StateSpec) -> str:
    names = spec.names
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:5])}, ..., {names[-1]}"
