"""What is replaced is kept."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from vaevar.errors import UserError
from vaevar.runs.aside import keeping, move_aside, place_aside


def test_entries_move_and_others_stay(tmp_path: Path) -> None:
    for name in ("arm/restart.pt", "scores.csv", "notes.txt", ".nfs0001"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    place = place_aside(tmp_path)
    move_aside(tmp_path, ["arm", "scores.csv", "nothing", ".nfs0001"], place)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".nfs0001", ".old", "notes.txt"]
    assert (place / "arm" / "restart.pt").read_text() == "arm/restart.pt"
    assert place_aside(tmp_path) != place


def test_a_link_is_followed_from_its_new_place(tmp_path: Path) -> None:
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "runs" / "cycle"
    elsewhere.mkdir()
    run.mkdir(parents=True)
    (elsewhere / "restart.pt").write_text("state")
    (run / "arm").symlink_to(Path("../../elsewhere"))
    place = place_aside(run)
    move_aside(run, ["arm"], place)
    assert (place / "arm" / "restart.pt").read_text() == "state"
    assert not (run / "arm").exists()
    assert (elsewhere / "restart.pt").is_file()


def test_what_is_in_a_mount_point_moves_and_open_files_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "arm" / "deep").mkdir(parents=True)
    for name in ("restart.pt", "deep/analysis", ".nfs0001"):
        (tmp_path / "arm" / name).write_text(name)
    real = os.rename

    def rename(source: Any, target: Any) -> None:
        if Path(source).name == "arm":
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    place = place_aside(tmp_path)
    move_aside(tmp_path, ["arm"], place)
    assert sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()) == [
        "arm/deep/analysis",
        "arm/restart.pt",
    ]
    assert [path.name for path in (tmp_path / "arm").iterdir()] == [".nfs0001"]


def test_what_cannot_be_moved_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scores.csv").touch()

    def rename(source: Any, target: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(UserError, match=r"scores\.csv: cannot be moved .*Permission denied"):
        move_aside(tmp_path, ["scores.csv"], place_aside(tmp_path))


def test_replaced_weights_stay_beside_the_new_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, new = tmp_path / "vae.ckpt", tmp_path / "mean.npy"
    path.write_text("first")
    with keeping(path, new):
        path.unlink()
        path.write_text("second")
        new.write_text("mean")
    (kept,) = tmp_path.glob("vae.*.ckpt")
    assert kept.read_text() == "first"
    assert len(kept.name) == len("vae.12345678.ckpt")
    assert f"{path}: replaced; what it was before is kept as {kept}" in capsys.readouterr().out
    assert not list(tmp_path.glob("mean.*.npy"))


def test_what_stays_as_it_was_is_not_kept_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vae.ckpt"
    path.write_text("first")
    with keeping(path):
        path.unlink()
        path.write_text("first")
    with pytest.raises(RuntimeError), keeping(path):
        raise RuntimeError
    assert [found.name for found in tmp_path.iterdir()] == ["vae.ckpt"]
    assert not capsys.readouterr().out


def test_a_link_to_weights_keeps_what_it_led_to(tmp_path: Path) -> None:
    target, path = tmp_path / "kept" / "vae.ckpt", tmp_path / "vae.ckpt"
    target.parent.mkdir()
    target.write_text("first")
    path.symlink_to(target)
    with keeping(path):
        other = tmp_path / "new"
        other.write_text("second")
        os.replace(other, target)
    (kept,) = tmp_path.glob("vae.*.ckpt")
    assert kept.read_text() == "first"
    assert not kept.is_symlink()
