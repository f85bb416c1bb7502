"""Short names of classes in configs, part files, and what is said of a misspelt name."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from jsonargparse import ArgumentError
from lightning.pytorch.loggers import Logger
from torch import nn

import vaevar.assim
from vaevar import short_names
from vaevar.assim.assimilator import Assimilator, FreeRun
from vaevar.assim.diffda.diffda import DiffDA
from vaevar.assim.interpolation.linear import LinearInterpolation
from vaevar.assim.interpolation.optimal import OptimalInterpolation
from vaevar.data.observations.networks import ColumnNetwork, Network
from vaevar.data.weather.speedy import SpeedyWorld
from vaevar.data.weather.store import Source
from vaevar.forecast import Forecaster
from vaevar.scripts import instantiate, read_contents, run
from vaevar.short_names import accept_short_names, misspelt, modules_of_classes, resolve_names

KINDS = (nn.Module, L.Callback, L.LightningDataModule, Logger, Network, Source, Forecaster)


class Holder:
    """What a config fills."""

    def __init__(self, arms: dict[str, Assimilator], network: Network, source: Source | None = None) -> None:
        self.arms, self.network, self.source = arms, network, source


def test_no_two_classes_of_a_kind_share_a_name() -> None:
    for name, modules in modules_of_classes().items():
        classes = [getattr(importlib.import_module(module), name) for module in modules if len(modules) > 1]
        for kind in KINDS:
            same = [cls for cls in classes if kind in cls.__mro__ and cls.__init__ is not object.__init__]
            assert len(same) < 2, f"{kind.__name__} {name} is ambiguous: {modules}"


@pytest.mark.parametrize(
    "name",
    ["ThreeDVar", "VAEVar", "FreeRun", "DiffDA", "OptimalInterpolation", "OnnxForecaster", "ColumnNetwork",
     "SpeedyWorld", "StoreSource", "AssimilationModule", "AnalysisTimes", "Cycle", "Scores", "VAE"],
)  # fmt: skip
def test_a_class_path_becomes_the_full_one(name: str) -> None:
    (module,) = modules_of_classes()[name]
    spec: dict[str, Any] = {"arms": [{"class_path": name, "init_args": {"class": name}}]}
    expected = {"class_path": f"{module}.{name}", "init_args": {"class": name}}
    assert resolve_names(spec) == {"arms": [expected]}
    assert hasattr(sys.modules[module], name)


def test_what_is_not_a_short_name_stays() -> None:
    content = {
        "class_path": "mine.Forecaster",
        "name": "VAE",
        "n": 3,
        "nested": [None, {"class_path": "Unknown"}],
    }
    assert resolve_names(content) == content
    assert resolve_names("FreeRun") == "FreeRun"


def test_nested_in_programs_beside_main() -> None:
    content = {
        "holder": {
            "class_path": "tests.test_short_names.Holder",
            "init_args": {
                "arms": {
                    "free": "FreeRun",
                    "long": {"class_path": "vaevar.assim.interpolation.linear.LinearInterpolation"},
                    "oi": {"class_path": "OptimalInterpolation", "init_args": {"length_km": 300.0}},
                },
                "network": {"class_path": "ColumnNetwork", "init_args": {"count": 7}},
                "source": "SpeedyWorld",
            },
        }
    }
    held = instantiate([content], holder=Holder).holder
    assert [type(arm) for arm in held.arms.values()] == [FreeRun, LinearInterpolation, OptimalInterpolation]
    assert isinstance(held.network, ColumnNetwork)
    assert isinstance(held.source, SpeedyWorld)


def test_part_files_are_found_beside_the_config_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs" / "parts").mkdir(parents=True)
    (tmp_path / "configs" / "parts" / "oi.yaml").write_text(
        "class_path: OptimalInterpolation\ninit_args: {length_km: {t: 300.0, z: 500.0}}\n"
    )
    (tmp_path / "configs" / "cycle.yaml").write_text(
        "trainer: {}\n"
        "holder:\n  class_path: tests.test_short_names.Holder\n"
        "  init_args:\n    arms: {oi: parts/oi.yaml}\n"
        "    network: {class_path: ColumnNetwork, init_args: {count: 7}}\n"
    )
    monkeypatch.chdir(tmp_path)
    held = instantiate(read_contents(["configs/cycle.yaml"]), holder=Holder).holder
    assert held.arms["oi"].length_km == {"t": 300.0, "z": 500.0}


def test_a_new_file_has_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vaevar" / "assim").mkdir(parents=True)
    (tmp_path / "vaevar" / "assim" / "newcomer.py").write_text(
        "from vaevar.assim.assimilator import FreeRun\n\n\nclass Newcomer(FreeRun):\n    pass\n"
    )
    monkeypatch.setattr(short_names, "_ROOT", tmp_path / "vaevar")
    monkeypatch.setattr(
        vaevar.assim, "__path__", [*vaevar.assim.__path__, str(tmp_path / "vaevar" / "assim")]
    )
    modules_of_classes.cache_clear()
    try:
        assert resolve_names({"class_path": "Newcomer"}) == {"class_path": "vaevar.assim.newcomer.Newcomer"}
    finally:
        modules_of_classes.cache_clear()


def program(source: Source, network: Network, count: int = 3) -> None:
    """A program that is run with ``python -m``."""
    assert isinstance(source, SpeedyWorld)
    assert source.period_name == "train"
    assert isinstance(network, ColumnNetwork)


def test_options_of_programs(capsys: pytest.CaptureFixture[str]) -> None:
    network = ["--network", "ColumnNetwork", "--network.count", "5"]
    run(program, ["--source", "SpeedyWorld", "--source.period", "train", *network])
    with pytest.raises(SystemExit) as stop:
        run(program, ["--source", "SpedyWorld", *network])
    assert stop.value.code == 2
    assert (
        capsys.readouterr().err == "error: SpedyWorld: no Source has this name; did you mean SpeedyWorld?\n"
    )


@pytest.mark.parametrize(
    ("arm", "network", "line"),
    [
        ("FreRun", "ColumnNetwork", "FreRun: no Assimilator has this name; did you mean FreeRun?"),
        ("threedvar", "ColumnNetwork", "threedvar: no Assimilator has this name; did you mean ThreeDVar?"),
        (
            {"class_path": "DifDA"},
            "ColumnNetwork",
            "DifDA: no Assimilator has this name; did you mean DiffDA?",
        ),
        ("Scores", "ColumnNetwork", "Scores: no Assimilator has this name; give its full path"),
        ("FreeRun", "ColumNetwork", "ColumNetwork: no Network has this name; did you mean ColumnNetwork?"),
    ],
)
def test_a_misspelt_name_is_told_the_nearest_of_its_kind(arm: Any, network: str, line: str) -> None:
    content = {
        "class_path": "tests.test_short_names.Holder",
        "init_args": {"arms": {"one": arm}, "network": {"class_path": network, "init_args": {"count": 3}}},
    }
    with pytest.raises(ArgumentError) as raised:
        instantiate([{"holder": content}], holder=Holder)
    assert misspelt(raised.value) == line
    assert misspelt(ValueError("another mistake")) is None


def test_help_imports_no_more_than_it_needs() -> None:
    code = (
        "import sys, vaevar.cli\n"
        "try: vaevar.cli.main(['predict', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('jax', 'jcm', 'cartopy', 'onnx')\n"
        "models = {name for name in sys.modules if name.startswith('vaevar.models.')}\n"
        "networks = {name for name in models if not name.startswith('vaevar.models.training')}\n"
        "print(sorted({*networks, *(name for name in heavy if name in sys.modules)}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip().endswith("[]")


def test_asking_twice_changes_nothing() -> None:
    accept_short_names()
    accept_short_names()
    assert resolve_names({"class_path": "DiffDA"})["class_path"] == f"{DiffDA.__module__}.DiffDA"
