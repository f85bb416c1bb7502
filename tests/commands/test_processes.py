"""How many processes share out arms, and nodes that are not told which one they are."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
from jsonargparse import Namespace

from vaevar.commands.processes import require_nodes, share_among
from vaevar.errors import UserError
from vaevar.mistakes.notices import Notice


@pytest.mark.parametrize(
    ("devices", "used"),
    [(9, 2), ("9", 2), (3, 2), ([0, 3, 5], [0, 3]), ("0,3,5", [0, 3])],
)
def test_no_more_processes_than_arms(devices: Any, used: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaevar.mistakes.notices._told", [])
    trainer = Namespace(devices=devices)
    with pytest.warns(
        Notice, match=r"trainer\.devices is .*, but there are 2 arms .* give --trainer\.devices 2"
    ):
        share_among(2, trainer)
    assert trainer.devices == used


@pytest.mark.parametrize("devices", [1, 2, "2", "auto", -1, "-1", [1], [0, 3], None, "0,", "0,x", ""])
def test_what_fits_stays(devices: Any) -> None:
    trainer = Namespace(devices=devices)
    share_among(2, trainer)
    assert trainer.devices == devices


def test_a_launcher_has_started_its_processes_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    trainer = Namespace(devices=3)
    share_among(2, trainer)
    assert trainer.devices == 3


def test_a_process_that_was_started_says_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    trainer = Namespace(devices=3)
    share_among(2, trainer)
    assert trainer.devices == 2


def test_nodes_know_which_one_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "strategy": "ddp", "logger": False}
    require_nodes(L.Trainer(**settings))
    with pytest.raises(UserError, match="num_nodes is 2, but nothing says which node this is"):
        require_nodes(L.Trainer(**settings, num_nodes=2))
    for name, value in (("MASTER_ADDR", "10.0.0.1"), ("NODE_RANK", "1")):
        monkeypatch.setenv(name, value)
    require_nodes(L.Trainer(**settings, num_nodes=2))
