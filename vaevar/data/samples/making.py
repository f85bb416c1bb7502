"""Makes a store from roll-outs, once, with any number of processes, whatever interrupts it.

The store is built beside its final place and moved there when complete. The samples of one file, a *block*,
are written together; once they are on the disk, a summary beside them marks the block as done, so a killed
run resumes with the blocks that have none. The statistics are computed from the summaries in their order and
are the same for any number of processes. A complete store is left alone if its attributes say that it was
made the same way.

:meth:`StoreBuilder.make` works in this process; :mod:`vaevar.data.samples.predict_loop` in the predict loop
of a trainer, in all its processes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import zarr
from filelock import BaseFileLock, Timeout

from vaevar.content.arrays import read_array
from vaevar.data.samples.layout import SampleWriter, check_format, lay_out, zonal_sums
from vaevar.data.samples.origin import check_origin, origin
from vaevar.data.samples.rollout_errors import HOUR, RolloutErrors
from vaevar.data.samples.rollouts import RolloutShare
from vaevar.errors import UserError
from vaevar.files import check_disk, file_lock, place_of_store, save_array
from vaevar.progress import progress


class StoreBuilder:
    """One store and how far it is made.

    Args:
        path: where the finished store goes.
        errors: what its samples are made of.

    Raises:
        UserError: when a file lies there.
    """

    def __init__(self, path: Path, errors: RolloutErrors) -> None:
        path = place_of_store(path)
        self.path, self.errors = path, errors
        self.partial = path.with_name(path.name + ".partial")
        self.progress = path.with_name(path.name + ".progress")
        self._lock: BaseFileLock | None = None
        self._writer = SampleWriter(self.partial, errors.spec, errors.grid)

    def make(self) -> None:
        """Make the store in this process, or check the one that exists.

        Raises:
            UserError: when the existing store was made another way, or the disk is too full.
        """
        if not self.begin():
            return
        try:
            share = self.share()
            title = f"{self.path.name} ({self.errors.leads[-1]} h roll-outs)"
            with progress(title, len(share)) as advance:
                for number, batch in enumerate(share, start=1):
                    share.take(batch, self.errors.forecasts(batch.states, batch.hours))
                    advance(number)
            self.complete()
        finally:
            self.release()

    def begin(self) -> bool:
        """Lay the store out, or resume what a killed run left, or check the store that exists.

        Returns:
            whether samples are missing. If so, the lock is held.

        Raises:
            UserError: when the existing store was made another way, or the disk is too full.
        """
        # Without a lock: where the store is complete, its directory may be read-only.
        if self._complete():
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = file_lock(self.path.with_name(self.path.name + ".lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            print(f"{self.path}: another process is making it; waiting for that")
            self._lock.acquire()
        begun = False
        try:
            if not self._complete():
                self._lay_out_or_resume()
                if self.missing():
                    begun = True
                else:  # killed before its last steps
                    self.complete()
        finally:
            if not begun:
                self.release()
        return begun

    def release(self) -> None:
        """Let go of the lock, if :meth:`begin` has taken it."""
        if self._lock is not None:
            self._lock.release()

    def _complete(self) -> bool:
        """Whether the store is there, and made this way."""
        if not self.path.is_dir():
            return False
        self._check(self.path, self.errors.recipe)
        shutil.rmtree(self.progress, ignore_errors=True)  # of a run killed in its last step
        return True

    def _lay_out_or_resume(self) -> None:
        errors = self.errors
        recipe = errors.recipe | {"samples_per_file": errors.samples_per_file}
        resumed = self.progress.is_dir() and self.partial.is_dir()
        if resumed:
            self._check(self.partial, recipe)
        else:
            shutil.rmtree(self.progress, ignore_errors=True)
            shutil.rmtree(self.partial, ignore_errors=True)
            lay_out(
                self.partial, errors.fields, errors.times, errors.leads, errors.spec, errors.grid, recipe,
                errors.samples_per_file,
            )  # fmt: skip
        left, total = sum(map(len, self.missing().values())), len(errors.times)
        size = sum(array.nbytes for _, array in zarr.open_group(self.partial, mode="r").arrays())
        try:
            check_disk(self.path, size * left // total, f"{left} of {total} samples to make")
        except UserError:
            if not resumed:
                shutil.rmtree(self.partial)
            raise
        errors.source.prepare(errors.start, errors.end)
        if not resumed:
            # Now that the source is there for certain.
            zarr.open_group(self.partial, mode="r+").attrs.update(origin(errors))
            # One scale for all samples: set before processes share them out.
            share = RolloutShare(self, {0: range(1)})
            for batch in share:
                for _, fields in share.samples(batch, errors.forecasts(batch.states, batch.hours)):
                    self._writer.set_scales(fields)
            self.progress.mkdir()

    def _check(self, path: Path, recipe: dict[str, str | int]) -> None:
        """Refuse a store made another way, or of something else, rather than train on it unawares."""
        attributes = check_format(path)
        for key, value in recipe.items():
            if attributes.get(key) != value:
                raise UserError(
                    f"{path}: was made with {key} = {attributes.get(key)!r}, but the config now says "
                    f"{value!r}; delete it to make it again, or give another path"
                )
        check_origin(path, attributes, self.errors)

    def complete(self) -> None:
        """Write the statistics when all samples are there, and move the store to its place."""
        self._writer.finish(read_array(self._summary(number)) for number in sorted(self._blocks()))
        self.partial.rename(self.path)
        shutil.rmtree(self.progress, ignore_errors=True)

    def _blocks(self) -> dict[int, range]:
        """The samples of each block."""
        size, total = self.errors.samples_per_file, len(self.errors.times)
        return {start // size: range(start, min(start + size, total)) for start in range(0, total, size)}

    def _summary(self, block: int) -> Path:
        return self.progress / f"{block}.npy"

    def missing(self) -> dict[int, range]:
        """The samples of each block that is yet to be made."""
        if self.path.is_dir():
            return {}
        done = {path.stem for path in self.progress.glob("*.npy")}
        return {number: samples for number, samples in self._blocks().items() if str(number) not in done}

    def share(self, rank: int = 0, count: int = 1) -> RolloutShare:
        """The missing blocks that process ``rank`` of ``count`` is to make, consecutive ones."""
        missing = self.missing()
        own = np.array_split(np.array(list(missing), dtype=int), count)[rank]
        return RolloutShare(self, {int(number): missing[int(number)] for number in own})

    def encode(self, sample: int, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A sample's fields [lead, C, H, W], physical units -> float16 as stored.

        Raises:
            UserError: when a value is not finite or out of all proportion.
        """
        return self._writer.encode(fields, self.errors.times[sample] + self.errors.leads[0] * HOUR)

    def write_block(self, number: int, samples: range, stored: dict[str, np.ndarray]) -> None:
        """Write all samples of a block, [N, lead, C, H, W] of each field, and then mark it as done."""
        self._writer.write(samples, stored)
        save_array(self._summary(number), zonal_sums(stored))
