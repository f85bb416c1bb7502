"""TensorBoard: the arms of a cycle overlaid on one chart per variable, and maps."""

from __future__ import annotations

from typing import Any

import lightning as L
import matplotlib
import numpy as np
from torch.utils.tensorboard import SummaryWriter

from vaevar.assim.cycle import parts_of
from vaevar.assim.module import ArmResult
from vaevar.assim.scores import HEADLINE_CHANNELS
from vaevar.assim.verification import rmse
from vaevar.data.cycles import AnalysisTime
from vaevar.errors import UserError
from vaevar.sphere import Grid

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure


class Dashboards(L.Callback):
    """Writes TensorBoard events under ``<run>/<arm>``, so that arms share charts.

    Args:
        channels: RMSE charts for these, beside the mean over channels of RMSE over climatological
            std.
        maps: channels mapped (truth, background error, increment, analysis error).
        maps_every: analyses between maps; 0 for none.

    Raises:
        UserError: for a negative interval.
    """

    def __init__(
        self,
        channels: list[str] | None = None,
        maps: list[str] | None = None,
        maps_every: int = 20,
    ) -> None:
        if maps_every < 0:
            raise UserError(f"Dashboards: maps_every is {maps_every}, must not be negative")
        self.channels = list(HEADLINE_CHANNELS) if channels is None else channels
        self.maps = ["z500", "u500", "t850"] if maps is None else maps
        self.maps_every = maps_every
        self._writers: dict[str, SummaryWriter] = {}

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module, data = parts_of(trainer, pl_module)
        unknown = [name for name in (*self.channels, *self.maps) if not data.spec.has(name)]
        if unknown:
            raise UserError(f"Dashboards: the state has no channels {', '.join(unknown)}")
        for name in module.local_arms():
            # A resumed run goes on where it stopped: later events of the killed one are dropped.
            self._writers[name] = SummaryWriter(
                str(module.directory / name), purge_step=module.next_index.get(name)
            )

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        _, data = parts_of(trainer, pl_module)
        time: AnalysisTime = batch
        results: dict[str, ArmResult] = outputs
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
            if self.maps_every and time.index % self.maps_every == 0:
                for channel in self.maps:
                    writer.add_figure(f"maps/{channel}", analysis_maps(channel, time, result), time.index)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


def analysis_maps(channel: str, time: AnalysisTime, result: ArmResult) -> Figure:
    """Truth, background error, increment and analysis error of one channel, observed columns dotted."""
    fields = {
        "truth": time.truth.channel(channel),
        "background − truth": result.background.channel(channel) - time.truth.channel(channel),
        "increment": result.analysis.state.channel(channel) - result.background.channel(channel),
        "analysis − truth": result.analysis.state.channel(channel) - time.truth.channel(channel),
    }
    largest = float(fields["background − truth"].abs().max()) or 1.0
    figure, axes = plt.subplots(2, 2, figsize=(12, 6.5), layout="constrained")
    for axis, (title, field) in zip(axes.flat, fields.items(), strict=True):
        values = field.cpu().numpy()
        limits = {} if title == "truth" else {"vmin": -largest, "vmax": largest}
        colours = "viridis" if title == "truth" else "RdBu_r"
        draw_map(axis, values, time.truth.grid, title, colours, **limits)
        if title == "increment":
            axis.plot(time.observations.longitude, time.observations.latitude, "k.", markersize=1)
    figure.suptitle(f"{channel} at {time.time.astype('datetime64[h]')}")
    return figure


def draw_map(axis: Any, values: np.ndarray, grid: Grid, title: str, colours: str, **limits: float) -> None:
    """One field [H, W] on plain latitude and longitude, with its colour bar."""
    image = axis.pcolormesh(grid.longitude, grid.latitude, values, cmap=colours, shading="nearest", **limits)
    axis.set_title(title)
    axis.set_xlim(0, 360)
    axis.set_ylim(-90, 90)
    axis.figure.colorbar(image, ax=axis, shrink=0.8)
