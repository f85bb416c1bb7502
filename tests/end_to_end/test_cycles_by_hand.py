"""A trainer by hand in the directory of a command, and the other way round: never the other's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import yaml

from tests.device import DEVICE
from tests.end_to_end.commands import FREE_AND_OI, predict, refused
from vaevar.assim.cycle.cycle import Cycle
from vaevar.assim.cycle.module import AssimilationModule
from vaevar.assim.cycle.writer import StateWriter
from vaevar.data.analysis_times import AnalysisTimes
from vaevar.errors import UserError
from vaevar.scripts import instantiate, read_contents
from vaevar.verification.scores import Scores

DIRECTORY = Path("runs/cycle")


@pytest.fixture
def config(configs: dict[str, Path]) -> Path:
    content = yaml.safe_load(configs["predict"].read_text())
    content["model"]["init_args"]["arms"] = FREE_AND_OI
    configs["predict"].write_text(yaml.safe_dump(content))
    return configs["predict"]


def by_hand(config: Path, callbacks: list[L.Callback], **changes: Any) -> None:
    """The same objects in a trainer of one's own."""
    (content,) = read_contents([config])
    content["data"]["init_args"] |= changes
    made = instantiate([content], model=AssimilationModule, data=AnalysisTimes)
    trainer = L.Trainer(
        accelerator=DEVICE, logger=False, inference_mode=False, default_root_dir=DIRECTORY,
        callbacks=callbacks, enable_progress_bar=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.predict(made.model, datamodule=made.data, return_predictions=False)


def files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(DIRECTORY.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("changes", [{}, {"analyses": 6}, {"seed": 3}], ids=["same", "longer", "another"])
@pytest.mark.parametrize("first", [True, False], ids=["Cycle first", "Cycle last"])
def test_by_hand_in_the_directory_of_a_command(config: Path, changes: dict[str, Any], first: bool) -> None:
    predict(config, "--data.init_args.analyses", "2")
    before = files()
    callbacks = [StateWriter(), Scores()]
    callbacks.insert(0 if first else 2, Cycle())
    said = r"runs/cycle holds a predict of the command line, this is a cycle from Python; choose another dir"
    with pytest.raises(UserError, match=said):
        by_hand(config, callbacks, **changes)
    assert files() == before
    predict(config)  # which still goes on


def test_by_hand_anew_in_the_directory_of_a_command(config: Path) -> None:
    predict(config, "--data.init_args.analyses", "2")
    before = (DIRECTORY / "scores.csv").read_bytes()
    by_hand(config, [Cycle(resume=False), Scores()], seed=3)
    (old,) = (DIRECTORY / ".old").iterdir()
    assert (old / "scores.csv").read_bytes() == before != (DIRECTORY / "scores.csv").read_bytes()


def test_a_command_in_the_directory_of_a_cycle_by_hand(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand(config, [Scores(), StateWriter(), Cycle()], analyses=2)
    before = files()
    for words in ((), ("--data.init_args.seed", "3")):
        line = refused(config, capsys, *words)
        assert (
            "holds a cycle from Python, this is a predict of the command line; choose another `--name`"
            in line
        )
        assert files() == before
    by_hand(config, [Scores(), StateWriter(), Cycle()], analyses=3)  # which still goes on
    with pytest.raises(UserError, match=r"data\.seed: 0 there, 3 now"):
        by_hand(config, [Scores(), StateWriter(), Cycle()], analyses=4, seed=3)
    predict(config, "--restart")
    assert len(list((DIRECTORY / ".old").iterdir())) == 1
