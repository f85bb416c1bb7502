"""Charts of a cycle's arms, maps, settings and final scores, in the loggers of the run."""

from __future__ import annotations

import lightning as L

from vaevar.assim.cycle.callback import CycleCallback, Results
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.data.analysis_times import AnalysisTime, AnalysisTimes
from vaevar.errors import UserError
from vaevar.loggers import rendered
from vaevar.verification.charts.arms import ArmCharts, Chart
from vaevar.verification.charts.hparams import final_scores, hyperparameters
from vaevar.verification.consistency import departures, desroziers
from vaevar.verification.maps import analysis_maps, error_maps, gather
from vaevar.verification.metrics import rmse
from vaevar.verification.scores import HEADLINE_CHANNELS, Scores

MAPPED_CHANNELS = ("z500", "u500", "t850")


class Dashboards(CycleCallback):
    """Shows the arms of a cycle in the loggers of its trainer; without one, nothing.

    In TensorBoard each arm is a run of its own, below ``<run>/<arm>``, so that arms share charts. In other
    loggers the arm comes first in each name (:mod:`vaevar.verification.charts.arms`).

    By channel: ``rmse_over_std/``, ``analysis_rmse/`` and ``background_rmse/``. By variable:
    ``consistency/``, the Desroziers ratio of R (1 when B and R are consistent), and
    ``consistency_background/``, the background error variance over R that the departures imply. By analysis:
    ``minimisation/`` (J_b, J_o, 2J/p, ...). The error maps of all arms side by side are
    ``errors_of_all_arms/``, in TensorBoard among the images of the first arm. Hyperparameters are the
    settings of each arm and, when :class:`vaevar.verification.scores.Scores` runs too, its summary
    (``final/``).

    Args:
        channels: have an RMSE chart, beside the mean over channels of RMSE / climatological std. None: the
            usual ones, as far as the state has them.
        maps: have maps (truth, background error, increment and analysis error of each arm, and the
            analysis errors of all arms). None: likewise.
        maps_every: analyses between maps; 0: no maps.

    Raises:
        UserError: when ``maps_every`` is negative; at the start of a run, for channels the state lacks.
    """

    def __init__(
        self,
        channels: list[str] | None = None,
        maps: list[str] | None = None,
        maps_every: int = 20,
    ) -> None:
        if maps_every < 0:
            raise UserError(f"Dashboards: maps_every is {maps_every}, must not be negative")
        self._asked = (channels, maps)
        self.channels, self.maps = channels or [], maps or []
        self.maps_every = maps_every
        self._charts: ArmCharts

    def before_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        channels, maps = self._asked
        usual = [name for name in HEADLINE_CHANNELS if data.spec.has(name)]
        self.channels = usual if channels is None else channels
        self.maps = [name for name in MAPPED_CHANNELS if name in usual] if maps is None else maps
        unknown = [name for name in dict.fromkeys([*self.channels, *self.maps]) if not data.spec.has(name)]
        if unknown:
            raise UserError(
                f"Dashboards: the state has no channels {', '.join(unknown)}; choose channels and maps from "
                f"its {len(data.spec)}, such as {', '.join(data.spec.names[:3])}"
            )
        self._charts = ArmCharts(module)

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime, results: Results
    ) -> None:
        if not self._charts.wanted:
            return
        mapped = bool(self.maps_every) and time.index % self.maps_every == 0
        charts = {name: Chart() for name in results}
        for name, result in results.items():
            shown = charts[name].scalars
            states = {"analysis": result.analysis.state, "background": result.background}
            for quantity, state in states.items():
                scores = rmse(state.values - time.truth.values, state.grid).cpu().numpy()
                shown[f"rmse_over_std/{quantity}"] = float((scores / data.climatological_std).mean())
                for channel in self.channels:
                    shown[f"{quantity}_rmse/{channel}"] = float(scores[data.spec.index(channel)])
            shown |= {f"minimisation/{key}": value for key, value in result.analysis.diagnostics.items()}
            if mapped:
                charts[name].pictures |= {
                    f"maps/{channel}": rendered(analysis_maps(channel, time, result)) for channel in self.maps
                }
        if len(time.observations):
            _add_consistency(charts, time, results)
        self._charts.show(charts, time.index)
        if mapped:
            self._show_error_maps(module, time, results)

    def _show_error_maps(self, module: AssimilationModule, time: AnalysisTime, results: Results) -> None:
        # A collective operation: every rank calls it at the same analyses, with or without results.
        for channel in self.maps:
            truth = time.truth.channel(channel)
            fields = gather(
                {
                    name: (result.analysis.state.channel(channel) - truth).cpu().numpy()
                    for name, result in results.items()
                }
            )
            errors = {name: fields[name] for name in module.arms if name in fields}
            if module.trainer.is_global_zero and errors:
                picture = rendered(error_maps(channel, time, errors))
                self._charts.show_together(f"errors_of_all_arms/{channel}", picture, time.index)

    def after_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        if not self._charts.wanted:
            return
        settings = hyperparameters(module.directory / "config.yaml", list(module.arms))
        callbacks: list[L.Callback] = module.trainer.callbacks  # type: ignore[attr-defined]
        scorers = [callback for callback in callbacks if isinstance(callback, Scores)]
        arms = list(module.local_arms())
        scores = (
            final_scores(scorers[0].table(module.directory, arms, data))
            if scorers and arms  # a process may have no arm
            else {}
        )
        self._charts.close(settings, scores, int(data.times.size))


def _add_consistency(charts: dict[str, Chart], time: AnalysisTime, results: Results) -> None:
    operator = time.observations.operator(time.truth.spec, time.truth.grid)
    for name, result in results.items():
        before = departures(operator, result.background, time.observations)
        after = departures(operator, result.analysis.state, time.observations)
        for variable, ratio in desroziers(before, after, time.observations).items():
            charts[name].scalars[f"consistency/{variable}"] = ratio.observation
            charts[name].scalars[f"consistency_background/{variable}"] = ratio.background
