"""TensorBoard: charts that overlay the arms of a cycle, maps, and the HParams tab."""

from __future__ import annotations

import lightning as L
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from vaevar.assim.cycle.callback import CycleCallback, Results
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.data.analysis_times import AnalysisTime, AnalysisTimes
from vaevar.errors import UserError
from vaevar.verification.consistency import departures, desroziers
from vaevar.verification.hparams import (
    final_scores,
    hyperparameters,
    remove_empty_events,
    write_hyperparameters,
)
from vaevar.verification.maps import analysis_maps, error_maps, gather_fields, rendered
from vaevar.verification.metrics import rmse
from vaevar.verification.scores import HEADLINE_CHANNELS, Scores

MAPPED_CHANNELS = ("z500", "u500", "t850")


class Dashboards(CycleCallback):
    """Writes TensorBoard events under ``<run>/<arm>``, so that arms share charts.

    By channel: ``rmse_over_std/``, ``analysis_rmse/`` and ``background_rmse/``. By variable:
    ``consistency/``, the Desroziers ratio of R (1 when B and R are consistent), and
    ``consistency_background/``, the background error variance over R that the departures imply. By analysis:
    ``minimisation/`` (J_b, J_o, 2J/p, ...). The error maps of all arms side by side are among the images of
    the first arm, ``errors_of_all_arms/``. The HParams tab has a row for each arm: its settings and, when
    :class:`vaevar.verification.scores.Scores` runs too, its summary (``final/``). So TensorBoard has one run
    for each arm.

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
        self._writers: dict[str, SummaryWriter] = {}

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
        # A resumed run replaces the later events of the killed one.
        begins = {name: standing.next_index for name, standing in module.standing.items()}
        for name in module.local_arms():
            self._writers[name] = SummaryWriter(str(module.directory / name), purge_step=begins.get(name))

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime, results: Results
    ) -> None:
        mapped = bool(self.maps_every) and time.index % self.maps_every == 0
        for name, result in results.items():
            writer = self._writers[name]
            states = {"analysis": result.analysis.state, "background": result.background}
            for quantity, state in states.items():
                scores = rmse(state.values - time.truth.values, state.grid).cpu().numpy()
                mean = float((scores / data.climatological_std).mean())
                writer.add_scalar(f"rmse_over_std/{quantity}", mean, time.index)
                for channel in self.channels:
                    value = scores[data.spec.index(channel)]
                    writer.add_scalar(f"{quantity}_rmse/{channel}", value, time.index)
            for key, number in result.analysis.diagnostics.items():
                writer.add_scalar(f"minimisation/{key}", number, time.index)
            if mapped:
                for channel in self.maps:
                    _add_figure(writer, f"maps/{channel}", analysis_maps(channel, time, result), time.index)
        if results and len(time.observations):
            self._write_consistency(time, results)
        if mapped:
            self._write_error_maps(module, time, results)

    def _write_consistency(self, time: AnalysisTime, results: Results) -> None:
        operator = time.observations.operator(time.truth.spec, time.truth.grid)
        for name, result in results.items():
            before = departures(operator, result.background, time.observations)
            after = departures(operator, result.analysis.state, time.observations)
            for variable, ratio in desroziers(before, after, time.observations).items():
                writer = self._writers[name]
                writer.add_scalar(f"consistency/{variable}", ratio.observation, time.index)
                writer.add_scalar(f"consistency_background/{variable}", ratio.background, time.index)

    def _write_error_maps(self, module: AssimilationModule, time: AnalysisTime, results: Results) -> None:
        # A collective operation: every rank calls it at the same analyses, with or without results.
        for channel in self.maps:
            truth = time.truth.channel(channel)
            fields = gather_fields(
                {
                    name: (result.analysis.state.channel(channel) - truth).cpu().numpy()
                    for name, result in results.items()
                }
            )
            errors = {name: fields[name] for name in module.arms if name in fields}
            if module.trainer.is_global_zero and self._writers and errors:
                figure = error_maps(channel, time, errors)
                first = next(iter(self._writers.values()))
                _add_figure(first, f"errors_of_all_arms/{channel}", figure, time.index)

    def after_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        settings = hyperparameters(module.directory / "config.yaml", list(module.arms))
        callbacks: list[L.Callback] = module.trainer.callbacks  # type: ignore[attr-defined]
        scorers = [callback for callback in callbacks if isinstance(callback, Scores)]
        scores = (
            final_scores(scorers[0].table(module.directory, list(self._writers), data))
            if scorers and self._writers  # a process may have no arm
            else {}
        )
        for name, writer in self._writers.items():
            if name in settings:
                write_hyperparameters(writer, settings[name], scores.get(name, {}), data.times.size)
            writer.close()
        self._writers.clear()
        if module.trainer.is_global_zero:
            remove_empty_events(module.directory)


def _add_figure(writer: SummaryWriter, name: str, figure: Figure, step: int) -> None:
    writer.add_image(name, rendered(figure), step, dataformats="HWC")
