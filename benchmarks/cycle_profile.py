"""The time of each part of a cycle: reading, arms, forecaster, writing, scores."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.profilers import Profiler
from measuring import wait

from vaevar.assim.cycle.callback import parts_of
from vaevar.errors import UserError

READING, FORECASTER, REST = "reading truth and observations", "forecaster", "the rest"
_ARM = "arm "
_NEXT = "[_PredictionLoop].predict_next"


class ExclusiveTimes(Profiler):
    """Seconds of each action, without the actions nested in it.

    Args:
        device: synchronised at both ends of each action, so that a GPU's work counts where it was launched.
        round_: the first action of each round of a loop; the first round, which sets things up, does not
            count.

    Attributes:
        seconds: by action; time between actions is under "".
        busy_seconds: the same, in processor time on a CPU (:class:`measuring.Timer`).
        calls: number of calls of each action.
    """

    def __init__(self, device: torch.device | str = "cpu", round_: str | None = None) -> None:
        super().__init__()
        self.device, self._round, self._rounds = torch.device(device), round_, 0
        self._open = [""]
        self.clear()

    def clear(self) -> None:
        """Start counting; open actions stay open."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.busy_seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._since = self._now()

    def start(self, action_name: str) -> None:
        self._charge()
        if action_name == self._round:
            self._rounds += 1
            if self._rounds == 2:
                self.clear()
        self._open.append(action_name)
        self.calls[action_name] += 1

    def stop(self, action_name: str) -> None:
        self._charge()
        if self._open[-1] != action_name:
            raise ValueError(f"{action_name} stopped, but {self._open[-1] or 'nothing'} was started last")
        self._open.pop()

    def _now(self) -> tuple[float, float]:
        wait(self.device)
        clock = time.perf_counter()
        return clock, time.process_time() if self.device.type == "cpu" else clock

    def _charge(self) -> None:
        before, self._since = self._since, self._now()
        self.seconds[self._open[-1]] += self._since[0] - before[0]
        self.busy_seconds[self._open[-1]] += self._since[1] - before[1]


class CycleProfile(L.Callback):
    """Writes ``<run>/profile.json``: seconds per analysis time of each part of a cycle, on the first rank, in
    wall-clock and in processor time.

    The parts are each arm, the forecaster, reading truth and observations, and each callback, such as
    ``StateWriter``, ``Scores``, and ``Cycle`` for restart files. The first analysis, which sets things up, is
    left out. Replaces the trainer's profiler.

    Raises:
        UserError: for a cycle of one analysis.
    """

    def __init__(self) -> None:
        self.times = ExclusiveTimes()
        self._undo: list[Callable[[], object]] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        module, data = parts_of(trainer, pl_module)
        if data.times.size < 2:
            raise UserError(
                "CycleProfile leaves the first analysis out: set data.init_args.analyses to 2 or more"
            )
        self.times = times = ExclusiveTimes(trainer.strategy.root_device, _NEXT)
        trainer.profiler = times  # type: ignore[attr-defined]
        for name, arm in module.arms.items():
            before = arm.register_forward_pre_hook(lambda *_, action=name: times.start(_ARM + action))
            after = arm.register_forward_hook(lambda *_, action=name: times.stop(_ARM + action))
            self._undo += [before.remove, after.remove]
        forecaster = module.forecaster
        step = forecaster.step

        def timed(states: torch.Tensor) -> torch.Tensor:
            with times.profile(FORECASTER):
                return step(states)

        forecaster.step = timed  # type: ignore[method-assign]
        self._undo.append(lambda: setattr(forecaster, "step", step))

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module, data = parts_of(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        analyses = data.times.size - 1
        content: dict[str, Any] = {"analyses": analyses}
        for name in ("seconds", "busy_seconds"):
            parts: dict[str, float] = defaultdict(float)
            for action, spent in getattr(self.times, name).items():
                parts[part_of(action)] += spent / analyses
            content[name] = dict(sorted(parts.items(), key=lambda one: -one[1]))
        (module.directory / "profile.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for undo in self._undo:
            undo()
        self._undo = []


def part_of(action: str) -> str:
    """The part of a cycle that a profiled action belongs to."""
    if action == _NEXT:
        return READING
    callback = re.match(r"\[Callback\](\w+)", action)
    if callback and callback[1] != "CycleProfile":
        return callback[1]
    return action if action == FORECASTER or action.startswith(_ARM) else REST
