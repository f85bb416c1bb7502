"""What Lightning says that no user can act upon."""

from __future__ import annotations

import logging
import warnings


def silence_warnings() -> None:
    """Lightning's advertisements, and warnings about what its user cannot change."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_tip)
    for message in (
        ".*has `__len__` defined.*",
        "Couldn't infer the batch indices.*",
        ".*smaller than the logging interval.*",
        ".*LeafSpec.*",
        ".*does not have many workers.*",
        ".*not supported by the model summary.*",
        # Processes for which nothing is left to make (vaevar.data.samples.predict_loop).
        ".*across ranks is zero.*",
        # A run that goes on finds what it wrote; nothing of another run is overwritten.
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*Experiment logs directory .* exists and is not empty.*",
        # A calibration is a fit without an optimiser.
        ".*configure_optimizers` returned `None`.*",
    ):
        warnings.filterwarnings("ignore", message=message)


def _no_tip(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()
