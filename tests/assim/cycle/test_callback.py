"""Lightning's hooks reach the typed ones, with the parts of the cycle."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest

from vaevar.assim.cycle import callback
from vaevar.assim.cycle.callback import CycleCallback
from vaevar.errors import UserError

HOOKS = ("before_cycle", "before_analysis", "after_analysis", "after_cycle")


class Recorder(CycleCallback):
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        for name in HOOKS:
            setattr(self, name, lambda *arguments, hook=name: self.calls.append((hook, *arguments)))


def run(recorder: CycleCallback, trainer: Any, module: Any) -> None:
    recorder.on_predict_start(trainer, module)
    recorder.on_predict_batch_start(trainer, module, "time", 0)
    recorder.on_predict_batch_end(trainer, module, "results", "time", 0)
    recorder.on_predict_end(trainer, module)


def test_hooks_get_module_data_time_and_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback, "parts_of", lambda trainer, module: (module, trainer.datamodule))
    recorder = Recorder()
    run(recorder, SimpleNamespace(datamodule="data"), "module")
    assert recorder.calls == [
        ("before_cycle", "module", "data"),
        ("before_analysis", "module", "data", "time"),
        ("after_analysis", "module", "data", "time", "results"),
        ("after_cycle", "module", "data"),
    ]


def test_hooks_do_nothing_by_default_and_other_modules_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer: Any = SimpleNamespace(datamodule=L.LightningDataModule())
    with pytest.raises(UserError, match="AssimilationModule"):
        CycleCallback().on_predict_start(trainer, L.LightningModule())
    monkeypatch.setattr(callback, "parts_of", lambda trainer, module: (module, trainer.datamodule))
    run(CycleCallback(), trainer, "module")
