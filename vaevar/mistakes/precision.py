"""The precision of a trainer: states, samples and forecasters are in single precision."""

from __future__ import annotations

import lightning as L

from vaevar.errors import UserError


def require_single_precision(trainer: L.Trainer) -> None:
    """Check that states stay in single precision, in which stores and forecasters have them.

    Raises:
        UserError: for one of Lightning's other true precisions.
    """
    if not trainer.precision.endswith(("32-true", "-mixed")):
        raise UserError(
            f"trainer.precision is {trainer.precision}: states are in single precision; leave it at 32-true, "
            "or give bf16-mixed or 16-mixed for the networks; a minimisation has a dtype of its own"
        )
