"""Checkpoints that were damaged, and what is left beside them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vaevar.errors import UserError
from vaevar.models.training.checkpoint_io import WholeCheckpoints, check_checkpoint, latest


def content(step: int) -> dict[str, Any]:
    weights = torch.full((20_000,), float(step))
    return {
        "global_step": step, "state_dict": {"weight": weights}, "loops": {}, "optimizer_states": [],
        "lr_schedulers": [],
    }  # fmt: skip


def write(path: Path, step: int) -> Path:
    WholeCheckpoints().save_checkpoint(content(step), path)
    return path


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def zero_a_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(4096))


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def text(path: Path) -> None:
    path.write_text("not a checkpoint")


def another_thing(path: Path) -> None:
    torch.save([1, 2], path)


def other_keys(path: Path) -> None:
    torch.save({"weights": torch.ones(3)}, path)


DAMAGES = [cut, empty, zero_a_page, flip_a_bit, text, another_thing, other_keys]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told_with_the_best_that_is_left(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    last, best = write(tmp_path / "last.ckpt", 30), write(tmp_path / "best.ckpt", 20)
    write(tmp_path / "epoch=1.ckpt", 10)
    check_checkpoint(last, of_a_fit=True)
    damage(last)
    for read in (check_checkpoint, WholeCheckpoints().load_checkpoint):
        with pytest.raises(UserError, match=r"^\S*last\.ckpt: .*not a|^\S*last\.ckpt: damaged") as told:
            read(last)
        assert f"--ckpt_path {best}" in str(told.value)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_latest_is_a_whole_one(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert latest(tmp_path / "missing") is None
    last, stopped = write(tmp_path / "last.ckpt", 30), write(tmp_path / "stopped.ckpt", 25)
    os.utime(last, (0, 0))  # a copy may have any time
    assert latest(tmp_path) == last
    assert capsys.readouterr().out == ""
    damage(last)
    assert latest(tmp_path) == stopped
    assert capsys.readouterr().out.startswith(f"{last}: left out, ")
    stopped.unlink()
    assert latest(tmp_path) is None


def test_weights_alone_are_no_fit(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "weights.ckpt")
    check_checkpoint(tmp_path / "weights.ckpt")
    with pytest.raises(UserError, match="no state of a fit"):
        check_checkpoint(tmp_path / "weights.ckpt", of_a_fit=True)
    assert latest(tmp_path) is None


def test_the_one_before_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "last.ckpt", 1)
    elsewhere = tmp_path / "temporary"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    seen = []

    def half(written: Any, file: Any) -> None:
        file.write(b"half")
        file.flush()
        seen.extend(p.name for p in tmp_path.iterdir() if p.is_file())
        check_checkpoint(path)
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="no space"):
        write(path, 2)
    assert len(seen) == 2
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["last.ckpt"]
    assert not list(elsewhere.iterdir())
    assert torch.load(path, weights_only=True)["global_step"] == 1


def test_addresses_are_left_to_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    io = WholeCheckpoints()
    io.save_checkpoint(content(3), "memory://checkpoints/last.ckpt")
    assert io.load_checkpoint("memory://checkpoints/last.ckpt")["global_step"] == 3
