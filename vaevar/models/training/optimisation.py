"""AdamW as every fit here uses it, with a learning rate that changes from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn


def adamw(
    module: nn.Module,
    learning_rate: float,
    weight_decay: float,
    factor: Callable[[int], float],
    betas: tuple[float, float] = (0.9, 0.999),
    undecayed: Iterable[Tensor] = (),
) -> dict[str, Any]:
    """What ``configure_optimizers`` returns.

    Args:
        module: whose parameters are optimised.
        learning_rate: multiplied by ``factor`` at each step.
        weight_decay: pulls on weights that mix features, not on biases, norms and scales.
        factor: from the number of steps done.
        betas: of AdamW.
        undecayed: parameters left out of the decay although they have the shape for it.
    """
    spared = {id(parameter) for parameter in undecayed}
    parameters = list(module.parameters())
    mixing = [p for p in parameters if p.ndim > 1 and id(p) not in spared]
    rest = [p for p in parameters if p.ndim <= 1 or id(p) in spared]
    groups = [{"params": mixing, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class ClippedModule(L.LightningModule):
    """A module whose gradients can be clipped in mixed bfloat16 too."""

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm also in mixed bfloat16.

        Lightning refuses fused optimisers under any mixed precision, since float16's gradients are scaled;
        bfloat16's are not.
        """
        if (
            self.trainer.precision == "bf16-mixed"
            and gradient_clip_val
            and gradient_clip_algorithm != "value"
        ):
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
