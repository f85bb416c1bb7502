"""A zarr store made from roll-outs of a forecaster, once, by any number of processes, whatever interrupts it.

It is built beside its place and moved there when complete. The samples of one file, a *block*, are written
together; when they are on the disk, a summary of them is put beside, which says that the block is done. So
a killed run goes on with the blocks that lack one. Statistics of all samples are made of the summaries, in
their order, and are the same whatever the number of processes. A store that is there already is left alone if
it was made the same way, which its attributes say.

:meth:`ResumableStore.make` makes it in this process; :mod:`vaevar.data.samples.predict_loop` in the predict
loop of a
trainer, in as many processes as that has.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import zarr
from filelock import FileLock, Timeout
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from vaevar.data.samples.rollouts import Rollouts, Share
from vaevar.data.weather.store import Source, WeatherStore
from vaevar.errors import UserError
from vaevar.files import check_disk
from vaevar.forecast import Forecaster, rollout


class ResumableStore(ABC):
    """One store in the making; subclasses say what a sample is.

    Args:
        path: the zarr store to be.
        source: states that forecasts start from, prepared for ``start`` to ``end``.
        forecaster: rolled out.
        start, end: first and last state to be read.
        batch_size: initial times rolled out together.
        samples_per_file: in a block; from 2 on the store is of zarr v3, and a file a shard.

    Attributes:
        title: what is made, for the progress bar.
        initial: [N] datetime64[h], initial times of the roll-outs.
        times: [N] datetime64[h], of the samples.
        recipe: what the store is made of; kept among its attributes.
        reduce: made of each forecast, on its device, before it is kept.
        lock: held by the process that leads the making.

    Raises:
        UserError: for a setting out of range.
    """

    title: str
    initial: np.ndarray
    times: np.ndarray
    recipe: dict[str, str | int]

    def __init__(
        self,
        path: Path,
        source: Source,
        forecaster: Forecaster,
        start: np.datetime64,
        end: np.datetime64,
        batch_size: int,
        samples_per_file: int = 1,
    ) -> None:
        if batch_size < 1 or samples_per_file < 1:
            raise UserError(
                "batch_size of the roll-outs and samples_per_file must be positive, got "
                f"{batch_size} and {samples_per_file}"
            )
        self.path, self.source, self.forecaster = path, source, forecaster
        self.start, self.end, self.batch_size = start, end, batch_size
        self.samples_per_file = samples_per_file
        self.spec, self.grid = forecaster.spec, forecaster.grid
        self.reduce: nn.Module = nn.Identity()
        self.partial = path.with_name(path.name + ".partial")
        self.progress = path.with_name(path.name + ".progress")
        self.lock = FileLock(path.with_name(path.name + ".lock"))

    def recipe_with(self, **settings: str | int) -> dict[str, str | int]:
        """The recipe: what every store is made of, with ``settings`` of its own."""
        forecaster = str(getattr(self.forecaster, "description", type(self.forecaster).__name__))
        return {
            "source": self.source.description,
            "forecaster": forecaster,
            "start": str(self.start),
            "end": str(self.end),
            **settings,
            "channels": ", ".join(self.spec.names),
        }

    def make(self) -> None:
        """Make the store in this process, or check the one that is there.

        Raises:
            UserError: when the store there was made otherwise, or the disk is too full.
        """
        if not self.begin():
            return
        try:
            share = self.share()
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            with Progress(*columns) as progress:
                for batch in progress.track(share.rollouts(), total=len(share), description=self.title):
                    share.take(batch, self.forecasts(batch))
            self.complete()
        finally:
            self.lock.release()

    def begin(self) -> bool:
        """Lay the store out, or find what a killed run left; or check the one that is there.

        Returns:
            whether there is something to be made. Then the lock is held.

        Raises:
            UserError: as :meth:`make`.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            print(f"{self.path}: another process is making it; waiting for that")
            self.lock.acquire()
        begun = False
        try:
            if self.path.is_dir():
                self._check(self.path, self.recipe)
                shutil.rmtree(self.progress, ignore_errors=True)
            else:
                self._lay_out_or_resume()
                if self.missing():
                    begun = True
                else:  # killed before its last steps
                    self.complete()
        finally:
            if not begun:
                self.lock.release()
        return begun

    def _lay_out_or_resume(self) -> None:
        recipe = self.recipe | {"samples_per_file": self.samples_per_file}
        resumed = self.progress.is_dir() and self.partial.is_dir()
        if resumed:
            self._check(self.partial, recipe)
        else:
            shutil.rmtree(self.progress, ignore_errors=True)
            shutil.rmtree(self.partial, ignore_errors=True)
            self.lay_out(recipe)
        left = sum(map(len, self.missing().values()))
        size = sum(array.nbytes for _, array in zarr.open_group(self.partial, mode="r").arrays())
        try:
            check_disk(self.path, size * left // self.samples, f"{left} of {self.samples} samples to make")
        except UserError:
            if not resumed:
                shutil.rmtree(self.partial)
            raise
        self.source.prepare(self.start, self.end)
        if not resumed:
            # One scale for all: set before processes share the samples out.
            share = Share(self, {0: range(1)})
            for batch in share.rollouts():
                for _, fields in share.samples(batch, self.forecasts(batch)):
                    self.set_scales(fields)
            self.progress.mkdir()

    def _check(self, path: Path, recipe: dict[str, str | int]) -> None:
        """Refuse a store made in another way, rather than train on it unawares."""
        found = dict(zarr.open_group(path, mode="r").attrs)
        for key, wanted in recipe.items():
            if found.get(key) != wanted:
                raise UserError(
                    f"{path}: was made with {key} = {found.get(key)!r}, but the config now says "
                    f"{wanted!r}; delete it to make it anew, or give another path"
                )

    def complete(self) -> None:
        """Write what is known when all samples are there, and move the store to its place."""
        self.finish(np.load(self._summary(number)) for number in sorted(self._blocks()))
        self.partial.rename(self.path)
        shutil.rmtree(self.progress)

    @property
    def samples(self) -> int:
        """How many there will be."""
        return len(self.times)

    def array(self, name: str) -> zarr.Array:
        """An array of the store in the making."""
        return zarr.open_array(self.partial / name, mode="r+")

    # --- blocks ------------------------------------------------------------------------------------

    def _blocks(self) -> dict[int, range]:
        """The samples of each block."""
        size = self.samples_per_file
        starts = range(0, self.samples, size)
        return {start // size: range(start, min(start + size, self.samples)) for start in starts}

    def _summary(self, block: int) -> Path:
        return self.progress / f"{block}.npy"

    def missing(self) -> dict[int, range]:
        """The samples of each block that is yet to be made."""
        if self.path.is_dir():
            return {}
        done = {path.stem for path in self.progress.glob("*.npy")}
        return {number: samples for number, samples in self._blocks().items() if str(number) not in done}

    def share(self, rank: int = 0, count: int = 1) -> Share:
        """What process ``rank`` of ``count`` is to make of what is missing: blocks in a row."""
        missing = self.missing()
        own = np.array_split(np.array(list(missing), dtype=int), count)[rank]
        return Share(self, {int(number): missing[int(number)] for number in own})

    def write_block(self, number: int, samples: range, fields: dict[str, np.ndarray]) -> None:
        """Write all samples of a block, [N, ...] by array, and then that it is done."""
        for name, values in fields.items():
            self.array(name)[samples.start : samples.stop] = values
        beside = self.progress / f"{number}.new"
        with beside.open("wb") as file:
            np.save(file, self.summary(fields))
        beside.replace(self._summary(number))

    # --- roll-outs ---------------------------------------------------------------------------------

    def open_source(self) -> WeatherStore:
        """The states.

        Raises:
            UserError: when they are on another grid than the forecaster.
        """
        store = self.source.open(self.spec)
        if store.grid != self.grid:
            raise UserError(f"the forecaster runs on {self.grid}, but {store.path} is on {store.grid}")
        return store

    def forecasts(self, batch: Rollouts) -> dict[int, Tensor]:
        """Forecasts [B, C, H', W'] of the ages that are wanted, in hours."""
        step, kept = self.forecaster.step_hours, {}
        with torch.no_grad():
            for number, forecast in enumerate(
                rollout(self.forecaster, batch.states, max(batch.hours) // step), 1
            ):
                if number * step in batch.hours:
                    kept[number * step] = self.reduce(forecast)
                # Not held during the next step.
                del forecast
        return kept

    # --- what subclasses say -------------------------------------------------------------------------

    @abstractmethod
    def lay_out(self, recipe: dict[str, str | int]) -> None:
        """Write the empty store at ``partial``, with the recipe among its attributes."""

    @abstractmethod
    def parts(self, sample: int) -> list[tuple[int, int]]:
        """The forecasts that a sample is made of: number of the initial time, age in hours."""

    @abstractmethod
    def combine(self, sample: int, forecasts: list[Tensor]) -> dict[str, np.ndarray]:
        """The fields of a sample by array, in physical units, from forecasts [C, H', W'] as in ``parts``."""

    @abstractmethod
    def set_scales(self, fields: dict[str, np.ndarray]) -> None:
        """Write what all samples are scaled by, given the fields of the first."""

    @abstractmethod
    def encode(self, sample: int, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Fields as they are stored.

        Raises:
            UserError: when they cannot be.
        """

    @abstractmethod
    def summary(self, fields: dict[str, np.ndarray]) -> np.ndarray:
        """What statistics need to know of the samples of a block, as stored, [N, ...] by array."""

    @abstractmethod
    def finish(self, summaries: Iterator[np.ndarray]) -> None:
        """Write the statistics, from the summaries of all blocks in order."""
