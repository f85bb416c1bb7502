"""What the command line changes in Lightning's trainer: nothing is lost, and nothing comes from elsewhere."""

from __future__ import annotations

import subprocess

import lightning as L
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from vaevar.content.setting import explained
from vaevar.errors import UserError, one_line
from vaevar.mistakes.words import words
from vaevar.models.training.agreement import (
    other_model,
    other_normalisation,
    other_optimisers,
    other_settings,
    settings_of_callbacks,
    take_back,
)
from vaevar.models.training.checkpoint_io import WholeCheckpoints
from vaevar.models.training.fit_checks import FitChecks
from vaevar.models.training.last_checkpoint import LastCheckpoint
from vaevar.models.training.stops import StopsBetweenBatches
from vaevar.runs import stopping
from vaevar.runs.checkpoints import SETTINGS
from vaevar.runs.slurm import REQUEUE_SIGNALS


def prepare(trainer: L.Trainer) -> L.Trainer:
    """Give a trainer checkpoints that are whole and stops that lose nothing.

    Args:
        trainer: just made.
    """
    trainer._checkpoint_connector = OwnCheckpoints(trainer)
    trainer._signal_connector = OwnSignals(trainer)
    if trainer.strategy._checkpoint_io is None:
        trainer.strategy.checkpoint_io = WholeCheckpoints()
    trainer.callbacks += [FitChecks(), LastCheckpoint(), StopsBetweenBatches()]  # type: ignore[attr-defined]
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment):
        signals = {*REQUEUE_SIGNALS, environment.requeue_signal} if environment.auto_requeue else set()
        stopping.requeue_on(signals)
        # It would save into the current directory, and not end the process.
        environment.auto_requeue = False
    stopping.end_together(Launched(trainer))
    return trainer


class OwnCheckpoints(_CheckpointConnector):
    """Takes no checkpoint that was not asked for, and tells in one line which does not fit."""

    # Below SLURM Lightning takes hpc_ckpt_*.ckpt of the current directory, whoever has left it there.
    _hpc_resume_path = None
    _differing: list[str]

    def restore_model(self) -> None:
        """Restore the weights.

        Raises:
            UserError: when they are another model's, or were trained on data that were normalised otherwise.
        """
        content, module = self._loaded_checkpoint, self.trainer.lightning_module
        self._differing = []
        if not content:
            return
        if model := other_model(content, module):
            raise UserError(
                f"{self._ckpt_path}: is a checkpoint of {model}, the config's model is "
                f"{type(module).__name__}; give one of that, or the config of {model}"
            )
        self._differing = other_settings(content, module)
        try:
            super().restore_model()
        except RuntimeError as error:
            raise self._misfit(error) from None
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if differing := other_normalisation(module, data):
            raise UserError(
                f"{self._ckpt_path}: was trained on data that are normalised otherwise "
                f"({explained(differing)}); give the data that it was trained on"
            )
        # A fit's checkpoint of this version says more, which its callback compares.
        if self._differing and not (self.trainer.training and SETTINGS in content):
            self._say(
                f"{self._ckpt_path}: was trained with other settings; those given now are used: "
                f"{explained(self._differing)}"
            )

    def restore_callbacks(self) -> None:
        """Restore what callbacks have come to; their settings are those that are asked for."""
        callbacks: list[L.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        asked = settings_of_callbacks(callbacks)
        super().restore_callbacks()
        if differing := take_back(callbacks, asked):
            self._say(
                f"{self._ckpt_path}: its callbacks had other settings; those given now are used: "
                f"{explained(differing)}"
            )

    def restore_training_state(self) -> None:
        """Restore the optimiser and the place in the fit.

        Raises:
            UserError: when they are another fit's.
        """
        try:
            super().restore_training_state()
        except (RuntimeError, ValueError, KeyError) as error:
            raise self._misfit(error) from None

    def restore_optimizers(self) -> None:
        """Restore the optimiser's state.

        Raises:
            UserError: when its settings, which it brings with it, are not those that are asked for.
        """
        states = self._loaded_checkpoint.get("optimizer_states", [])
        if differing := other_optimisers(states, self.trainer.optimizers):
            raise UserError(
                f"{self._ckpt_path}: its optimiser goes on with its own settings ({explained(differing)}); "
                "give the same, or begin anew from its weights where the model has `start_from`"
            )
        super().restore_optimizers()

    def _say(self, text: str) -> None:
        if self.trainer.is_global_zero:
            print(text, flush=True)

    def _misfit(self, error: Exception) -> UserError:
        reason = one_line(error)[:300]
        differing = f"{explained(self._differing)}; " if self._differing else ""
        return UserError(
            f"{self._ckpt_path}: not a checkpoint of this model and its settings ({differing}{reason}); give "
            f"one of this run's, or {words().another}"
        )


class OwnSignals(_SignalConnector):
    """Leaves the signals to :mod:`vaevar.runs.stopping`: Lightning takes note of one and goes on."""

    def register_signal_handlers(self) -> None:
        """Register none."""
        self.received_sigterm = False


class Launched:
    """The processes that a trainer has launched, which stop with this one.

    Lightning kills this process soon after the first of those has ended with an error code, as a stop has.
    It does not know of them any longer once they are asked for.

    Args:
        trainer: that launches them when it starts.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        self._trainer = trainer
        self._processes: list[subprocess.Popen] = []

    def __call__(self) -> list[int]:
        """Their ids."""
        processes = getattr(self._trainer.strategy.launcher, "procs", [])
        self._processes += processes
        processes.clear()
        return [process.pid for process in self._processes]
