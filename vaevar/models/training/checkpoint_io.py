"""Checkpoints of fits on the disk: written whole or not at all, and checked before a fit goes on from one."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.cloud_io import _is_local_file_protocol

from vaevar.content.kinds import what_holds, what_is
from vaevar.content.seal import sealed
from vaevar.content.tensors import read_tensors
from vaevar.errors import UserError, first_line
from vaevar.files import replacing

# What a fit needs to go on, besides weights.
_STATE_OF_A_FIT = ("loops", "optimizer_states", "lr_schedulers")


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there.

    Lightning writes to the temporary directory first. Where that is another file system, the move is a copy
    over the checkpoint before.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; it is on the disk when it appears."""
        if not _is_local_file_protocol(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with replacing(Path(path)) as partial, partial.open("wb") as file:
            torch.save(sealed(checkpoint), file)
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            UserError: when it is damaged; names the best of those beside it.
        """
        if _is_local_file_protocol(path):
            check_checkpoint(path)
        return super().load_checkpoint(path, map_location, weights_only is not False)


def latest(directory: Path, without: Collection[Path] = ()) -> Path | None:
    """The checkpoint of a fit that has most steps among those in a directory; None if there is none.

    Damaged ones are left out, with a line for each.

    Args:
        directory: of checkpoints.
        without: those that do not count.
    """
    return _latest(directory, tell=True, without=without)


def trained(checkpoint: Path) -> tuple[int, int]:
    """The number of the epoch, from 1, and of the step to which a fit has come in one of its checkpoints."""
    content = read_tensors(checkpoint, mmap=True, whole=False)
    epoch = content["loops"]["fit_loop"]["epoch_progress"]["current"]["started"]
    return int(epoch), int(content.get("global_step", 0))


def chosen(asked: str | None, directories: Sequence[Path], without: Collection[Path] = ()) -> str | None:
    """The checkpoint that ``--ckpt_path`` asks for; ``last`` is the one that has most steps.

    Args:
        asked: a path, or a name that Lightning knows.
        directories: of the run's checkpoints.
        without: those in them that are not the run's.

    Raises:
        UserError: when ``last`` is asked for and there is none, where Lightning would begin without one; and
            when ``last.ckpt`` is damaged, as an earlier one is not what was asked for.
    """
    if asked != "last":
        return asked
    for place in directories:
        if (place / "last.ckpt").is_file():
            check_checkpoint(place / "last.ckpt")
    found = [path for place in directories if (path := latest(place, without))]
    if not found:
        places = " or ".join(map(str, directories)) or "the run's directory"
        raise UserError(f"--ckpt_path last: no checkpoint of a fit lies in {places}; give the path of one")
    return str(max(found, key=trained))


def steps_back(checkpoint: str | Path, directories: Sequence[Path]) -> str:
    """What is said of a fit that goes on from an earlier checkpoint than its last one; else empty.

    Args:
        checkpoint: that it goes on from.
        directories: of the run's checkpoints.
    """
    there = max(
        (trained(path)[1] for place in directories if (path := _latest(place, tell=False))), default=0
    )
    begins = trained(Path(checkpoint))[1]
    if begins >= there:
        return ""
    return (
        f"{checkpoint}: the fit goes back from step {there} to step {begins}; checkpoints and scores of the "
        "steps between are made again, and checkpoints of the same name are written over"
    )


def check_checkpoint(path: str | Path, of_a_fit: bool = False) -> None:
    """Read a checkpoint to its last byte.

    Args:
        path: the file.
        of_a_fit: a fit will go on from it, which takes more than weights.

    Raises:
        UserError: when it is missing, damaged or no checkpoint; names the best of those beside it.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a directory, expected a checkpoint{_others(path / 'any')}")
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint{_others(path)}")
    content = _read(path)
    if isinstance(content, str):
        raise UserError(f"{path}: {content}{_others(path)}")
    if of_a_fit and not _goes_on(content):
        raise UserError(
            f"{path}: is {what_holds(content)}, and holds no state of a fit to resume; give one of the fit's "
            "`checkpoints/`, or begin from these weights where the model has `start_from`"
        )


def _others(path: Path) -> str:
    other = _latest(path.parent, tell=False)
    return f"; the best that is left beside it: `--ckpt_path {other}`" if other else ""


def _latest(directory: Path, tell: bool, without: Collection[Path] = ()) -> Path | None:
    found = []
    for path in sorted(set(directory.glob("*.ckpt")).difference(without)):
        content = _read(path)
        if isinstance(content, dict) and _goes_on(content):
            found.append((int(content.get("global_step", 0)), path.stat().st_mtime_ns, path))
        elif isinstance(content, str) and tell:
            print(f"{path}: left out, {content}")
    return max(found)[2] if found else None


def _goes_on(content: dict[str, Any]) -> bool:
    return all(key in content for key in _STATE_OF_A_FIT)


def _read(path: Path) -> dict[str, Any] | str:
    """The content of a checkpoint, its tensors on the disk; or what is wrong with the file."""
    try:
        content = read_tensors(path, mmap=True)
    except Exception as error:  # what is cut or overwritten raises errors of many kinds
        reason = first_line(error)
        return f"damaged, or not a checkpoint of a fit but {what_is(path)} ({reason})"
    if not isinstance(content, dict) or "state_dict" not in content:
        return f"not a checkpoint of a fit but {what_holds(content)}"
    return content
