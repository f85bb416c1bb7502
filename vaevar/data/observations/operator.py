"""The observation operator H: from a state on a grid to the observed quantities, [C, H, W] -> [P].

Observations bring their operator. What an observation measures is named in ``Points.variable``, and each
name belongs to the subclass of :class:`ObservationOperator` that lists it in ``observes``.
:func:`observation_operator` is the one place where H is built.

A new operator is one file in this folder. In a module of your own it is registered when a config names any
class of that module, such as a network of yours.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from vaevar.errors import UserError
from vaevar.sphere.grid import Grid
from vaevar.state import State, StateSpec, regrid


@dataclass(frozen=True)
class Quantity:
    """Something that can be observed.

    Attributes:
        units: of its values, written as in a WeatherBench 2 store.
        needs: the state variables that H reads, such as ``("u10", "v10")``.
        upper: it is observed at a pressure level; otherwise at the surface.
        least: what its values cannot be below.
    """

    units: str
    needs: tuple[str, ...]
    upper: bool = False
    least: float = -math.inf

    def __post_init__(self) -> None:
        needs: object = self.needs
        if isinstance(needs, str):
            raise TypeError(
                f"needs is {self.needs!r}, expected a tuple of state variables: ({self.needs!r},)"
            )


class Located(Protocol):
    """What an operator asks of :class:`vaevar.data.observations.points.Points`."""

    @property
    def variable(self) -> np.ndarray: ...
    @property
    def latitude(self) -> np.ndarray: ...
    @property
    def longitude(self) -> np.ndarray: ...
    @property
    def pressure(self) -> np.ndarray: ...
    def __len__(self) -> int: ...
    def select(self, which: np.ndarray) -> Self: ...


class ObservationOperator(nn.Module, ABC):
    """H for P observations.

    Args:
        spec, grid: of the states [C, H, W] that it reads.
        points: where and what is observed.

    Attributes:
        observes: the quantities that the class observes, by name.
        linear: whether H is linear in the state. The minimisation then reads increments on their own grid.

    Raises:
        UserError: for a variable that the state lacks, or a pressure outside its levels.
    """

    observes: ClassVar[Mapping[str, Quantity]] = {}
    linear: bool

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.observes and not hasattr(cls, "linear"):
            raise TypeError(f"{cls.__name__}: say whether it is linear: `linear = False` is always right")
        for name in cls.observes:
            registered = _OPERATORS.get(name, cls)
            if (registered.__module__, registered.__qualname__) != (cls.__module__, cls.__qualname__):
                raise TypeError(
                    f"{cls.__qualname__}: {name} is observed by {registered.__qualname__} already"
                )
            _OPERATORS[name] = cls

    def __init__(self, spec: StateSpec, grid: Grid, points: Located) -> None:
        super().__init__()
        require_representable(spec, points)
        self.spec, self.grid, self.points = spec, grid, points

    @abstractmethod
    def forward(self, state: Tensor) -> Tensor:
        """H(x), [..., C, H, W] -> [..., P], differentiable by autograd."""

    def tangent(self, state: Tensor, direction: Tensor) -> Tensor:
        """The tangent linear H'(x) δ, by forward-mode autograd: two of [..., C, H, W] -> [..., P]."""
        return torch.func.jvp(self.forward, (state,), (direction,))[1]

    def observed_increment(
        self, background: State, grid: Grid, dtype: torch.dtype
    ) -> Callable[[Tensor], Tensor]:
        """δ -> H(x_b + δ) − H(x_b), for the minimisation.

        Where H is linear this is H δ, with H built on the grid of the increments: the incremental path
        (Courtier et al., 1994). Otherwise it is :meth:`full_path`.

        Args:
            background: x_b, on the operator's own grid.
            grid: of the increments δ, [C, h, w].
            dtype: precision of the result.

        Returns:
            A function from increments to [P].
        """
        if not self.linear:
            return self.full_path(background, grid, dtype)
        operator = self if grid == self.grid else type(self)(self.spec, grid, self.points)
        operator = operator.to(background.values.device)
        return lambda increment: operator(increment).to(dtype)

    def full_path(self, background: State, grid: Grid, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """The same for any H: the increment is put on the background's grid and added to the background.

        Args and result are those of :meth:`observed_increment`.
        """
        state = background.values.to(dtype)
        at_background = self(state)

        def observe(increment: Tensor) -> Tensor:
            added = regrid(increment.to(dtype), background.spec, grid, background.grid)
            return (self(state + added) - at_background).to(dtype)

        return observe

    def check_shape(self, state: Tensor) -> None:
        """Refuse states of other channels or another grid.

        Raises:
            ValueError: when ``state`` does not end in the operator's [C, H, W].
        """
        expected = (len(self.spec), *self.grid.shape)
        if tuple(state.shape[-3:]) != expected:
            raise ValueError(f"the state ends in {tuple(state.shape[-3:])}, the operator expects {expected}")


class CombinedOperator(ObservationOperator):
    """Several operators side by side, each for some of the observations; linear if all of them are.

    Args:
        spec, grid: of the states that it reads.
        points: all P observations.
        parts: for each operator the numbers of its observations in ``points``, and the operator.
    """

    order: Tensor

    def __init__(
        self,
        spec: StateSpec,
        grid: Grid,
        points: Located,
        parts: Sequence[tuple[np.ndarray, ObservationOperator]],
    ) -> None:
        super().__init__(spec, grid, points)
        self.parts = nn.ModuleList(operator for _, operator in parts)
        self.linear = all(operator.linear for _, operator in parts)
        numbers = np.concatenate([rows for rows, _ in parts]) if parts else np.zeros(0, dtype=int)
        self.register_buffer("order", torch.from_numpy(np.argsort(numbers)), persistent=False)

    def forward(self, state: Tensor) -> Tensor:
        self.check_shape(state)
        return self._join([operator(state) for operator in self.parts], state)

    def observed_increment(
        self, background: State, grid: Grid, dtype: torch.dtype
    ) -> Callable[[Tensor], Tensor]:
        """Each part on its own path: only what is not linear takes the full one."""
        observers = [
            operator.observed_increment(background, grid, dtype)  # type: ignore[operator]
            for operator in self.parts
        ]
        return lambda increment: self._join([observe(increment) for observe in observers], increment)

    def _join(self, values: list[Tensor], like: Tensor) -> Tensor:
        if not values:
            return like.new_zeros(*like.shape[:-3], 0)
        return torch.cat(values, -1).index_select(-1, self.order)


_OPERATORS: dict[str, type[ObservationOperator]] = {}


def observation_operator(spec: StateSpec, grid: Grid, points: Located) -> ObservationOperator:
    """H for observations of any quantities.

    Args:
        spec, grid: of the states [C, H, W] that it reads.
        points: P observations, or only where they are.

    Raises:
        UserError: for a variable that the state lacks, or a pressure outside its levels.
    """
    names = np.unique(points.variable)
    kinds = dict.fromkeys(operator_class(str(name)) for name in names)
    if len(kinds) == 1:
        return next(iter(kinds))(spec, grid, points)
    rows = {kind: np.flatnonzero(np.isin(points.variable, list(kind.observes))) for kind in kinds}
    parts = [(numbers, kind(spec, grid, points.select(numbers))) for kind, numbers in rows.items()]
    return CombinedOperator(spec, grid, points, parts)


def operator_class(name: str) -> type[ObservationOperator]:
    """The operator that observes a quantity.

    Raises:
        ValueError: for a quantity that no operator observes.
    """
    if name not in _OPERATORS:
        import_operators()
    if name not in _OPERATORS:
        raise ValueError(f"unknown variable {name!r}; these can be observed: {', '.join(_OPERATORS)}")
    return _OPERATORS[name]


def quantity(name: str) -> Quantity:
    """What an observed quantity is.

    Raises:
        ValueError: for a quantity that no operator observes.
    """
    return operator_class(name).observes[name]


def import_operators() -> None:
    """Import every module of this folder, so that each operator in it is registered."""
    package = importlib.import_module(__package__ or "vaevar.data.observations")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def representable(spec: StateSpec, points: Located) -> np.ndarray:
    """[P] bool: the state has the variables that H reads and, aloft, levels that enclose the pressure."""
    result = np.zeros(len(points), dtype=bool)
    for name in np.unique(points.variable):
        observed = quantity(str(name))
        if not set(observed.needs) <= {*spec.surface, *spec.upper}:
            continue
        rows = points.variable == name
        pressure = points.pressure[rows]
        result[rows] = (
            (pressure >= spec.levels[0]) & (pressure <= spec.levels[-1]) if observed.upper else True
        )
    return result


def require_representable(spec: StateSpec, points: Located) -> None:
    """Refuse observations that cannot be compared with a state: nothing is extrapolated.

    Raises:
        UserError: when :func:`representable` says so of one.
    """
    outside = ~representable(spec, points)
    if not outside.any():
        return
    first = int(np.flatnonzero(outside)[0])
    name, pressure = points.variable[first], points.pressure[first]
    place = "" if np.isnan(pressure) else f" at {pressure:g} hPa"
    variables = sorted(set(spec.surface) | set(spec.upper))
    levels = f" from {spec.levels[0]} to {spec.levels[-1]} hPa" if spec.levels else ""
    raise UserError(
        f"{int(outside.sum())} of {len(points)} observations cannot be compared with the state, "
        f"such as {name}{place}: it holds {', '.join(variables)}{levels}; drop them first"
    )
