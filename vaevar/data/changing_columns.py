"""A network that changes now and then, so that one long cycle sees many networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaevar.data.observations import ColumnNetwork, Network, Points
from vaevar.errors import UserError
from vaevar.state import StateSpec

_EPOCH = np.datetime64("1959-01-01T00", "h")


class ChangingColumns(Network):
    """Whole columns, as :class:`vaevar.data.observations.ColumnNetwork`, of which a new network takes over
    every so often: their sizes go round in turn, and every second one of a size moves.

    What a cycle's backgrounds get wrong depends on its network. The errors of a cycle over such networks
    are samples for methods that are to serve any of them.

    Args:
        counts: numbers of columns, in turn.
        hours: for which a network stays.
        seed: of the positions.

    Raises:
        UserError: when there are no counts, or a setting is not positive.
    """

    def __init__(self, counts: Sequence[int], hours: int, seed: int = 0) -> None:
        if not counts or hours < 1 or seed < 0:
            raise UserError(
                f"ChangingColumns: give counts (got {list(counts)}), positive hours (got {hours}) and a seed "
                f"that is not negative (got {seed})"
            )
        for count in counts:
            ColumnNetwork(count)  # refuses what is no number of columns
        self.counts, self.hours, self.seed = list(counts), hours, seed

    def at(self, time: np.datetime64) -> ColumnNetwork:
        """The network in charge at a time."""
        turn = int((time - _EPOCH) / np.timedelta64(self.hours, "h"))
        size, pass_ = turn % len(self.counts), turn // len(self.counts)
        # Seeds far from those that people give by hand: no experiment's network is among these.
        return ColumnNetwork(
            self.counts[size], seed=10_000 * (self.seed + 1) + turn % 10_000, moving=bool(pass_ % 2)
        )

    def points(self, spec: StateSpec, time: np.datetime64) -> Points:
        """``count · C`` points of the network in charge."""
        return self.at(time).points(spec, time)
