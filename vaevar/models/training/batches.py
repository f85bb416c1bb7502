"""What a fit was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L


def training_batches(trainer: L.Trainer) -> Iterator[Any]:
    """The training samples once: in order and not augmented if the data module can, else as it trains."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    if hasattr(data, "training_in_order"):
        yield from data.training_in_order()
        return
    loader: Any = trainer.train_dataloader
    for batch in loader:
        yield trainer.strategy.batch_to_device(batch)
