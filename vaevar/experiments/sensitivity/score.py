"""The forecast error J_e that the experiment explains, and its gradient by the initial states."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaevar.errors import UserError
from vaevar.forecast import Forecaster, named, rollout
from vaevar.models.forecaster.gradient import require_finite_gradient
from vaevar.state import State


@dataclass(frozen=True)
class ForecastError:
    """J_e = Σ_p a_p · mean over channels of ((x_f − x_t)/σ)², over the points p of a region.

    Attributes:
        truth: x_t, at the end of the forecast.
        weights: [H, W], a, which adds up to 1.
        channels: numbers of the channels that are judged.
        std: [C], σ, climatological.
        lead_hours: of the forecast x_f.
    """

    truth: State
    weights: np.ndarray
    channels: list[int]
    std: np.ndarray
    lead_hours: int

    def __call__(self, forecaster: Forecaster, states: Tensor) -> Tensor:
        """J_e of the forecast from ``states`` [history, C, H, W], a scalar in double precision."""
        *_, forecast = rollout(forecaster, states[None], self.lead_hours // forecaster.step_hours)
        error = (forecast[0] - self.truth.values)[self.channels].double()
        std = torch.from_numpy(self.std[self.channels]).to(error.device)[:, None, None]
        weights = torch.from_numpy(self.weights).to(error.device)
        return ((error / std).square().mean(0) * weights).sum()

    def value(self, forecaster: Forecaster, states: Tensor) -> float:
        """J_e, without its gradient.

        Raises:
            UserError: when it is not finite.
        """
        with torch.no_grad():
            value = float(self(forecaster, states))
        if not math.isfinite(value):
            raise UserError(f"{named(forecaster)}: its {self.lead_hours} h forecast is not finite")
        return value

    def gradient(self, forecaster: Forecaster, states: Tensor) -> tuple[float, Tensor]:
        """J_e and ∂J_e/∂x, [history, C, H, W].

        Raises:
            UserError: when J_e is not finite.
            ForecasterFault: when the gradient is not.
        """
        with torch.enable_grad():
            leaf = states.detach().clone().requires_grad_(True)
            value = self(forecaster, leaf)
            if not math.isfinite(value.item()):
                raise UserError(f"{named(forecaster)}: its {self.lead_hours} h forecast is not finite")
            (gradient,) = torch.autograd.grad(value, leaf)
        require_finite_gradient(gradient, forecaster.spec, 1, forecaster)
        return value.item(), gradient
