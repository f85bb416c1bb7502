"""The cyclic callback: analysis -> forecaster -> next background, with a restart after each.

An arm's next background is forecast from its own last analyses, as many as the forecaster's ``history``
asks for (two for FengWu). Everything an arm needs to continue is written after each analysis, so a run
that was killed resumes to the same numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from vaevar.assim.cycle.callback import CycleCallback, Results
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.data.analysis_times import AnalysisTime, AnalysisTimes
from vaevar.data.observations.coverage import no_coverage, update_coverage
from vaevar.errors import UserError
from vaevar.files import replacing
from vaevar.forecast import rollout


class Cycle(CycleCallback):
    """Carries every arm from one analysis time to the next.

    Args:
        resume: continue from the restart files in the run directory, if there are any. False: start
            again and overwrite them.
        new_cycle_every: number of analyses after which every arm starts again with a forecast from the
            truth, as at the first one: many short cycles in one run. None: never.

    Raises:
        UserError: when ``new_cycle_every`` is not positive.
    """

    without_effect: ClassVar = ("resume",)

    def __init__(self, resume: bool = True, new_cycle_every: int | None = None) -> None:
        if new_cycle_every is not None and new_cycle_every < 1:
            raise UserError(f"Cycle: new_cycle_every is {new_cycle_every}, must be positive")
        self.resume, self.new_cycle_every = resume, new_cycle_every
        self._unsaved: list[str] = []

    def before_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        """Give every arm its first background, or the one at which a killed run stopped.

        Raises:
            UserError: when forecaster and truth do not belong together, or a restart file is damaged.
        """
        forecaster = module.forecaster
        if forecaster.grid != data.store.grid:
            raise UserError(
                f"the forecaster works on {forecaster.grid}, the truth is on {data.store.grid}: bring a "
                "forecaster and a store that belong together"
            )
        if forecaster.spec != data.spec:
            raise UserError(
                f"the forecaster works on {forecaster.spec}, the truth is {data.spec}: bring a forecaster "
                "and a store that belong together"
            )
        if forecaster.step_hours != data.step_hours:
            raise UserError(
                f"the forecaster's step is {forecaster.step_hours} h, the cycle's {data.step_hours} h: set "
                f"data.init_args.step_hours to {forecaster.step_hours}"
            )
        first: Tensor | None = None
        for name in module.local_arms():
            restart = self._read(module.directory / name / "restart.pt") if self.resume else None
            if restart is None:
                if first is None:
                    first = self._first_trajectory(module, data, 0)
                restart = 0, first.clone(), no_coverage(data.store.grid)
            module.next_index[name], trajectory, coverage = restart
            module.trajectories[name] = trajectory.to(module.device)
            module.coverage[name] = coverage.to(module.device)

    def _first_trajectory(self, module: AssimilationModule, data: AnalysisTimes, index: int) -> Tensor:
        """The last states of a forecast from the truth, [history, C, H, W], up to the background of
        analysis number ``index``."""
        history = module.forecaster.history
        states = list(data.initial_states(history, index).to(module.device))
        steps = data.lead_hours // data.step_hours
        states += [state[0] for state in rollout(module.forecaster, torch.stack(states)[None], steps)]
        return torch.stack(states[-history:])

    def _read(self, path: Path) -> tuple[int, Tensor, Tensor] | None:
        if not path.is_file():
            return None
        try:
            content = torch.load(path, weights_only=True, map_location="cpu")
            return int(content["next_index"]), content["trajectory"], content["coverage"]
        except Exception as error:  # unpickling raises many kinds; each means "not a restart"
            raise UserError(f"{path}: not a restart file of a cycle ({error}); delete it") from None

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime, results: Results
    ) -> None:
        """Forecast the next background of every arm."""
        for name, result in results.items():
            analysis = result.analysis.state.values
            past = torch.cat([module.trajectories[name][:-1], analysis[None]])
            following = next(rollout(module.forecaster, past[None], 1))[0]
            module.trajectories[name] = torch.cat([past, following[None]])[-module.forecaster.history :]
            coverage = module.coverage[name]
            module.coverage[name] = update_coverage(coverage, time.observations, data.store.grid)
            module.next_index[name] = time.index + 1
        self._unsaved = list(results)
        following_index = time.index + 1
        if (
            self.new_cycle_every
            and following_index % self.new_cycle_every == 0
            and following_index < len(data.times)
        ):
            first = self._first_trajectory(module, data, following_index)
            for name in results:
                module.trajectories[name] = first.clone()
                module.coverage[name] = no_coverage(data.store.grid).to(module.device)

    # A restart is written only when every other callback has finished with that analysis. A kill at any
    # moment then loses no score and no state: the analysis is repeated.
    def before_analysis(self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime) -> None:
        """Write the restart files of the analysis before."""
        self._save(module)

    def after_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        """Write the last restart files."""
        self._save(module)

    def _save(self, module: AssimilationModule) -> None:
        for name in self._unsaved:
            content = {
                "next_index": module.next_index[name],
                "trajectory": module.trajectories[name].cpu(),
                "coverage": module.coverage[name].cpu(),
            }
            with replacing(module.directory / name / "restart.pt") as partial:
                torch.save(content, partial)
        self._unsaved = []
