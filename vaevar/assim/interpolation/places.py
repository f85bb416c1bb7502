"""Innovations in groups of channels that are observed at the same places.

A network of columns is one group of 69 channels, so that triangles, distances and factorised
correlations, which depend on positions alone, are computed once and not 69 times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vaevar.assim.innovation import innovation, tell_of_none
from vaevar.data.observations.points import Observations
from vaevar.errors import UserError
from vaevar.state import Channel, State, StateSpec


@dataclass(frozen=True)
class Places:
    """K channels observed at the same N places.

    Attributes:
        latitude, longitude: [N] degrees, all places distinct.
        channel: [K] numbers of the channels in the state.
        innovation: [K, N] d = y − H(x_b), in the channels' units.
        error_std: [K, N] of the observations.
        value: [K, N] y, in the channels' units.
    """

    latitude: np.ndarray
    longitude: np.ndarray
    channel: np.ndarray
    innovation: np.ndarray
    error_std: np.ndarray
    value: np.ndarray


def channel_numbers(spec: StateSpec, observations: Observations) -> np.ndarray:
    """[P] the number of the channel that each observation measures.

    Raises:
        UserError: for a variable that the state lacks, or a pressure that is not one of its levels.
    """
    position = {channel: number for number, channel in enumerate(spec.channels)}
    channels = np.full(len(observations), -1)
    kinds, kind_numbers = np.unique(
        np.stack([observations.variable, observations.pressure.astype(str)]), axis=1, return_inverse=True
    )
    for number, (name, pressure) in enumerate(kinds.T):
        hpa = float(pressure)
        if np.isnan(hpa) or hpa == int(hpa):
            channel = Channel(str(name), None if np.isnan(hpa) else int(hpa))
            channels[kind_numbers.reshape(-1) == number] = position.get(channel, -1)
    foreign = channels < 0
    if foreign.any():
        first = int(np.flatnonzero(foreign)[0])
        pressure = observations.pressure[first]
        place = "" if np.isnan(pressure) else f" at {pressure:g} hPa"
        raise UserError(
            f"{int(foreign.sum())} of {len(channels)} observations measure no channel of the state, such as "
            f"{observations.variable[first]}{place}: interpolation takes only its variables "
            f"({', '.join((*spec.surface, *spec.upper))}) on its levels ({', '.join(map(str, spec.levels))} "
            "hPa); drop the others or use a variational method"
        )
    return channels


def group_by_places(background: State, observations: Observations) -> list[Places]:
    """Innovations of all observations, channels with equal positions together.

    Several observations of one channel at one place are merged, weighted by their precision. Optimal
    interpolation gives the same result either way, and a triangulation needs distinct places.

    Args:
        background: x_b, [C, H, W].
        observations: y, P of them.

    Raises:
        UserError: as :func:`channel_numbers`.
    """
    if not len(observations):
        tell_of_none()
        return []
    channels = channel_numbers(background.spec, observations)
    operator = observations.operator(background.spec, background.grid)
    on_host = background
    if background.values.device.type != "cpu":
        on_host = replace(background, values=background.values.cpu())
    departure = innovation(operator(on_host.values), on_host, observations).numpy()
    precision = 1 / observations.error_std**2
    gathered: dict[bytes, tuple[np.ndarray, list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]]] = {}
    for number in np.unique(channels):
        rows = channels == number
        place = np.stack([observations.latitude[rows], observations.longitude[rows]], axis=1)
        # At a pole all longitudes are one place.
        place[np.abs(place[:, 0]) == 90.0, 1] = 0.0
        place, which = np.unique(place, axis=0, return_inverse=True)
        total = np.bincount(which.reshape(-1), precision[rows], len(place))
        mean, value = (
            np.bincount(which.reshape(-1), precision[rows] * each[rows], len(place)) / total
            for each in (departure, observations.value)
        )
        key = place.tobytes()
        gathered.setdefault(key, (place, []))[1].append((int(number), mean, total**-0.5, value))
    groups = []
    for place, members in gathered.values():
        numbers, *fields = zip(*members, strict=True)
        innovations, stds, values = map(np.stack, fields)
        groups.append(Places(place[:, 0], place[:, 1], np.array(numbers), innovations, stds, values))
    return groups
