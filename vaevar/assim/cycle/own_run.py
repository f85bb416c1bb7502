"""A cycle that no command line began keeps its run directory itself: compares what is there, and records."""

from __future__ import annotations

from contextlib import ExitStack

import lightning as L
import yaml

from vaevar.assim.cycle.module import AssimilationModule
from vaevar.data.analysis_times import AnalysisTimes
from vaevar.mistakes.notices import Call
from vaevar.runs.lock import is_held
from vaevar.runs.run import Run, running
from vaevar.runs.settings import FROM_PYTHON, settings_of_objects

_HEAD = "# A run from Python: what its objects were made of.\n"


class OwnRun:
    """The run of one ``trainer.predict``, if the command line does not keep it."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def begin(
        self, module: AssimilationModule, data: AnalysisTimes, callbacks: dict[str, L.Callback], anew: bool
    ) -> None:
        """Compare what the run directory holds, lock it, and begin its record.

        Args:
            module, data: of the cycle.
            callbacks: those that change its results, by name.
            anew: what is there is moved aside.

        Raises:
            UserError: when another process writes there, or another cycle's results are there.
        """
        if is_held(module.directory):
            return
        self._stack.enter_context(Call())
        trainer = module.trainer
        objects = {
            "forecaster": module.forecaster, "arms": module.arms, "data": data, **callbacks,
            "precision": trainer.precision,
        }  # fmt: skip
        settings = settings_of_objects(FROM_PYTHON, objects, {"data.analyses"}, {"arms."})
        text = _HEAD + yaml.safe_dump(settings.values, sort_keys=False, allow_unicode=True)
        run = Run(module.directory, FROM_PYTHON, settings, text, restart=anew)
        self._stack.enter_context(running(run, trainer.is_global_zero))

    def end(self, error: BaseException | None = None) -> None:
        """Close the record.

        Args:
            error: what ended the cycle, if it did not come to its end.
        """
        stack, self._stack = self._stack, ExitStack()
        if error is None:
            stack.close()
        else:
            stack.__exit__(type(error), error, error.__traceback__)
