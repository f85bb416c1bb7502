"""``last.ckpt`` is the state after the last epoch, not after the last one that was the best so far."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint


class LastCheckpoint(Checkpoint):
    """Writes ``last.ckpt`` after every epoch, for each ``ModelCheckpoint`` with ``save_last``.

    Lightning does so only when it has saved another checkpoint: a fit that was killed long after its best
    epoch would lose all that came since. As a ``Checkpoint`` that is appended to the trainer's callbacks,
    it is called after those.
    """

    # Lightning asks the first checkpoint callback, which this is when there is no other.
    best_model_path = ""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for callback in trainer.checkpoint_callbacks:
            if not isinstance(callback, ModelCheckpoint) or not callback.save_last:
                continue
            # True where this very step has been saved, too.
            if not callback._should_skip_saving_checkpoint(trainer):
                callback._save_last_checkpoint(trainer, callback._monitor_candidates(trainer))
