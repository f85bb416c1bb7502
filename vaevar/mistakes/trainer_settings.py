"""Settings of the trainer that Lightning takes and cannot use, passes over, or divides by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L

from vaevar.errors import UserError
from vaevar.mistakes.bounds import require_at_least, require_positive
from vaevar.mistakes.words import setting

# The smallest that means something. A negative number of sanity steps is all of them.
_SMALLEST = {
    "accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "gradient_clip_val": 0,
    "log_every_n_steps": 0, "num_sanity_val_steps": -1,
}  # fmt: skip


def require_usable(settings: Mapping[str, Any]) -> None:
    """Check numbers among a trainer's settings; what Lightning refuses itself is left to it.

    Args:
        settings: arguments of the trainer, by name.

    Raises:
        UserError: for one that is out of range, or for a fit that is to be longer than its longest.
    """
    numbers = {name: value for name, value in settings.items() if isinstance(value, int | float)}
    for name, smallest in _SMALLEST.items():
        if name in numbers:
            require_at_least("trainer", smallest, **{name: numbers[name]})
    if "val_check_interval" in numbers:
        require_positive("trainer", val_check_interval=numbers["val_check_interval"])
    for what in ("epochs", "steps"):
        least, most = numbers.get(f"min_{what}", 0), numbers.get(f"max_{what}", -1)
        if -1 < most < least:
            raise UserError(
                f"trainer: min_{what} is {least}, more than max_{what}, {most}; raise that, or leave "
                f"min_{what} out"
            )


def require_single_precision(trainer: L.Trainer) -> None:
    """Check that states stay in single precision, in which stores and forecasters have them.

    Raises:
        UserError: for one of Lightning's other true precisions.
    """
    if not trainer.precision.endswith(("32-true", "-mixed")):
        raise UserError(
            f"{setting('trainer.precision')} is {trainer.precision}: states are in single precision; "
            "leave it at 32-true, or give bf16-mixed or 16-mixed for the networks; a minimisation has a "
            "dtype of its own"
        )
