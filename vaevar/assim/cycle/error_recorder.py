"""Records a cycle's own backgrounds and how far they are from the truth, as samples to learn from.

Differences of forecasts (the NMC method) are not what a cycle gets wrong: its backgrounds are 6 h old and
were drawn to observations before, so their errors are smaller, of smaller scale, and larger where little is
observed. A cycle run once over the training period gives samples of these very errors, and of the backgrounds
they belong to. The forecaster was trained on the truth of that period too; the truth of the tuning and test
periods is never recorded.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import zarr
from torch import Tensor

from vaevar.assim.cycle.callback import CycleCallback, Results
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.data.analysis_times import HOUR, AnalysisTime, AnalysisTimes
from vaevar.data.samples.layout import SampleWriter, check_format, lay_out
from vaevar.data.weather.writer import extend_store
from vaevar.errors import UserError
from vaevar.mistakes.words import words
from vaevar.runs.record import attributes
from vaevar.sphere.coarsening import Coarsening, coarsening_to
from vaevar.sphere.grid import Grid


class CycleErrorRecorder(CycleCallback):
    """Writes one arm's backgrounds, truth − background, and where the arm was observed before.

    The store is in the format of :mod:`vaevar.data.samples.layout`, at the lead of one step, with
    ``coverage`` (:mod:`vaevar.data.observations.coverage`). It appears when the cycle has reached its end. A
    killed cycle that is resumed resumes recording, and so does a finished one that is made longer.

    Args:
        path: the zarr store; if it exists, the run ends before it begins.
        arm: the arm to record.
        skip: analyses at the beginning of the cycle that are not recorded.
        coarsen_to: rows and columns of the Gaussian grid that samples are kept on, as means over its cells;
            [128, 256] is 1.40625°. None: keep the cycle's grid.
        samples_per_file: from 2 on, the store is zarr v3 and this many samples share a file, which each of
            them writes again.

    Raises:
        UserError: for a ``skip`` or ``samples_per_file`` out of range.
    """

    outputs: ClassVar = ("path",)

    def __init__(
        self,
        path: str,
        arm: str,
        skip: int = 0,
        coarsen_to: tuple[int, int] | None = None,
        samples_per_file: int = 1,
    ) -> None:
        if skip < 0:
            raise UserError(f"CycleErrorRecorder: skip is {skip}, must not be negative")
        if samples_per_file < 1:
            raise UserError(f"CycleErrorRecorder: samples_per_file is {samples_per_file}, must be positive")
        self.path, self.arm, self.skip = Path(path), arm, skip
        self.coarsen_to, self.samples_per_file = coarsen_to, samples_per_file
        self._coarsening: Coarsening | None = None
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._coverage: Tensor | None = None  # before the current analysis

    def before_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        """Lay the store out, or find the one that a killed run left.

        Raises:
            UserError: for an unknown arm or one that analyses windows, nothing to record, a grid that is
                finer than the cycle's, a store that is complete, or samples that an earlier run did not
                record.
        """
        if self.arm not in module.arms:
            raise UserError(f"CycleErrorRecorder: no arm {self.arm!r}; the arms are {', '.join(module.arms)}")
        if (window := module.arms[self.arm].stride) > 1:
            raise UserError(
                f"CycleErrorRecorder: arm {self.arm} analyses windows of {window} times, so its backgrounds "
                f"are up to {window * data.step_hours} h old: record an arm that analyses one time at a time"
            )
        if self.skip >= len(data.times):
            raise UserError(
                f"CycleErrorRecorder: skip {self.skip} leaves none of the {len(data.times)} analyses"
            )
        try:
            self._coarsening = coarsening_to(data.store.grid, self.coarsen_to)
        except ValueError as error:
            raise UserError(f"CycleErrorRecorder: coarsen_to: {error}") from None
        if self.arm not in module.local_arms():
            return
        if data.skip_missing:
            raise UserError(
                "CycleErrorRecorder: needs the truth of every analysis: leave on_missing_truth at stop"
            )
        done = module.standing[self.arm].next_index
        if self.path.exists() and not self._goes_on(module, data, done):
            raise UserError(f"{self.path}: exists already; delete it to record again, or give another path")
        if self.path.exists():
            self._check_layout(self.path, data)
            self.path.rename(self._partial)
        if done == 0:
            self._lay_out(module, data)
            return
        own = self._partial.is_dir() and self._is_own(self._partial, module)
        if not own or check_format(self._partial)["recorded"] < done - self.skip:
            raise UserError(
                f"{self.path}: the cycle in {module.directory} went on to analysis {done} without being "
                f"recorded; {words().restart}"
            )

        self._check_layout(self._partial, data)
        times = self._times(data)
        if self._writer(data).array("error").shape[0] < len(times):
            extend_store(self._partial, times)
            zarr.open_group(self._partial, mode="r+").attrs["end"] = str(data.times[-1])

    def _check_layout(self, path: Path, data: AnalysisTimes) -> None:
        """Refuse to add samples to a store whose samples are kept another way."""
        array = zarr.open_array(path / "error", mode="r")
        expected = {"coarsen_to": self._grid(data).shape, "samples_per_file": self.samples_per_file}
        found = {"coarsen_to": array.shape[-2:], "samples_per_file": (array.shards or array.chunks)[0]}
        for name, value in expected.items():
            if found[name] != value:
                raise UserError(
                    f"{path}: was begun with {name} {found[name]}, but the config now says {value}; "
                    f"set it back, or {words().restart}"
                )

    def _grid(self, data: AnalysisTimes) -> Grid:
        """The points of the samples."""
        return data.store.grid if self._coarsening is None else self._coarsening.target

    def _kept(self, fields: Tensor) -> np.ndarray:
        """[N, H, W] of the cycle as they are kept, [N, H', W']."""
        fields = fields.cpu()
        return (fields if self._coarsening is None else self._coarsening(fields)).numpy()

    def _goes_on(self, module: AssimilationModule, data: AnalysisTimes, done: int) -> bool:
        """Whether the store is this cycle's, complete when that was shorter."""
        recorded = int(check_format(self.path).get("recorded", 0))
        return self._is_own(self.path, module) and recorded == done - self.skip < len(self._times(data))

    def _is_own(self, path: Path, module: AssimilationModule) -> bool:
        """Whether a store is this arm's, recorded by this very run."""
        found, run = check_format(path), attributes(module.directory).get("run")
        # Stores of earlier versions have only a name, and so do runs without a record.
        return found.get("cycle") == self._cycle(module) and found.get("run", run) == run

    def _cycle(self, module: AssimilationModule) -> str:
        return f"{module.directory.name}, arm {self.arm}"

    def _times(self, data: AnalysisTimes) -> np.ndarray:
        """The initial times of the backgrounds that are recorded."""
        return data.times[self.skip :] - data.step_hours * HOUR

    def _lay_out(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        recipe: dict[str, str | int] = {
            "scheme": "truth minus background of a cycle",
            "source": data.source.description,
            "forecaster": str(getattr(module.forecaster, "description", "")),
            "cycle": self._cycle(module),
            "start": str(data.times[0]),
            "end": str(data.times[-1]),
            "channels": ", ".join(data.spec.names),
            "recorded": 0,
            **attributes(module.directory),
        }
        if self._coarsening is not None:
            recipe["coarsened_to"] = repr(self._grid(data))
        shutil.rmtree(self._partial, ignore_errors=True)  # of a run that is not resumed
        lay_out(
            self._partial, ("error", "background", "coverage"), self._times(data), [data.step_hours],
            data.spec, self._grid(data), recipe, self.samples_per_file,
        )  # fmt: skip

    def before_analysis(self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime) -> None:
        """Keep the coverage, which ``Cycle`` changes after the analysis."""
        standing = module.standing.get(self.arm)
        self._coverage = None if standing is None else standing.coverage

    def after_analysis(
        self, module: AssimilationModule, data: AnalysisTimes, time: AnalysisTime, results: Results
    ) -> None:
        """Write one sample."""
        sample = time.index - self.skip
        if self.arm not in results or sample < 0:
            return
        assert self._coverage is not None
        background = results[self.arm].background.values.cpu()
        fields = {
            "error": self._kept(time.truth.values.cpu() - background)[None],
            "background": self._kept(background)[None],
            "coverage": self._kept(self._coverage),
        }
        writer = self._writer(data)
        if not writer.scaled:
            writer.set_scales(fields)
        stored = writer.encode(fields, time.time)
        writer.write(range(sample, sample + 1), {name: values[None] for name, values in stored.items()})
        zarr.open_group(self._partial, mode="r+").attrs["recorded"] = sample + 1

    def _writer(self, data: AnalysisTimes) -> SampleWriter:
        return SampleWriter(self._partial, data.spec, self._grid(data))

    def after_cycle(self, module: AssimilationModule, data: AnalysisTimes) -> None:
        """Complete the store and move it to its place."""
        if self.arm not in module.local_arms():
            return
        if module.standing[self.arm].next_index < data.times.size:
            return  # a short look, or the arm has stopped: the rest is still to come
        writer = self._writer(data)
        writer.finish(writer.sums())
        self._partial.rename(self.path)
