"""Commands that do nothing: an error, or, where all is there already, files that stay as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.commands import FREE_AND_OI, predict, refused
from tests.end_to_end.test_bad_inputs import entries
from vaevar.cli import main


@pytest.fixture
def cycle(configs: dict[str, Path]) -> Path:
    content = yaml.safe_load(configs["predict"].read_text(encoding="utf-8"))
    content["model"]["init_args"]["arms"] = FREE_AND_OI
    content["data"]["init_args"]["analyses"] = 2
    configs["predict"].write_text(yaml.safe_dump(content), encoding="utf-8")
    return configs["predict"]


def test_an_ended_cycle_given_again_stays_as_it_was(cycle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict(cycle)
    run = Path("runs/cycle")
    before = {name: (run / name).read_bytes() for name in ("provenance.json", "config.yaml", "scores.csv")}
    predict(cycle, "--trainer.enable_progress_bar", "false")
    assert "nothing was computed" in capsys.readouterr().out
    assert {name: (run / name).read_bytes() for name in before} == before
    predict(cycle, "--data.init_args.analyses", "3")
    assert (run / "provenance.json").read_bytes() != before["provenance.json"]


def test_a_cycle_of_which_no_time_has_a_truth(cycle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store that lacks them all has nothing to skip to."""
    line = refused(
        cycle, capsys, "--data.init_args.start", "2021-01-16T03", "--data.init_args.lead_hours", "6"
    )
    assert "2021-01-16T03" in line or "2021-01-15T" in line


def test_an_arm_of_which_no_analysis_succeeds_has_stopped_however_short_the_cycle(
    cycle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(cycle.read_text(encoding="utf-8"))
    warming: dict[str, Any] = {
        "class_path": "tests.end_to_end.faulty.Warming",
        "init_args": {"what": "cost", "at": 0},
    }
    content["model"]["init_args"]["arms"]["oi"] = warming
    cycle.write_text(yaml.safe_dump(content), encoding="utf-8")
    line = refused(cycle, capsys)
    assert "1 of 2 arms had to stop: oi at " in line
    assert "2 analyses in a row failed" in line


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--trainer.limit_train_batches", "0"], "trainer.limit_train_batches is 0"),
        (["--trainer.max_epochs", "0"], "trainer.max_epochs is 0"),
        (["--trainer.max_steps", "0"], "trainer.max_steps is 0"),
    ],
)
def test_a_fit_without_a_batch(
    words: list[str], cause: str, configs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(configs["fit"]), *words])
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert f"this fit has trained nothing: {cause}" in line
    assert not [name for name in entries(Path("runs")) if name.endswith(".ckpt")]
