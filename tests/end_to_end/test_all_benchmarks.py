"""``benchmarks/all.py`` with fake programs: what it makes, runs and reports."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from vaevar.cli import main as cli

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "all.py"
CASE = {"points": [721, 1440], "precision": "32-true", "checkpoint_activations": True, "compile": False}
CASE |= {"seconds": 0.5, "samples_per_s": 2.0, "peak_gb": 3.0, "device_peak_gb": 30.0, "gflop": 647.0}
CASE |= {"of_matmul": 0.4, "of_bandwidth": 0.6}
ANALYSIS = {"method": "threedvar", "columns": 1000, "peak_gb": 2.0, "device_peak_gb": None, "j": 34_000.0}
RESULTS: dict[str, Any] = {
    "streaming": {
        "rows": [
            {"reader": reader, "cold": cold, "mb_per_s": rate}
            for reader, cold, rate in [
                ("plain files", True, 900.0), ("0 workers", True, 400.0), ("2 workers", True, 700.0),
                ("plain files", False, 5000.0), ("0 workers", False, 800.0),
            ]
        ]
    },
    "analysis_threedvar": [
        {**ANALYSIS, "plain": False, "seconds": 0.8, "busy_seconds": 0.8, "first_seconds": 2.5},
        {**ANALYSIS, "plain": True, "seconds": 4.0, "busy_seconds": 4.0, "first_seconds": 5.0},
    ],
    "training_era5_vae": {"cases": [CASE]},
    "training_quarter_degree": {"cases": [CASE]},
    "cycle": {"seconds": {"arm vaevar": 9.0}, "busy_seconds": {"arm vaevar": 3.0, "forecaster": 1.0}},
    "forecaster": {"seconds": 0.2, "busy_seconds": 0.2, "plain_busy_seconds": 0.5},
}  # fmt: skip


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module, in an empty directory."""
    spec = importlib.util.spec_from_file_location("all_benchmarks", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # for its dataclass
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    return module


def test_the_table_has_results_targets_and_failures(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []

    def pretend(title: str, command: list[Any]) -> bool:
        titles.append(title)
        if title.startswith("make "):
            Path(title.removeprefix("make ")).mkdir(parents=True)
        elif title in RESULTS:
            target = Path(command[command.index("--json_path") + 1])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(RESULTS[title]))
        return title.startswith("make ") or title in RESULTS

    monkeypatch.setattr(program, "run", pretend)
    with pytest.raises(SystemExit, match="failed: analysis_vaevar"):
        program.main(results="out")
    table = Path("out/all.md").read_text()
    assert "| threedvar, 1000 columns | 0.80 s | ≤ 1 s | 5.0 times faster" in table
    assert "| analysis_vaevar | failed |" in table
    assert "| stream of errors, cold | 700 MB/s |" in table
    assert "arm vaevar 75%, forecaster 25%" in table
    assert "2.50 times faster than through host arrays" in table
    assert "721 × 1440, 32-true, checkpoint_activations | 0.5 s |  | 2 samples/s; 30.00 GB" in table
    made = [title for title in titles if title.startswith("make ")]
    assert len(made) == 6
    # What is there is not made again, and what cannot be made ends it.
    titles.clear()
    with pytest.raises(SystemExit, match="failed"):
        program.main(results="out")
    assert not [title for title in titles if title.startswith("make ")]
    monkeypatch.setattr(program, "run", lambda *_: False)
    with pytest.raises(SystemExit, match=r"making .*era5\.zarr failed"):
        program.main(directory="elsewhere")


@pytest.mark.parametrize("quick", [False, True])
def test_its_jobs_and_its_cycle_are_configs_that_can_be_read(
    program: ModuleType, quick: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size, data = program.QUICK if quick else program.FULL, Path("made").absolute()
    program.write_configs(data, size, "cpu")
    monkeypatch.chdir(PROGRAM.parents[1])
    commands = program.preparations(data, size)
    cycle = program.measurements(data, size, "cpu", quick)["cycle"]
    configs = cycle[cycle.index("--config") + 1 :]
    predict = ["predict", *(str(word) for config in configs for word in ("--config", config))]
    jobs = [
        [str(word) for word in command[1:]]
        for command in commands.values()
        if {"fit", "predict"} & set(map(str, command))
    ]
    assert [job[0] for job in jobs] == ["fit", "predict", "fit"]
    for words in (*jobs, predict):
        with pytest.raises(SystemExit) as ended:
            cli([*words, "--print_config"])
        printed = capsys.readouterr()
        assert ended.value.code == 0, printed.err
        config = yaml.safe_load(printed.out)
        data_module = config["data"]
        reader = data_module["init_args"].get("making", data_module)  # samples are made, a cycle reads
        assert reader["init_args"]["source"]["init_args"]["path"] == str(data / "era5.zarr")
        assert "quarter_degree/" not in printed.out
