"""A zarr store made sample by sample from roll-outs of a forecaster, once, whatever interrupts it.

It is built beside its place and moved there when complete; a lock keeps a second process out until then,
and a killed process' work is gone on with. A store that is there already is left alone if it was made the
same way, which its attributes say.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import zarr
from filelock import FileLock
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from vaevar.data.era5 import Source, WeatherStore
from vaevar.errors import UserError
from vaevar.models.protocol import Forecaster


class ResumableStore(ABC):
    """One store in the making; subclasses say what a sample is.

    Attributes:
        initial: [N] datetime64[h], initial times of the roll-outs.
        recipe: what the store is made of; kept among its attributes.
    """

    title: str
    initial: np.ndarray
    recipe: dict[str, str | int]

    def __init__(
        self,
        path: Path,
        source: Source,
        forecaster: Forecaster,
        start: np.datetime64,
        end: np.datetime64,
        batch_size: int,
    ) -> None:
        self.path, self.source, self.forecaster = path, source, forecaster
        self.start, self.end, self.batch_size = start, end, batch_size
        self.spec, self.grid = forecaster.spec, forecaster.grid

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
        """Make the store, or check the one that is there.

        Raises:
            UserError: when the store there was made otherwise.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(self.path.name + ".lock")):
            if self.path.is_dir():
                self._check(self.path)
            else:
                self._run()

    def _check(self, path: Path) -> None:
        """Refuse a store made in another way, rather than train on it unawares."""
        found = dict(zarr.open_group(path, mode="r").attrs)
        for key, wanted in self.recipe.items():
            if found.get(key) != wanted:
                raise UserError(
                    f"{path}: was made with {key} = {found.get(key)!r}, but the config now says "
                    f"{wanted!r}; delete it to make it anew, or give another path"
                )

    def _run(self) -> None:
        partial = self.path.with_name(self.path.name + ".partial")
        progress_file = partial / "progress.json"
        if progress_file.is_file():
            self._check(partial)
            done = int(json.loads(progress_file.read_text())["samples"])
        else:
            shutil.rmtree(partial, ignore_errors=True)
            self.lay_out(partial)
            self._check_disk(partial)
            done = 0
        group = zarr.open_group(partial, mode="r+")

        def array(name: str) -> zarr.Array:
            found = group[name]
            assert isinstance(found, zarr.Array)
            return found

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as progress:
            task = progress.add_task(self.title, total=self.samples, completed=done)
            for written in self.write_samples(array, done):
                # Samples come in order, so their number says all; it is written after the fields.
                beside = progress_file.with_suffix(".new")
                beside.write_text(json.dumps({"samples": written}))
                beside.replace(progress_file)
                progress.update(task, completed=written)
        self.finish(array)
        progress_file.unlink()
        partial.rename(self.path)

    def _check_disk(self, partial: Path) -> None:
        """Say what the store will need, and do not begin what cannot end."""
        need = sum(array.nbytes for _, array in zarr.open_group(partial, mode="r").arrays())
        free = shutil.disk_usage(partial).free
        told = f"at most {need / 1e9:.1f} GB (free: {free / 1e9:.0f} GB)"
        print(f"{self.path}: {self.samples} samples, {told}")
        if need > free:
            shutil.rmtree(partial)
            raise UserError(
                f"{self.path}: {need / 1e9:.1f} GB may be needed, but only {free / 1e9:.1f} GB are free "
                "there; make room, give another path, fewer samples, or a coarser grid"
            )

    @property
    @abstractmethod
    def samples(self) -> int:
        """How many there will be."""

    @abstractmethod
    def lay_out(self, partial: Path) -> None:
        """Write the empty store, with the recipe among its attributes."""

    @abstractmethod
    def write_samples(self, array: Callable[[str], zarr.Array], done: int) -> Iterator[int]:
        """Write the samples from number ``done`` on, and yield how many there are after each."""

    @abstractmethod
    def finish(self, array: Callable[[str], zarr.Array]) -> None:
        """Write what is known when all samples are there."""

    def open_source(self) -> WeatherStore:
        """The states, prepared.

        Raises:
            UserError: when they are on another grid than the forecaster.
        """
        self.source.prepare(self.start, self.end)
        store = self.source.open(self.spec)
        if store.grid != self.grid:
            raise UserError(f"the forecaster runs on {self.grid}, but {store.path} is on {store.grid}")
        return store

    def initial_states(self, store: WeatherStore, done: int) -> Iterator[tuple[int, np.ndarray, Tensor]]:
        """Batches of roll-outs: the first one's number, initial times [B], states [B, history, C, H, W].

        They begin at multiples of the batch size, also after a resume, since a network's last bits may
        depend on what shares its batch.
        """
        history, step = self.forecaster.history, self.forecaster.step_hours
        before = np.arange(history - 1, -1, -1) * np.timedelta64(step, "h")
        for begin in range(done // self.batch_size * self.batch_size, self.initial.size, self.batch_size):
            initial = self.initial[begin : begin + self.batch_size]
            states = torch.from_numpy(store.read((initial[:, None] - before).reshape(-1)))
            yield begin, initial, states.reshape(initial.size, history, *states.shape[1:])
