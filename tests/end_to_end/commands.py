"""Commands of the tests of cycles, given in this process, and the arms that several of them run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vaevar.cli import main

FREE_AND_OI: dict[str, Any] = {
    "free": {"class_path": "vaevar.assim.assimilator.FreeRun"},
    "oi": {
        "class_path": "vaevar.assim.interpolation.optimal.OptimalInterpolation",
        "init_args": {"length_km": 1500.0},
    },
}


def predict(config: Path, *words: str) -> None:
    main(["predict", "--config", str(config), *words])


def refused(config: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a predict that is refused."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        predict(config, *words)
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    return line
