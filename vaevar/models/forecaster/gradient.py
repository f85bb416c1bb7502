"""Forecasters with a gradient: what all that step with a torch network share, and a guard on the gradient."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from vaevar.errors import ForecasterFault
from vaevar.forecast import Forecaster
from vaevar.state import StateSpec
from vaevar.state.normalizer import Normalizer

CHANNELS_NAMED = 5


class NetworkForecaster(Forecaster):
    """Steps with a torch network from two normalised states to the next, differentiable.

    A constructor sets ``spec``, ``grid``, ``step_hours``, ``normalizer`` and ``checkpointing``: whether to
    keep only the states of a trajectory for its gradient, and make each step again on the way back. That
    takes less memory, and a third more time.
    """

    history = 2
    differentiable = True
    normalizer: Normalizer
    checkpointing: bool

    without_effect: ClassVar = ("checkpointing",)

    @abstractmethod
    def following(self, normalised: Tensor) -> Tensor:
        """The next state [B, C, H, W] after two [B, 2C, H, W], all normalised; float32 in."""

    def step(self, states: Tensor) -> Tensor:
        """One step forward, differentiable.

        Args:
            states: [B, 2, C, H, W], physical units, t − ``step_hours`` and then t.

        Returns:
            [B, C, H, W], physical units, t + ``step_hours``.

        Raises:
            ValueError: when ``states`` has another shape.
            FloatingPointError: on the way back, when the gradient is not finite.
        """
        require_window(states, self)
        if not (torch.is_grad_enabled() and states.requires_grad):
            return self._step(states)
        states = watched(states, self.spec, None, self)
        if self.checkpointing:
            # Networks that forecast use no random numbers: the generators' states need not be kept.
            stepped: Tensor = recomputed(self._step, states, use_reentrant=False, preserve_rng_state=False)
            return stepped
        return self._step(states)

    def _step(self, states: Tensor) -> Tensor:
        normalizer = beside(self.normalizer, states)
        following = self.following(normalizer.normalize(states).float().flatten(1, 2))
        exact = torch.promote_types(states.dtype, torch.float32)
        return normalizer.denormalize(following.to(exact)).to(states.dtype)


def beside(module: nn.Module, states: Tensor) -> Any:
    """A module on the device of the states; it is moved if need be.

    Raises:
        ValueError: when it would have to be moved within a transformation of ``torch.func``.
    """
    here = next(itertools.chain(module.parameters(), module.buffers()), states).device
    if here == states.device:
        # Not even asked to stay: torch.func takes the weights of a module that is, and the program crashes.
        return module
    require_plain(states)
    return module.to(states.device)


def require_plain(states: Tensor) -> None:
    """Check that what can be done only once, or on a device, is not done within ``torch.func``.

    Raises:
        ValueError: within a transformation such as ``torch.func.jvp``.
    """
    if torch.func.debug_unwrap(states) is not states:
        raise ValueError(f"take one plain step on {states.device} before the first within torch.func")


def require_window(states: Tensor, forecaster: Forecaster) -> None:
    """Check the shape of the states that a step starts from.

    Args:
        states: [B, history, C, H, W].
        forecaster: whose step it is.

    Raises:
        ValueError: when they have another shape.
    """
    expected = (forecaster.history, len(forecaster.spec), *forecaster.grid.shape)
    if states.ndim != 5 or tuple(states.shape[1:]) != expected:
        raise ValueError(
            f"states are {tuple(states.shape)}, expected (B, {forecaster.history}, C, H, W) = (B, {expected})"
        )


def watched(states: Tensor, spec: StateSpec, step: int | None, forecaster: Forecaster) -> Tensor:
    """The same states, whose gradient is checked when it comes back to them.

    A roll-out that numbers its steps watches the states itself, and the forecaster then leaves them as they
    are.

    Args:
        states: [..., C, H, W], which a step starts from.
        spec, step, forecaster: as for :func:`require_finite_gradient`.

    Returns:
        states: unless they need no gradient or are watched already, a view of them.
    """
    seen = states.grad_fn is not None and states.grad_fn.name() == f"{_Watch.__name__}Backward"
    if not states.requires_grad or seen:
        return states
    check = partial(require_finite_gradient, spec=spec, step=step, forecaster=forecaster)
    same: Tensor = _Watch.apply(states, check)
    return same


def require_finite_gradient(
    gradient: Tensor, spec: StateSpec, step: int | None, forecaster: Forecaster
) -> None:
    """Check the gradient with respect to the states that a step of a roll-out starts from.

    Args:
        gradient: [..., C, H, W].
        spec: the C channels.
        step: number of the step, if it is known.
        forecaster: through which the gradient came.

    Raises:
        FloatingPointError: when it is not finite; names the step, the channels and the forecaster.
    """
    if channels := not_finite(gradient, spec):
        which = "a step" if step is None else f"step {step}"
        name = getattr(forecaster, "description", "")
        raise ForecasterFault(
            f"the gradient through {which} of {type(forecaster).__name__}{f' ({name})' if name else ''} is "
            f"not finite in {channels}; shorten the window, or take full precision"
        )


def not_finite(values: Tensor, spec: StateSpec) -> str:
    """The channels in which values [..., C, H, W] are not finite, as text; empty if there are none."""
    # The extremes pass NaN on and need no array; look at each element only if something is wrong.
    if all(math.isfinite(float(extreme)) for extreme in values.detach().aminmax()):
        return ""
    per_channel = torch.isfinite(values).transpose(0, -3).flatten(1).all(1).tolist()
    names = [name for name, finite in zip(spec.names, per_channel, strict=True) if not finite]
    more = len(names) - CHANNELS_NAMED
    return ", ".join(names[:CHANNELS_NAMED]) + (f" and {more} more channels" if more > 0 else "")


class _Watch(torch.autograd.Function):
    """Identity, whose gradient is checked."""

    @staticmethod
    def forward(states: Tensor, check: Callable[[Tensor], None]) -> Tensor:
        return states.view_as(states)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.check = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.check(gradient.detach())  # it may have a gradient itself
        return gradient, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return tangent.view_as(tangent)
