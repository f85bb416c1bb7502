"""What is checked as a fit begins and when it has ended: that it trains and keeps what its settings say."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from vaevar.errors import UserError
from vaevar.mistakes.notices import notice
from vaevar.mistakes.words import setting


class FitChecks(L.Callback):
    """Says what settings of a fit come to, where that may not be meant, and refuses monitors of nothing."""

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the monitors against what the validation logs.

        Lightning finds a name that is not logged after the first epoch, which may take a day.

        Raises:
            UserError: for a monitor that is named as those of the validation, and is none of them.
        """
        results = trainer.fit_loop.epoch_loop.val_loop._results
        logged = {item.meta.name for item in results.values()}
        groups = {name.partition("/")[0] for name in logged if "/" in name}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            monitor = getattr(callback, "monitor", None)
            if (
                isinstance(monitor, str)
                and monitor.partition("/")[0] in groups - {monitor}
                and monitor not in logged
            ):
                raise UserError(
                    f"trainer.callbacks: monitor of {type(callback).__name__} is {monitor}, which is not "
                    f"logged; these are: {', '.join(sorted(logged))}"
                )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tell of a warm-up that is longer than the fit, and of a batch of all samples."""
        warmup, steps = pl_module.hparams.get("warmup_steps", 0), trainer.estimated_stepping_batches
        if warmup > steps:
            notice(
                f"{setting('model.init_args.warmup_steps')} is {warmup}, but the fit is over after "
                f"{steps:.0f}, before the learning rate has risen to its full value; give fewer, or a longer "
                "fit"
            )
        loader = trainer.train_dataloader
        size, sampler = getattr(loader, "batch_size", None), getattr(loader, "sampler", None)
        if size is not None and sampler is not None and 0 < len(sampler) < size:
            notice(
                f"{setting('data.init_args.batch_size')} is {size}, but there are {len(sampler)} "
                "training samples for each process, which make one smaller batch; give no more than that"
            )


def require_trained(trainer: L.Trainer) -> None:
    """Check that a fit has seen a batch; Lightning says so in passing, if at all, and ends without an error.

    Args:
        trainer: whose fit has ended.

    Raises:
        UserError: when it has seen none, nor had the run that it went on with.
    """
    if trainer.fit_loop.epoch_loop.batch_progress.total.ready:
        return
    names = ("max_epochs", "max_steps", "limit_train_batches")
    none = [f"{setting(f'trainer.{name}')} is 0" for name in names if getattr(trainer, name) == 0]
    cause = none[0] if none else "there are fewer training samples than one batch over all processes takes"
    raise UserError(f"this fit has trained nothing: {cause}; give more, or a smaller batch_size")


def require_kept(trainer: L.Trainer) -> None:
    """Check that a fit has kept what it was to keep; Lightning passes over a monitor that never came.

    Args:
        trainer: whose fit has ended.

    Raises:
        UserError: when its checkpoints have kept nothing, as what they monitor was never logged, and it has
            written nothing else. If it has, that is told.
    """
    chosen = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    missed = [
        callback.monitor
        for callback in chosen
        if callback.monitor not in (None, *trainer.callback_metrics)
        and callback.save_top_k != 0
        and not callback.best_model_path
    ]
    if not missed:
        return
    validated = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.ready > 0
    cause = "" if validated else ", as no validation has run"
    fault = (
        f"trainer.callbacks: ModelCheckpoint has chosen no checkpoint: its monitor {missed[0]} was never "
        f"logged{cause}; give a longer fit, or one of {', '.join(sorted(trainer.callback_metrics))}"
    )
    if any(callback.best_model_path or callback.last_model_path for callback in chosen):
        notice(fault)
    elif any(hasattr(callback, "outputs") for callback in trainer.callbacks):  # type: ignore[attr-defined]
        notice(f"{fault}; the weights that were written are those of the last step")
    else:
        raise UserError(f"{fault}; nothing was kept")
