"""Charts of a cycle's arms in whatever loggers its trainer has.

TensorBoard overlays runs, so each arm has a run of its own there, ``<run>/<arm>``. Other loggers have one
run, in which the arm is the first part of each name: ``vaevar/analysis_rmse/z500``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from vaevar.assim.cycle.module import AssimilationModule
from vaevar.loggers import log_picture
from vaevar.verification.charts.hparams import (
    Setting,
    known_scores,
    remove_empty_events,
    write_hyperparameters,
)
from vaevar.verification.maps import gather


@dataclass
class Chart:
    """What is shown of an arm at one step.

    Attributes:
        scalars: by name.
        pictures: by name, [H, W, 3] uint8.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)


class ArmCharts:
    """The charts of a cycle. Every process calls each method at the same analyses, with its own arms.

    Args:
        module: the arms. A run that goes on replaces in TensorBoard what a killed one has shown later.
    """

    def __init__(self, module: AssimilationModule) -> None:
        loggers, self._directory = module.trainer.loggers, module.directory
        self._others = [logger for logger in loggers if not isinstance(logger, TensorBoardLogger)]
        self._first = bool(module.trainer.is_global_zero)
        self._tensorboard = len(self._others) < len(loggers)
        begins = {name: standing.next_index for name, standing in module.standing.items()}
        self._writers = {
            name: SummaryWriter(str(module.directory / name), purge_step=begins.get(name))
            for name in (module.local_arms() if self._tensorboard else ())
        }

    @property
    def wanted(self) -> bool:
        """Whether anything is shown at all."""
        return self._tensorboard or bool(self._others)

    def show(self, charts: Mapping[str, Chart], step: int) -> None:
        """Show the arms of this process.

        Args:
            charts: by arm.
            step: number of the analysis.
        """
        for name, writer in self._writers.items():
            chart = charts.get(name, Chart())
            for key, value in chart.scalars.items():
                writer.add_scalar(key, value, step)
            for key, picture in chart.pictures.items():
                writer.add_image(key, picture, step, dataformats="HWC")
        if not self._others:
            return
        everywhere = gather(dict(charts))
        if not self._first:
            return
        scalars = {
            f"{arm}/{key}": value for arm, chart in everywhere.items() for key, value in chart.scalars.items()
        }
        for logger in self._others:
            if scalars:
                logger.log_metrics(scalars, step)
        for arm, chart in everywhere.items():
            for key, picture in chart.pictures.items():
                log_picture(self._others, f"{arm}/{key}", picture, step)

    def show_together(self, name: str, picture: np.ndarray, step: int) -> None:
        """Show a picture of all arms, on the first process. TensorBoard has it among those of the first arm.

        Args:
            name: of the picture.
            picture: [H, W, 3] uint8.
            step: number of the analysis.
        """
        for writer in list(self._writers.values())[:1]:
            writer.add_image(name, picture, step, dataformats="HWC")
        log_picture(self._others, name, picture, step)

    def close(
        self, settings: Mapping[str, Mapping[str, Setting]], scores: Mapping[str, dict[str, float]], step: int
    ) -> None:
        """Show settings and final scores.

        Args:
            settings: of all arms.
            scores: of the arms of this process.
            step: of the scores.
        """
        for name, writer in self._writers.items():
            if name in settings:
                write_hyperparameters(writer, dict(settings[name]), scores.get(name, {}), step)
            writer.close()
        self._writers.clear()
        if self._others and self._first:
            for logger in self._others:
                logger.log_hyperparams({name: dict(values) for name, values in settings.items()})
        self.show({name: Chart(known_scores(values)) for name, values in scores.items()}, step)
        if self._first and self._tensorboard:
            remove_empty_events(self._directory)
