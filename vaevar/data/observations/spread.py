"""Observations spread over the hours around the analysis time, as satellites and aircraft make them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vaevar.data.observations.networks import Network, random_stream
from vaevar.data.observations.points import Points
from vaevar.errors import UserError
from vaevar.state import StateSpec

_TIMES = 4  # the stream of random numbers, beside those of positions and noise


class SpreadInTime(Network):
    """Another network, whose places are observed at times of their own around the analysis time.

    All that is observed at one place is observed at once. ``time_offset`` says when; methods that analyse a
    single time take everything as made at the analysis time, unless they have the first guess at the
    appropriate time (:class:`vaevar.assim.window.fgat.FGAT`).

    Args:
        network: where observations are made.
        hours: the times are uniform within half of it before and after the analysis time.
        seed: of the times.

    Raises:
        UserError: when ``hours`` is not positive, or the seed is negative.

    Example:
        >>> network = vaevar.SpreadInTime(vaevar.ColumnNetwork(count=20), hours=6)
        >>> bool(abs(network.points(StateSpec(), time).time_offset).max() <= 3)
        True
    """

    def __init__(self, network: Network, hours: float = 6.0, seed: int = 0) -> None:
        if not hours > 0 or seed < 0:
            raise UserError(
                f"SpreadInTime: hours {hours} must be positive, and seed {seed} must not be negative"
            )
        self.network, self.hours, self.seed = network, hours, seed
        self.reach_hours = hours / 2

    def points(self, spec: StateSpec, time: np.datetime64) -> Points:
        """The points of the network, each place at a time of its own."""
        points = self.network.points(spec, time)
        located = np.stack([points.latitude, points.longitude])
        places, number = np.unique(located, axis=1, return_inverse=True)
        random = random_stream(_TIMES, self.seed, time)
        offsets = random.uniform(-self.reach_hours, self.reach_hours, len(places.T))
        return replace(points, time_offset=offsets[number.reshape(-1)])
