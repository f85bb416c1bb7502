"""AdamW and the learning-rate schedule that every fit uses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from vaevar.errors import UserError


def warmup_cosine(total: float, warmup: int, origin: int = 0, hold: float = 0) -> Callable[[int], float]:
    """A linear warm-up, then a cosine down to 0: the factor of the learning rate after each number of steps.

        min(1, (step + 1)/warmup) · ½ (1 + cos π p),   p = (step − origin)/(total − origin), within [0, 1]

    Args:
        total: optimiser steps of the fit; infinity: it never falls.
        warmup: steps of the warm-up.
        origin: the step at which the cosine begins.
        hold: the cosine has no effect before this step.
    """

    # A function, not an object: torch would store an object's attributes in checkpoints, and a resumed fit
    # would keep the old total.
    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / max(warmup, 1))
        if step < hold:
            return rise
        progress = min(1.0, max(0.0, (step - origin) / max(total - origin, 1)))
        return rise * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def total_steps(module: L.LightningModule, endless: bool = False) -> float:
    """Optimiser steps of the fit that the module is in; at least 1.

    Args:
        module: in a fit.
        endless: its learning rate does not fall until the end, which need not be known then (infinity).

    Raises:
        UserError: for a fit whose end is not known, though its learning rate falls until then.
    """
    steps = module.trainer.estimated_stepping_batches
    if math.isinf(steps) and not endless:
        raise UserError(
            "trainer: the learning rate falls until the end of the fit, and neither max_epochs nor max_steps "
            "says when that is; give one of them, which max_time may cut short"
        )
    return max(steps, 1)


def adamw(
    module: nn.Module,
    learning_rate: float,
    weight_decay: float,
    factor: Callable[[int], float],
    betas: tuple[float, float] = (0.9, 0.999),
    undecayed: Iterable[Tensor] = (),
) -> dict[str, Any]:
    """AdamW with its schedule, as ``configure_optimizers`` returns them.

    Args:
        module: the module whose parameters are optimised.
        learning_rate: multiplied by ``factor`` at each step.
        weight_decay: applied to weights that mix features; not to biases, norms and scales.
        factor: of the number of steps done.
        betas: of AdamW.
        undecayed: further parameters without weight decay.
    """
    exempt = {id(parameter) for parameter in undecayed}
    parameters = list(module.parameters())
    decayed = [p for p in parameters if p.ndim > 1 and id(p) not in exempt]
    others = [p for p in parameters if p.ndim <= 1 or id(p) in exempt]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class ClippedModule(L.LightningModule):
    """A module whose gradients can also be clipped in mixed bfloat16."""

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm, in mixed bfloat16 too.

        Lightning refuses to clip with a fused optimiser in any mixed precision, because float16 scales its
        gradients; bfloat16 does not.
        """
        if (
            self.trainer.precision == "bf16-mixed"
            and gradient_clip_val
            and gradient_clip_algorithm != "value"
        ):
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
