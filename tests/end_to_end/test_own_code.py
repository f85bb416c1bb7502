"""Code of one's own that a config names, and that was edited between two commands."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.commands import predict, refused
from tests.end_to_end.conftest import SPEC

FUNCTION = """import numbers_of_mine
from torch import Tensor
def step(states: Tensor) -> Tensor:
    return numbers_of_mine.RATE * states[:, -1]
"""
METHOD = """import vaevar
class Nudging(vaevar.OptimalInterpolation):
    WEIGHT = {}
    def helps(self):
        return self.WEIGHT
"""


class Own:
    """The modules, as a new process would find them."""

    def write(self, name: str, text: str) -> None:
        Path(f"{name}.py").write_text(text)
        for module in ("steady", "nudging", "numbers_of_mine"):
            sys.modules.pop(module, None)
        importlib.invalidate_caches()


@pytest.fixture
def own(configs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Own]:
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = Own()
    found.write("numbers_of_mine", "RATE = 1.0\n")
    found.write("steady", FUNCTION)
    found.write("nudging", METHOD.format(1))
    yield found
    for module in ("steady", "nudging", "numbers_of_mine"):
        sys.modules.pop(module, None)


@pytest.fixture
def config(own: Own, configs: dict[str, Path], tmp_path: Path) -> Path:
    content: dict[str, Any] = yaml.safe_load(configs["predict"].read_text())
    arguments = content["model"]["init_args"]
    arguments["forecaster"] = {
        "class_path": "vaevar.models.forecaster.function.FunctionForecaster",
        "init_args": {"function": "steady.step", "grid": "gaussian", "shape": [16, 32], "spec": SPEC},
    }
    arguments["arms"] = {"oi": {"class_path": "nudging.Nudging", "init_args": {"length_km": 1500.0}}}
    content["data"]["init_args"]["analyses"] = 2
    content["trainer"]["callbacks"] = [{"class_path": "vaevar.assim.cycle.cycle.Cycle"}]
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("steady", lambda text: text.replace("RATE *", "RATE * 0.999 *")),
        ("numbers_of_mine", lambda text: text.replace("1.0", "0.999")),
        ("nudging", lambda text: text.replace("WEIGHT = 1", "WEIGHT = 2")),
    ],
)
def test_a_run_does_not_go_on_with_other_code(
    own: Own, config: Path, file: str, change: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    predict(config, "--name", "mine")
    (path,) = Path("runs").rglob("provenance.json")
    text = Path(f"{file}.py").read_text()
    own.write(file, f'"""Mine."""\n\n# said\n{text}')
    predict(config, "--name", "mine", "--data.init_args.analyses", "3")
    own.write(file, change(text))
    line = refused(config, capsys, "--name", "mine", "--data.init_args.analyses", "4")
    assert f"holds another experiment: {file}.py: its code has changed since the run began; choose" in line
    assert "--restart" in line
    own.write(file, text)
    predict(config, "--name", "mine", "--data.init_args.analyses", "4")
    # An earlier version has not recorded it, and its runs go on.
    own.write(file, change(text))
    record = json.loads(path.read_text())
    record["settings"] = {name: value for name, value in record["settings"].items() if " of " not in name}
    path.write_text(json.dumps(record))
    predict(config, "--name", "mine", "--data.init_args.analyses", "5")
    assert "code of" in path.read_text()
