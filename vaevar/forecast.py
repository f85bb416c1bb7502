"""What every forecaster is, and the roll-out that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from vaevar.errors import UserError
from vaevar.plausible.belonging import tell_faults
from vaevar.sphere.grid import Grid
from vaevar.state import Fields, State, StateSpec, difference, not_finite


class States(Protocol):
    """Where states can be read, such as :class:`vaevar.data.weather.store.WeatherStore`."""

    spec: StateSpec
    grid: Grid

    def read(self, times: np.ndarray) -> np.ndarray:
        """States at these times, [T, C, H, W]."""


@dataclass(frozen=True, repr=False)
class Trajectory:
    """States that follow each other.

    Attributes:
        values: [T, C, H, W], physical units.
        spec, grid: of the states.
        times: [T], where they are known.

    Example:
        >>> first[-1]["z500"].shape, first.to_xarray().sizes["time"] == len(first)
        ((16, 32), True)
    """

    values: Tensor
    spec: StateSpec
    grid: Grid
    times: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, number: int) -> State:
        """A copy of one state, such as the last, ``trajectory[-1]``."""
        return State(self.values[number].clone(), self.spec, self.grid)

    def __repr__(self) -> str:
        span = "" if self.times is None else f", {self.times[0]} to {self.times[-1]}"
        return f"Trajectory({len(self)} states of {len(self.spec)} channels on {self.grid}{span})"

    def to_xarray(self) -> xr.Dataset:
        """A copy of the states as WeatherBench 2 names them, along ``time``; without times along ``step``."""
        dataset = Fields(self.values, self.spec, self.grid).to_xarray()
        if self.times is None:
            return dataset.rename(sample="step").assign_coords(step=np.arange(len(self)))
        return dataset.rename(sample="time").assign_coords(time=self.times.astype("datetime64[ns]"))


class Forecaster(ABC):
    """A model that steps from the last states to the next.

    Physical units in and out: a forecaster normalises for itself.

    Attributes:
        history: number of past states that a step needs: 1, or 2 for FengWu (t − 6 h and t).
        step_hours: hours between those states, and from the last one to the forecast.
        spec: the C channels.
        grid: the H × W points.
        differentiable: whether the gradient flows through :meth:`step`, as 4DVar needs.
    """

    history: int
    step_hours: int
    spec: StateSpec
    grid: Grid
    differentiable: bool = False

    @abstractmethod
    def step(self, states: Tensor) -> Tensor:
        """One step forward.

        Args:
            states: [B, history, C, H, W], physical units, oldest first, ``step_hours`` apart.

        Returns:
            [B, C, H, W], physical units, ``step_hours`` after the last of ``states``.
        """

    @torch.no_grad()
    def forecast(
        self,
        start: State | Sequence[State] | Trajectory | States,
        hours: int,
        time: np.datetime64 | str | None = None,
    ) -> Trajectory:
        """A forecast.

        Args:
            start: the last ``history`` states, oldest first; a trajectory that ends with them; or a store to
                read them from. States carry no time: those of a list are taken as ``step_hours`` apart.
            hours: how far, a multiple of ``step_hours``.
            time: of the last of the states; a store needs it.

        Returns:
            the states that the forecast starts from, and each that it comes to; the last is the forecast.

        Raises:
            UserError: when states are too few, too many or not the forecaster's, their times are others,
                ``hours`` is no multiple, or a step returns no states.

        Example:
            >>> background = forecaster.forecast(store, 24, time="2021-01-03T06")[-1]
        """
        check_forecaster(self)
        if hours < self.step_hours or hours % self.step_hours:
            raise UserError(f"hours is {hours}, must be a multiple of the step, {self.step_hours} h")
        at = None if time is None else np.datetime64(str(time))
        if isinstance(start, Trajectory) and start.times is not None:
            if at not in (None, start.times[-1]):
                raise UserError(f"the start states end at {start.times[-1]}, and time is {at}")
            at = start.times[-1]
        states = self._start(start, at)
        tell_faults("the state that a forecast starts from", states[-1], self.spec, self.grid)
        parts = [states]
        for forecast in rollout(self, states[None], hours // self.step_hours):
            if found := not_finite(forecast, self.spec, self.grid):
                raise UserError(f"{named(self)}: in its {len(parts) * self.step_hours} h forecast {found}")
            parts.append(forecast.clone())  # a step may write every forecast into one buffer
        values = torch.cat(parts)
        times = None
        if at is not None:
            first = 1 - self.history
            times = at + self.step_hours * np.timedelta64(1, "h") * np.arange(first, first + len(values))
        return Trajectory(values, self.spec, self.grid, times)

    def _start(
        self, start: State | Sequence[State] | Trajectory | States, time: np.datetime64 | None
    ) -> Tensor:
        """[history, C, H, W]"""
        if not isinstance(start, State | Sequence | Trajectory):
            if not hasattr(start, "read"):
                raise UserError(f"a forecast starts from States or a store, not from {_described(start)}")
            if time is None:
                raise UserError("a store has many states: give the time of the last that the forecast knows")
            before = self.step_hours * np.timedelta64(1, "h") * np.arange(self.history)[::-1]
            if found := difference(start.spec, start.grid, self.spec, self.grid):
                raise UserError(f"the store's states are others than the forecaster's, {found}")
            return torch.from_numpy(start.read(time - before))
        return self.stacked(start)

    def stacked(self, start: State | Sequence[State] | Trajectory) -> Tensor:
        """The states that a forecast starts from, [history, C, H, W].

        Args:
            start: as many as that, oldest first; or a trajectory that ends with them.

        Raises:
            UserError: when they are too few or too many, one is not a single state of this forecaster's
                channels and grid, or their times are not ``step_hours`` apart.
        """
        if not isinstance(start, State | Sequence | Trajectory):
            raise UserError(f"a forecast starts from States, oldest first, not from {_described(start)}")
        given, history = [start] if isinstance(start, State) else start, self.history
        whole = isinstance(start, Trajectory)
        if len(given) < history or (len(given) > history and not whole):
            raise UserError(
                f"{len(given)} start states, and {named(self)} starts from {history}, {self.step_hours} h "
                "apart, oldest first"
            )
        if isinstance(start, Trajectory) and start.times is not None:
            times, step = start.times[-history:], np.timedelta64(self.step_hours, "h")
            if (np.diff(times) != step).any():
                raise UserError(
                    f"the start states are of {', '.join(map(str, times))}, and {named(self)} starts from "
                    f"states {self.step_hours} h apart"
                )
        states = [given[number] for number in range(-history, 0)]
        for state in states:
            if not isinstance(state, State) or state.values.ndim != 3:
                raise UserError("a forecast starts from States [C, H, W], oldest first")
            if found := difference(state.spec, state.grid, self.spec, self.grid):
                raise UserError(f"the start states are others than the forecaster's, {found}")
        return torch.stack([state.values for state in states])

    @staticmethod
    def from_function(
        function: Callable[[Tensor], Tensor],
        spec: StateSpec,
        grid: Grid,
        history: int = 1,
        step_hours: int = 6,
        differentiable: bool = False,
    ) -> Forecaster:
        """A plain function as a forecaster.

        Args:
            function: from the last states [B, history, C, H, W] to the next, [B, C, H, W], physical units.
            spec, grid: of the states.
            history: number of past states that it needs.
            step_hours: of its step.
            differentiable: whether the gradient flows through it, as 4DVar needs.

        Example:
            >>> grid, spec = Grid.gaussian(32), StateSpec()
            >>> Forecaster.from_function(lambda states: states[:, -1], spec, grid).step_hours
            6
        """
        return _Function(function, spec, grid, history, step_hours, differentiable)


class _Function(Forecaster):
    """Steps with a function; arguments as for :meth:`Forecaster.from_function`."""

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        spec: StateSpec,
        grid: Grid,
        history: int,
        step_hours: int,
        differentiable: bool,
    ) -> None:
        _check_counts(history, step_hours)
        self.function, self.spec, self.grid = function, spec, grid
        self.history, self.step_hours, self.differentiable = history, step_hours, differentiable
        self.description = getattr(function, "__qualname__", type(function).__name__)

    def step(self, states: Tensor) -> Tensor:
        return self.function(states)


def check_forecaster(forecaster: Forecaster) -> None:
    """Check that a forecaster has all its attributes.

    Raises:
        UserError: when one is missing, or history and step are no whole numbers.
    """
    missing = [name for name in Forecaster.__annotations__ if not hasattr(forecaster, name)]
    if missing:
        raise UserError(f"{type(forecaster).__name__}: its constructor must set {', '.join(missing)}")
    _check_counts(forecaster.history, forecaster.step_hours)


def _check_counts(history: int, step_hours: int) -> None:
    for name, number in (("history", history), ("step_hours", step_hours)):
        if number < 1 or int(number) != number:
            raise UserError(f"{name} is {number}, must be a whole number of at least 1")


def named(forecaster: Forecaster) -> str:
    """What a forecaster is, for messages, without the checksum that its record has."""
    return str(getattr(forecaster, "description", type(forecaster).__name__)).partition(" sha256:")[0]


def rollout(forecaster: Forecaster, states: Tensor, steps: int) -> Iterator[Tensor]:
    """Forecast by feeding a forecaster its own output, with one forecast at a time in memory.

    Args:
        forecaster: makes the steps.
        states: [B, history, C, H, W], physical units, oldest first.
        steps: number of steps.

    Yields:
        [B, C, H, W], physical units, after 1, 2, ... ``steps`` times ``step_hours``.

    Raises:
        ValueError: when the number of past states is not ``forecaster.history``.
        UserError: when a step returns anything else than states, or changes those that it is given.
    """
    if states.ndim != 5 or states.shape[1] != forecaster.history:
        raise ValueError(
            f"states are {tuple(states.shape)}, expected [B, {forecaster.history}, C, H, W]: "
            "the past states that one step needs"
        )
    for number in range(1, steps + 1):
        forecast = _step(forecaster, states)
        yield forecast
        if number < steps:
            states = torch.cat([states[:, 1:], forecast[:, None]], dim=1)
            # Free it before the next step: 287 MB at 721 × 1440.
            del forecast


def _step(forecaster: Forecaster, states: Tensor) -> Tensor:
    """One step, of which it is checked what it returns, and that its input is left alone."""
    before = None if states.is_inference() else states._version
    # A gradient is kept only where it is asked for: networks have parameters that would remember every step.
    kept = states.requires_grad and torch.is_grad_enabled() and forecaster.differentiable
    with torch.set_grad_enabled(kept):
        forecast: object = forecaster.step(states)
    expected = tuple(states[:, 0].shape)
    if (
        not isinstance(forecast, Tensor)
        or tuple(forecast.shape) != expected
        or not forecast.is_floating_point()
    ):
        raise UserError(
            f"{named(forecaster)}: step returned {_described(forecast)}, expected a tensor [B, C, H, W] = "
            f"{expected} of floating-point numbers"
        )
    if before is not None and states._version != before:
        raise UserError(
            f"{named(forecaster)}: step changes the states that it is given; let it work on states.clone()"
        )
    return forecast


def _described(found: object) -> str:
    """What came instead of states."""
    kind = type(found).__name__
    if isinstance(found, Tensor | np.ndarray):
        return f"a {kind} {tuple(found.shape)} of {str(found.dtype).removeprefix('torch.')}"
    if isinstance(found, list | tuple):
        return f"a {kind} of {len(found)}"
    return "None" if found is None else f"a {kind}"
