"""The LightningModule of the single-observation experiment: every arm's increment of one departure."""

from __future__ import annotations

from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor, nn

from vaevar.assim.assimilator import Assimilator
from vaevar.assim.context import STANDALONE
from vaevar.assim.cycle.module import check_arms, require_gradients
from vaevar.assim.variational import VariationalAssimilator
from vaevar.data.observations.points import Points
from vaevar.errors import UserError
from vaevar.experiments.single_observation.data import SingleObservation
from vaevar.state import State


@dataclass(frozen=True)
class Response:
    """What one arm made of one observation.

    Attributes:
        increment: x_a − x_b, [C, H, W], physical units.
        at_point: H(x_a) − H(x_b), in the units of the observed variable.
        background_variance: HBHᵀ that the arm implies at the point (:func:`background_variance`);
            ``None`` for an arm without a control transform.
    """

    increment: Tensor
    at_point: float
    background_variance: float | None


class SingleObservationModule(L.LightningModule):
    """Experiment arms side by side, each given the same background and the same observation.

    Args:
        arms: assimilators by name, as in ``configs/cycle_sparse.yaml``.

    Raises:
        UserError: for no arms, or a name that cannot be part of a file's.
    """

    def __init__(self, arms: dict[str, Assimilator]) -> None:
        super().__init__()
        check_arms(arms)
        self.arms: dict[str, Assimilator] = arms
        self._modules_of_arms = nn.ModuleList(arms.values())

    def setup(self, stage: str) -> None:
        require_gradients(self.trainer)

    def predict_step(self, batch: SingleObservation, batch_idx: int) -> dict[str, Response]:
        """The response of every arm."""
        background, observations = batch.background, batch.observations
        operator = observations.operator(background.spec, background.grid).to(self.device)
        at_background = operator(background.values)
        responses = {}
        for name, arm in self.arms.items():
            analysed = arm(background, observations).state.values
            variance = (
                background_variance(arm, background, observations)
                if isinstance(arm, VariationalAssimilator)
                else None
            )
            at_point = float(operator(analysed) - at_background)
            responses[name] = Response(analysed - background.values, at_point, variance)
        return responses


def background_variance(arm: VariationalAssimilator, background: State, point: Points) -> float:
    """HBHᵀ at one point, of the prior that the arm's cost function means.

    With g the gradient of H(x_b + D(w)) at w = 0 it is g·g/λ. For a linear D = U that is H U Uᵀ Hᵀ/λ; for
    a decoder it is the variance of small increments. The scalar optimal analysis of a departure d
    is then d · HBHᵀ/(HBHᵀ + R), which a linear arm must reach.

    Args:
        arm: holds D and λ.
        background: x_b.
        point: one point that D's state represents.

    Returns:
        The variance, in the square of the observed variable's units.

    Raises:
        UserError: for an arm that estimates λ from the innovations: one is not enough.
    """
    if arm.lambda_ is None:
        raise UserError("one observation cannot tell λ: give the arm a number for `lambda_`")
    device = background.values.device
    control = arm.control.for_analysis(background, STANDALONE)
    operator = point.operator(background.spec, background.grid).to(device)
    observed_increment = operator.observed_increment(background, control.grid, arm.dtype)
    with torch.inference_mode(False), torch.enable_grad():
        w = torch.zeros(control.shape, device=device, dtype=arm.dtype, requires_grad=True)
        (gradient,) = torch.autograd.grad(observed_increment(control(w)).sum(), w)
    return float(gradient.double().square().sum()) / arm.lambda_
