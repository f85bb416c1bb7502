"""What a model shows after its fit: numbers that a report draws, whatever the model is.

A module that has a method ``held_out`` (:class:`Shows`) has pictures in the report of its fit. Values are in
physical units, on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vaevar.sphere.grid import Grid
from vaevar.state import StateSpec


@dataclass(frozen=True)
class Maps:
    """Fields side by side, one group after another.

    Attributes:
        channels: names of the C channels.
        grid: of the fields.
        frames: names of the F groups, such as a time each.
        panels: fields by name, [F, C, H, W].
        about_zero: the panels that are errors or samples of them, with colours about zero, all the same; the
            others share their colours too.
    """

    channels: Sequence[str]
    grid: Grid
    frames: Sequence[str]
    panels: Mapping[str, np.ndarray]
    about_zero: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Curves:
    """Lines by channel over something, such as a lead time.

    Attributes:
        axis: what the lines are over.
        places: [X], where they have values.
        lines: [X, C] in physical units, by name.
        means: [X], of numbers that have no channel, by name.
        logarithmic: whether both axes are so.
        power: of the units of the values: 2 for variances.
        values: what the values are, for the axis of ``means``.
    """

    axis: str
    places: np.ndarray
    lines: Mapping[str, np.ndarray] = field(default_factory=dict)
    means: Mapping[str, np.ndarray] = field(default_factory=dict)
    logarithmic: bool = False
    power: int = 1
    values: str = ""


@dataclass(frozen=True)
class Levels:
    """A number for each channel, drawn by level.

    Attributes:
        values: [C] by name, in physical units.
    """

    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class View:
    """A part of what a model shows.

    Attributes:
        anchor: its name, such as ``samples``.
        title: above it.
        text: how to read it.
        content: what is drawn.
    """

    anchor: str
    title: str
    text: str
    content: Maps | Curves | Levels


@dataclass(frozen=True)
class HeldOut:
    """What a model shows of itself.

    Attributes:
        spec: its C channels.
        views: in order.
        facts: name and value of what belongs into a table.
    """

    spec: StateSpec
    views: Sequence[View]
    facts: Sequence[tuple[str, str]] = ()


@runtime_checkable
class Shows(Protocol):
    """A module that shows what it makes of held-out samples."""

    def held_out(self, data: Any) -> HeldOut:
        """Numbers about some held-out samples; it takes seconds.

        Args:
            data: the data module of the fit, set up.
        """
        ...
