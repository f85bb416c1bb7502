"""A run goes on, is refused, or begins again, and nothing of another run is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vaevar.errors import UserError
from vaevar.runs import run as running_module
from vaevar.runs.aside import move_aside
from vaevar.runs.checkpoints import KEY
from vaevar.runs.record import attributes, how_to_repeat, read_record
from vaevar.runs.run import Run, Start, running
from vaevar.runs.settings import Settings


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "cycle"


def cycle(directory: Path, **changes: Any) -> Run:
    values = {"command": "predict", "model.arms.oi.length_km": 800.0, "data.analyses": 3}
    values |= {name.replace("__", "."): value for name, value in changes.items()}
    return Run(directory, "predict", Settings(values, {"data.analyses"}, {"model.arms."}), "name: cycle\n")


def fit(directory: Path, epochs: int = 4, checkpoints: Path | None = None, **changes: Any) -> Run:
    settings = Settings(
        {"command": "fit", "trainer.max_epochs": epochs, "model.sigma": 0.5}, {"trainer.max_epochs"}
    )
    return Run(
        directory, "fit", settings, "name: vae\n", (checkpoints or directory / "checkpoints",), **changes
    )  # fmt: skip


def write_arm(directory: Path, text: str = "state") -> None:
    (directory / "oi").mkdir(exist_ok=True)
    (directory / "oi" / "restart.pt").write_text(text)


def write_checkpoint(directory: Path, number: str | None) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    torch.save({KEY: number, "state_dict": {}}, directory / "best.ckpt")


def finish(run: Run, write: Callable[[], None] = lambda: None) -> Start:
    with running(run) as start:
        write()
    return start


def killed(run: Run, write: Callable[[], None]) -> None:
    """Do as a run that a kill ends: nothing is tidied up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running_module, "_close", lambda *args: None)
        finish(run, write)


def test_a_run_goes_on_and_its_record_says_so(directory: Path) -> None:
    run = cycle(directory)
    assert finish(run, lambda: write_arm(directory)) is Start.ANEW
    first = read_record(directory)
    assert first is not None
    assert (first["status"], first["made"]) == ("ended", ["config.yaml", "oi", "provenance.json"])
    assert finish(cycle(directory, data__analyses=5)) is Start.GOING_ON
    second = read_record(directory)
    assert second is not None
    assert second["run"] == first["run"]
    assert second["settings"]["data.analyses"] == 5
    assert [command["began"] for command in second["earlier_commands"]] == [first["began"]]
    assert not (directory / ".lock").exists()


@pytest.mark.parametrize("ended", [True, False])
def test_other_settings_are_refused_and_nothing_changes(directory: Path, ended: bool) -> None:
    (finish if ended else killed)(cycle(directory), lambda: write_arm(directory))
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    other = cycle(directory, model__arms__oi__length_km=900.0)
    with pytest.raises(UserError, match=r"oi\.length_km: 800\.0 there, 900\.0 now; choose another `--name`"):
        finish(other)
    assert before == {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_another_command_in_the_same_directory_is_refused(directory: Path) -> None:
    finish(fit(directory), lambda: write_checkpoint(directory / "checkpoints", None))
    with pytest.raises(UserError, match="holds a fit, this is a predict; choose another"):
        finish(cycle(directory))


@pytest.mark.parametrize("error", [UserError("no such weights"), KeyboardInterrupt(), RuntimeError("a bug")])
def test_a_first_try_without_a_result_leaves_nothing(directory: Path, error: BaseException) -> None:
    def fail() -> None:
        (directory / "events.out.tfevents.1").touch()
        raise error

    with pytest.raises(type(error)):
        finish(cycle(directory), fail)
    assert not directory.exists()


def test_a_first_try_keeps_the_users_files(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "notes.txt").write_text("mine")

    def fail() -> None:
        raise UserError("no such weights")

    with pytest.raises(UserError):
        finish(cycle(directory), fail)
    assert [path.name for path in directory.iterdir()] == ["notes.txt"]


def test_a_first_try_that_was_killed_does_not_block_the_next(directory: Path) -> None:
    killed(cycle(directory), lambda: None)
    assert finish(cycle(directory, model__arms__oi__length_km=900.0)) is Start.ANEW


def test_a_run_that_failed_after_a_result_goes_on(directory: Path) -> None:
    def fail() -> None:
        write_arm(directory)
        raise UserError("the disk is full")

    with pytest.raises(UserError):
        finish(cycle(directory), fail)
    assert (read_record(directory) or {})["status"] == "begun"
    assert finish(cycle(directory)) is Start.GOING_ON


def test_a_restart_moves_what_the_run_made_aside_and_nothing_else(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write() -> None:
        write_arm(directory)
        for name in ("scores.csv", "figure.png", "events.out.tfevents.1"):
            (directory / name).write_text(name)

    finish(cycle(directory), write)
    (directory / "notes.txt").write_text("mine")
    (directory / "another" / "oi").mkdir(parents=True)
    (directory / "another" / "provenance.json").write_text("{}")
    (directory / "another" / "scores.csv").write_text("of another run")
    other = replace(cycle(directory, model__arms__oi__length_km=900.0), restart=True)
    assert finish(other, lambda: write_arm(directory, "new")) is Start.ANEW
    (old,) = (directory / ".old").iterdir()
    assert sorted(path.name for path in old.iterdir()) == [
        "config.yaml", "events.out.tfevents.1", "figure.png", "oi", "provenance.json", "scores.csv",
    ]  # fmt: skip
    assert (old / "oi" / "restart.pt").read_text() == "state"
    assert json.loads((old / "provenance.json").read_text())["settings"]["model.arms.oi.length_km"] == 800.0
    assert sorted(path.name for path in directory.iterdir()) == [
        ".old", "another", "config.yaml", "notes.txt", "oi", "provenance.json",
    ]  # fmt: skip
    assert f"{directory}: what was there is now in {old}" in capsys.readouterr().out


def test_a_restart_follows_a_link_to_the_run(directory: Path, tmp_path: Path) -> None:
    target = tmp_path / "scratch"
    target.mkdir()
    directory.parent.mkdir()
    directory.symlink_to(target)
    finish(cycle(directory), lambda: write_arm(directory))
    finish(replace(cycle(directory), restart=True), lambda: write_arm(directory, "new"))
    assert directory.is_symlink()
    assert (target / "oi" / "restart.pt").read_text() == "new"
    assert [path.read_text() for path in target.glob(".old/*/oi/restart.pt")] == ["state"]


def test_moving_aside_that_was_interrupted_is_finished_first(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> None:
        write_arm(directory)
        (directory / "scores.csv").touch()

    finish(cycle(directory), write)

    def only_one(path: Path, names: list[str], place: Path) -> None:
        move_aside(path, names[:2], place)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running_module, "move_aside", only_one)
        with pytest.raises(KeyboardInterrupt):
            finish(replace(cycle(directory), restart=True))
    assert (directory / "scores.csv").exists()
    # Also a command that does not say --restart finishes it: half a run is no run.
    assert finish(cycle(directory, model__arms__oi__length_km=900.0)) is Start.ANEW
    (old,) = (directory / ".old").iterdir()
    assert {"oi", "scores.csv", "provenance.json"} <= {path.name for path in old.iterdir()}
    assert not (directory / "scores.csv").exists()


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "\x00\x01", '{"settings": {"command": "predict"}, "ma',
        '{"settings": []}', '{"settings": {"command": 3}}',
        '{"settings": {"command": "predict", "data.path": {}}}',
        '{"made": "oi"}', '{"made": [3]}', '{"run": 5}', '{"status": ["ended"]}', '{"earlier_commands": {}}',
        '{"status": "moved aside"}', '{"made": ["../other"]}',
        '{"status": "moved aside", "aside": "../..", "moving": ["oi"]}',
        '{"status": "moved aside", "aside": "old", "moving": ["../../../other"]}',
    ],
)  # fmt: skip
def test_a_damaged_record_is_no_obstacle_without_results_and_one_line_with_them(
    directory: Path, content: str
) -> None:
    directory.mkdir(parents=True)
    (directory / "provenance.json").write_text(content)
    assert finish(cycle(directory)) is Start.ANEW
    write_arm(directory)
    (directory / "provenance.json").write_text(content)
    with pytest.raises(UserError, match=r"provenance\.json: damaged.*--restart"):
        finish(cycle(directory))
    assert finish(replace(cycle(directory), restart=True)) is Start.ANEW
    assert [path.read_text() for path in directory.glob(".old/*/oi/restart.pt")] == ["state"]


@pytest.mark.parametrize(
    ("record", "told"), [(None, "no provenance.json says"), ('{"experiment": "a1b2"}', "an earlier version")]
)
def test_a_run_of_an_earlier_version_is_told(directory: Path, record: str | None, told: str) -> None:
    directory.mkdir(parents=True)
    write_arm(directory)
    if record is not None:
        (directory / "provenance.json").write_text(record)
    with pytest.raises(UserError, match=told):
        finish(cycle(directory))


def test_a_fit_that_has_ended_is_over_unless_it_is_longer(directory: Path) -> None:
    def write() -> None:
        write_checkpoint(directory / "checkpoints", None)

    finish(fit(directory), write)
    record = (directory / "provenance.json").read_bytes()
    assert finish(fit(directory)) is Start.OVER
    assert (directory / "provenance.json").read_bytes() == record
    assert finish(fit(directory, epochs=1)) is Start.OVER
    assert finish(fit(directory, epochs=6)) is Start.GOING_ON
    assert finish(fit(directory, epochs=1, from_checkpoint=True)) is Start.GOING_ON


def test_a_fit_whose_result_is_gone_is_not_over(directory: Path, tmp_path: Path) -> None:
    run = fit(directory)
    run.settings.outputs["model.path"] = tmp_path / "covariance.nc"

    def write() -> None:
        write_checkpoint(directory / "checkpoints", None)
        (tmp_path / "covariance.nc").touch()

    finish(run, write)
    assert finish(run) is Start.OVER
    (tmp_path / "covariance.nc").unlink()
    assert finish(run) is Start.GOING_ON


def test_checkpoints_in_a_place_of_their_own_belong_to_the_run_that_wrote_them(
    directory: Path, tmp_path: Path
) -> None:
    shared = tmp_path / "checkpoints"
    run = fit(directory, checkpoints=shared)

    def write() -> None:
        write_checkpoint(shared, (read_record(directory) or {})["run"])

    killed(run, write)
    assert finish(run) is Start.GOING_ON
    with pytest.raises(UserError, match=r"checkpoints of another run \(best\.ckpt\)"):
        finish(fit(tmp_path / "runs" / "other", checkpoints=shared))
    assert not (tmp_path / "runs" / "other").exists()
    # A restart takes its own along, and leaves those of others where they are.
    torch.save({"state_dict": {}}, shared / "users.ckpt")
    finish(fit(directory, checkpoints=shared, restart=True))
    assert [path.name for path in shared.glob("*.ckpt")] == ["users.ckpt"]
    assert [path.name for path in shared.glob(".old/*/*.ckpt")] == ["best.ckpt"]


def test_what_keeps_its_results_elsewhere_may_have_other_settings(directory: Path) -> None:
    making = Run(directory, "predict", Settings({"command": "predict", "data.path": "one.zarr"}), "")
    finish(making, lambda: (directory / "events.out.tfevents.1").touch())
    assert (
        finish(replace(making, settings=Settings({"command": "predict", "data.path": "two.zarr"})))
        is Start.ANEW
    )


def test_validation_leaves_the_record_of_a_fit_alone(directory: Path) -> None:
    finish(fit(directory), lambda: write_checkpoint(directory / "checkpoints", None))
    record = (directory / "provenance.json").read_bytes()
    validation = Run(directory, "validate", Settings({"command": "validate"}), "")
    finish(validation)
    assert (directory / "provenance.json").read_bytes() == record
    other = replace(validation, directory=directory.with_name("validated"))
    finish(other)
    assert finish(fit(other.directory)) is Start.ANEW


def test_other_processes_of_the_run_share_its_lock(directory: Path) -> None:
    with running(cycle(directory)) as first, running(cycle(directory), first_process=False) as second:
        assert first is second is Start.ANEW
        with pytest.raises(UserError, match="has been writing into this run"):
            finish(cycle(directory))


def test_a_file_in_the_place_of_the_directory_is_told(directory: Path) -> None:
    directory.parent.mkdir()
    directory.touch()
    with pytest.raises(UserError, match="is a file"):
        finish(cycle(directory))


def test_results_say_where_they_come_from(directory: Path) -> None:
    assert attributes(directory) == {}
    assert how_to_repeat(directory) == ""
    finish(cycle(directory), lambda: write_arm(directory))
    record = read_record(directory) or {}
    origin = attributes(directory)
    assert (origin["run"], origin["commit"]) == (record["run"], record["commit"])
    assert f"predict --config {directory}/config.yaml" in how_to_repeat(directory)
    assert record["commit"] in how_to_repeat(directory)


def test_a_fit_that_ran_out_of_time_goes_on(directory: Path) -> None:
    with running(fit(directory), complete=lambda: False):
        write_checkpoint(directory / "checkpoints", None)
    assert finish(fit(directory)) is Start.GOING_ON
    assert finish(fit(directory)) is Start.OVER


def test_the_table_of_an_earlier_command_is_kept_from_a_logger_that_deletes_it(directory: Path) -> None:
    for text in ("first", "second", "third"):
        finish(
            cycle(directory),
            lambda text=text: (write_arm(directory), (directory / "metrics.csv").write_text(text)),
        )
    kept = {path.name: path.read_text() for path in directory.glob("metrics*.csv")}
    assert kept == {"metrics.1.csv": "first", "metrics.2.csv": "second", "metrics.csv": "third"}
