"""Restart files: everything that an arm needs to go on, checked before it is believed."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaevar.assim.cycle.standing import Standing
from vaevar.content.kinds import what_is
from vaevar.content.tensors import read_tensors
from vaevar.data.analysis_times import AnalysisTimes
from vaevar.data.observations.coverage import MAPS
from vaevar.data.times import moment
from vaevar.errors import UserError, one_line
from vaevar.files import save_tensors
from vaevar.mistakes.words import setting, words
from vaevar.state import State, StateSpec

LATEST, EARLIER = "restart.pt", "restart.before.pt"
_LABELS = ("arm", "channels", "time", "latitude", "longitude")
_SAME = 1e-10  # of two means of the same numbers, which machines add in another order


class RestartFiles:
    """The restart files of one arm: the latest, and an earlier one that no power cut takes.

    A file that was renamed into its place outlives the process, but not a power cut: for half a minute it may
    be in memory alone, and so may the tables that belong to it. So from time to time a restart is *settled*:
    forced to the disk, after the tables of the same directory. It becomes the earlier one when the next is
    written.

    Args:
        directory: of the arm.
        data: of the cycle.
        history: states in a trajectory.
    """

    def __init__(self, directory: Path, data: AnalysisTimes, history: int) -> None:
        self.directory, self._data = directory, data
        self._shape = (history, len(data.spec), *data.store.grid.shape)
        self._settled = False

    def write(self, restart: Standing, settle: bool, truth: float | None = None) -> None:
        """Replace the latest restart.

        Args:
            restart: of the arm.
            settle: force it and the arm's tables to the disk.
            truth: :func:`mean_of` the truth of the last analysis, by which another truth is known.
        """
        grid = self._data.store.grid
        content = {
            "arm": self.directory.name,
            "time": _time_of(self._data, restart.next_index),
            "channels": list(self._data.spec.names),
            "latitude": grid.latitude.tolist(),
            "longitude": grid.longitude.tolist(),
            **_stored(restart),
        }
        if truth is not None:
            content["truth"] = truth
        if restart.pasts:
            content["pasts"] = [_stored(past) for past in restart.pasts]
        latest = self.directory / LATEST
        if settle:
            for table in self.directory.glob("*.csv"):
                _force_to_disk(table)
        if self._settled:
            os.replace(latest, self.directory / EARLIER)
        save_tensors(latest, content)
        if settle:
            _force_to_disk(latest)
        self._settled = settle

    def remove(self) -> None:
        """The arm starts again."""
        for name in (LATEST, EARLIER):
            (self.directory / name).unlink(missing_ok=True)

    def read(self) -> list[Standing]:
        """The restarts that are there, the latest first; a damaged one is passed over with a message.

        Raises:
            UserError: when all that are there are damaged; or one is of another truth, of another grid, of
                other channels or times, or beyond the end of the cycle.
        """
        paths = [path for path in (self.directory / LATEST, self.directory / EARLIER) if path.is_file()]
        damaged, restarts = [], []
        for path in paths:
            try:
                content = read_tensors(path)
                restart = replace(_standing(content), pasts=tuple(map(_standing, content.get("pasts", ()))))
                others = {name: content[name] for name in _LABELS if name in content}
            except Exception as error:  # unpickling raises many kinds; each means "not a restart"
                reason = one_line(error)[:200]
                damaged.append(f"{path}: not a restart file of a cycle but {what_is(path)} ({reason})")
                continue
            if restart.next_index >= 0:
                self._check_labels(path, restart, others)
                self._check_truth(path, restart, content.get("truth"))
            reason = next(filter(None, map(self._damage, (restart, *restart.pasts))), "")
            if reason:
                damaged.append(f"{path}: damaged, {reason}")
            else:
                restarts.append(restart)
        if damaged and not restarts:
            raise UserError(f"{damaged[0]}; delete it, and the arm is made again from its first analysis")
        for text in damaged:
            print(f"{text}; the other restart file is used", flush=True)
        return restarts

    def _check_labels(self, path: Path, restart: Standing, labels: dict[str, Any]) -> None:
        """Refuse a restart of another cycle. Files of earlier versions have no labels."""
        count = len(self._data.times)
        if restart.next_index > count:
            raise UserError(
                f"{path}: its next analysis is number {restart.next_index}, but the cycle has only {count}; "
                f"set {setting('data.init_args.analyses')} to at least {restart.next_index}"
            )
        grid = self._data.store.grid
        expected: dict[str, Any] = {
            "arm": self.directory.name,
            "channels": list(self._data.spec.names),
            "time": _time_of(self._data, restart.next_index),
            "latitude": grid.latitude.tolist(),
            "longitude": grid.longitude.tolist(),
        }
        for name, value in labels.items():
            if value != expected[name]:
                found, wanted = (_short(item) for item in (value, expected[name]))
                raise UserError(
                    f"{path}: is of another cycle: its {name} is {found}, this one's is {wanted}; "
                    f"{words().another}, or {words().restart}"
                )

    def _check_truth(self, path: Path, restart: Standing, truth: float | None) -> None:
        """Refuse a restart whose last analysis was of another truth than is there now.

        A generated truth is not the same on every machine: after some weeks it is other weather.
        """
        if truth is None:  # of an earlier version, or after a gap
            return
        time = self._data.times[restart.next_index - 1]
        try:
            here = mean_of(self._data.store.state(time))
        except UserError:  # a gap now; what may be done then is told when the cycle comes to one
            return
        if not math.isclose(here, truth, rel_tol=_SAME):
            raise UserError(
                f"{path}: was made with another truth: the mean of its state of {moment(time)} was "
                f"{truth:.9g}, that of {self._data.source.description} here is {here:.9g} (generated weather "
                "differs between machines); bring the data along that the run was begun with, or "
                f"{words().restart}"
            )

    def _damage(self, restart: Standing) -> str:
        """What is wrong with a restart; empty if nothing is."""
        if restart.next_index < 0:
            return f"its next analysis is number {restart.next_index}"
        wanted = {"trajectory": self._shape, "coverage": (MAPS, *self._shape[2:])}
        for name, shape in wanted.items():
            values = getattr(restart, name)
            if not isinstance(values, Tensor) or tuple(values.shape) != shape:
                found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
                return f"its {name} is {found}, expected {shape}"
            if not values.is_floating_point() or not bool(values.isfinite().all()):
                return f"its {name} is not finite"
        try:
            State(restart.trajectory, self._data.spec, self._data.store.grid)
        except ValueError as error:
            return str(error)
        return _out_of_range(restart.trajectory, self._data.spec)


def mean_of(state: State) -> float:
    """The mean of all numbers of a state, which hardly another state has."""
    return float(state.values.mean(dtype=torch.float64))


def _stored(standing: Standing) -> dict[str, Any]:
    """What :func:`_standing` makes it from again."""
    return {
        "next_index": standing.next_index,
        "trajectory": standing.trajectory.cpu(),
        "coverage": standing.coverage.cpu(),
    }


def _standing(content: dict[str, Any]) -> Standing:
    return Standing(int(content["next_index"]), content["trajectory"], content["coverage"])


def _out_of_range(states: Tensor, spec: StateSpec) -> str:
    """A value that no forecast of an arm that goes on has, beyond its range by half of that; or nothing."""
    low, high = states.amin((0, -2, -1)).double(), states.amax((0, -2, -1)).double()
    lowest, highest = spec.points
    margin = (highest - lowest) / 2
    fine = (low >= lowest - margin) & (high <= highest + margin)
    if bool(fine.all()):
        return ""
    number = int(fine.int().argmin())
    return (
        f"its {spec.names[number]} is {low[number]:.4g} to {high[number]:.4g}, expected "
        f"{lowest[number]:g} to {highest[number]:g}"
    )


def analyses_made(directory: Path) -> int:
    """How many analyses an arm has, by its latest restart that can be read; 0 without one.

    Args:
        directory: of the arm.
    """
    for path in (directory / LATEST, directory / EARLIER):
        try:
            content = read_tensors(path, mmap=True, whole=False)
            return int(content["next_index"])
        except Exception:  # of many kinds; what it means is said when the arm goes on
            continue
    return 0


def _time_of(data: AnalysisTimes, index: int) -> str:
    step = np.timedelta64(data.step_hours, "h")
    return str((data.start + index * step).astype("datetime64[s]"))


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _force_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
