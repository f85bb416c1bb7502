"""A command that is given again: for less, after a mistake, or where checkpoints are gone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.runs.test_run import cycle, finish, fit, killed, write_arm, write_checkpoint
from vaevar.assim.cycle.restart import EARLIER, LATEST, analyses_made
from vaevar.errors import UserError
from vaevar.runs.checkpoints import KEY, is_own
from vaevar.runs.record import read_record
from vaevar.runs.run import Run, Start
from vaevar.runs.settings import Settings


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "cycle"


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_what_is_there_already_is_left_as_it_is(directory: Path) -> None:
    finish(cycle(directory), lambda: write_arm(directory))
    before = contents(directory)
    shorter = cycle(directory, data__analyses=2)
    assert finish(replace(shorter, already=lambda: "has 3")) is Start.OVER
    assert contents(directory) == before
    # Where a longer one was killed, a shorter one may have work to do.
    assert finish(shorter) is Start.GOING_ON
    assert (read_record(directory) or {})["settings"]["data.analyses"] == 2


def test_a_mistake_leaves_the_record_and_the_config_as_they_were(directory: Path) -> None:
    def refuse() -> None:
        raise UserError("the store is too short")

    finish(cycle(directory), lambda: write_arm(directory))
    before = contents(directory)
    wrong = cycle(directory, data__analyses=100, model__arms__new__length_km=-1.0)
    with pytest.raises(UserError, match="too short"):
        finish(replace(wrong, config="name: wrong\n"), refuse)
    assert contents(directory) == before
    assert finish(cycle(directory, data__analyses=6, model__arms__new__length_km=1.0)) is Start.GOING_ON


def test_what_was_done_before_an_error_is_kept_in_the_record(directory: Path) -> None:
    def fail() -> None:
        (directory / "oi" / "restart.before.pt").write_text("state")
        raise UserError("the disk is full")

    finish(cycle(directory), lambda: write_arm(directory))
    with pytest.raises(UserError, match="full"):
        finish(cycle(directory, data__analyses=6), fail)
    record = read_record(directory) or {}
    assert (record["status"], record["settings"]["data.analyses"]) == ("begun", 6)


@pytest.mark.parametrize("ended", [True, False])
def test_a_fit_whose_checkpoints_are_gone_says_so(
    ended: bool, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = directory / "checkpoints"
    (finish if ended else killed)(fit(directory), lambda: write_checkpoint(checkpoints, None))
    assert "no checkpoint" not in capsys.readouterr().out
    (checkpoints / "best.ckpt").unlink()
    assert finish(fit(directory), lambda: write_checkpoint(checkpoints, None)) is not Start.OVER
    assert "no checkpoint is left of what was trained here; the fit begins again" in capsys.readouterr().out
    assert finish(fit(directory)) is Start.OVER
    shutil.rmtree(checkpoints)
    assert finish(fit(directory)) is Start.GOING_ON


def test_a_fit_that_never_keeps_checkpoints_is_over(directory: Path) -> None:
    finish(fit(directory), lambda: (directory / "metrics.csv").touch())
    assert finish(fit(directory)) is Start.OVER


def test_a_fit_that_began_from_a_checkpoint_goes_on_with_its_own(directory: Path) -> None:
    def given(digest: str | None) -> Run:
        run = fit(directory)
        origin = {"ckpt_path": {"file": "best.ckpt", "sha256": digest}} if digest else {}
        return replace(run, settings=Settings(run.settings.values | origin))

    killed(given("one"), lambda: write_checkpoint(directory / "checkpoints", None))
    for _ in range(2):
        assert given("one").start() is given(None).start() is Start.GOING_ON
        killed(given(None), lambda: None)
    with pytest.raises(UserError, match=r"began from best\.ckpt .* now --ckpt_path is .*`--restart`"):
        finish(given("two"))


def test_a_checkpoint_is_known_as_the_runs_own(directory: Path, tmp_path: Path) -> None:
    finish(fit(directory), lambda: write_checkpoint(directory / "checkpoints", None))
    assert is_own(directory / "checkpoints" / "best.ckpt", directory)
    foreign = tmp_path / "best.ckpt"
    for number, own in ((None, False), ("another", False), ((read_record(directory) or {})["run"], True)):
        torch.save({KEY: number, "state_dict": {}}, foreign)
        assert is_own(foreign, directory) is own
    (directory / "provenance.json").write_text("{")
    assert not is_own(foreign, directory)


def test_the_analyses_of_an_arm_are_counted_from_what_can_be_read(tmp_path: Path) -> None:
    assert analyses_made(tmp_path) == 0
    torch.save({"next_index": 5}, tmp_path / LATEST)
    torch.save({"next_index": 3}, tmp_path / EARLIER)
    assert analyses_made(tmp_path) == 5
    (tmp_path / LATEST).write_text("damaged")
    assert analyses_made(tmp_path) == 3
