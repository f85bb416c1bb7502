"""The tutorials of docs/adding: files dropped into a copy of the package, and nothing else changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.docs.blocks import ROOT, files_of
from tests.end_to_end.conftest import SPEC
from tests.end_to_end.conftest import configs as configs
from tests.end_to_end.conftest import world as world  # the fixtures

LONGEST = 30  # lines of an example


def examples() -> dict[str, str]:
    """The text of each example by its path, which stands in its first line."""
    pages = (ROOT / "docs" / "adding" / f"{name}.md" for name in ("method", "forecaster", "operator"))
    return {path: block.text.partition("\n")[2] for page in pages for path, block in files_of(page).items()}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the program with the examples' files in it."""
    copy = tmp_path / "program"
    shutil.copytree(ROOT / "vaevar", copy / "vaevar", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", copy / "configs")
    (copy / "weights").symlink_to(ROOT / "weights")
    shutil.copy(ROOT / "main.py", copy)
    for path, text in examples().items():
        assert not (copy / path).exists(), f"{path}: an example adds a file and changes none"
        (copy / path).write_text(text, encoding="utf-8")
    return copy


def run(package: Path, *words: str, where: Path) -> str:
    """What the copy's main.py prints; modules of ``where`` can be imported."""
    command = [sys.executable, str(package / "main.py"), *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(where)}
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_there_is_an_example_of_each_kind_and_it_is_short() -> None:
    lengths = {path: len(text.strip().splitlines()) for path, text in examples().items()}
    assert [Path(path).parts[0] for path in lengths] == ["vaevar", "configs"] * 3
    assert max(lengths.values()) <= LONGEST, lengths


def test_the_configs_can_be_read_beside_the_main_one(package: Path) -> None:
    overlays = [path for path in examples() if path.startswith("configs/")]
    words = [word for path in ["configs/cycle_sparse.yaml", *overlays] for word in ("--config", path)]
    printed = yaml.safe_load(run(package, "predict", *words, "--print_config", where=package))
    model, data = printed["model"]["init_args"], printed["data"]["init_args"]
    assert model["forecaster"]["class_path"].endswith(".Persistence")
    assert data["network"]["init_args"]["quantities"] == ["thickness"]


def test_the_examples_run(package: Path, configs: dict[str, Path], tmp_path: Path) -> None:
    """All three at once, in the small world: the forecaster and the network are of its size."""
    content: dict[str, Any] = yaml.safe_load(configs["predict"].read_text())
    model, data = content["model"]["init_args"], content["data"]["init_args"]
    model["forecaster"] = {
        "class_path": "Persistence", "init_args": {"rows": 16, "columns": 32, "spec": SPEC}
    }  # fmt: skip
    model["arms"] = {"free": {"class_path": "FreeRun"}, "nudging": {"class_path": "Nudging"}}
    data["network"]["init_args"]["count"] = 200
    (tmp_path / "nudging.yaml").write_text(yaml.safe_dump(content))
    run(package, "predict", "--config", "nudging.yaml", where=tmp_path)
    scores = pd.read_csv(Path("runs/cycle/scores.csv")).query("quantity == 'analysis'")
    rmse = scores.groupby("arm")["rmse"].mean()
    assert rmse["nudging"] < 0.9 * rmse["free"]

    # Errors of z500 and of z850, alike everywhere: the thickness sees their difference.
    (tmp_path / "controls.py").write_text(
        "import torch\n"
        "from vaevar.assim.control.base import LinearControl\n"
        "from vaevar.sphere.grid import Grid\n"
        "from vaevar.state import StateSpec\n"
        f"SPEC, GRID = StateSpec(**{SPEC!r}), Grid.gaussian(16)\n"
        "class Uniform(LinearControl):\n"
        "    def __init__(self) -> None:\n"
        "        matrix = torch.zeros(len(SPEC), 512, 2)\n"
        "        matrix[SPEC.index('z500'), :, 0] = matrix[SPEC.index('z850'), :, 1] = 400.0\n"
        "        super().__init__(matrix.reshape(-1, 2), SPEC, GRID)\n"
    )
    control = {"control": {"class_path": "controls.Uniform"}}
    model["arms"] = {"variational": {"class_path": "VariationalAssimilator", "init_args": control}}
    data["network"]["init_args"]["quantities"] = ["thickness"]
    data["errors"] = {"others": {"thickness": 10.0}}
    content["trainer"]["logger"]["init_args"]["name"] = "thickness"
    (tmp_path / "thickness.yaml").write_text(yaml.safe_dump(content))
    run(package, "predict", "--config", "thickness.yaml", where=tmp_path)
    diagnostics = pd.read_csv(Path("runs/thickness/variational/diagnostics.csv"))
    assert (diagnostics["j_o"] < diagnostics["j_o_initial"]).all()
